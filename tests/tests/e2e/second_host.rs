//! Another host joins, by the steps of the README; it has a network of its own.

use std::time::Duration;

use serde_json::json;

use crate::another_agent::Installed;
use crate::lab::{lab, run, until};

const NAME: &str = "host02";
const ADDRESS: &str = "10.77.0.2";

fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

#[test]
fn a_second_host_joins_with_certificates_of_its_own_and_under_no_other_name() {
    let Some(lab) = lab("a second host") else { return };
    let _peace = lab.peace();
    let installed = Installed::new(lab, NAME, ADDRESS, |config| config);
    ip("netns add host02");
    ip("link add to-host02 type veth peer name eth0 netns host02");
    ip("addr add 10.77.0.1/24 dev to-host02");
    ip("link set to-host02 up");
    ip("-n host02 addr add 10.77.0.2/24 dev eth0");
    ip("-n host02 link set eth0 up");
    ip("-n host02 link set lo up");
    let _agent = installed.start(&["ip", "netns", "exec", NAME]);
    let url = installed.url();
    let join = |name: &str| lab.api.post("/v1/hosts", &json!({"name": name, "url": url}));
    until("the host joins", Duration::from_secs(30), || match join(NAME) {
        (201, _) => Ok(()),
        (status, answer) => Err(format!("{status} {answer}")),
    });
    let (status, answer) = join("host03");
    assert_eq!((status, &answer["code"]), (503, &json!("host_unreachable")), "{answer}");
    until("it is followed", Duration::from_secs(20), || {
        let (_, host) = lab.api.get("/v1/hosts/host02");
        if host["state"] == "reachable" { Ok(()) } else { Err(host.to_string()) }
    });
    // libvirt's test driver has one guest; both hosts are in one list.
    let (_, all) = lab.api.get("/v1/vms");
    let of = |host: &str| all.as_array().unwrap().iter().filter(|vm| vm["host"] == host).count();
    assert_eq!(of(NAME), 1, "{all}");
    // The wire is cut: the host is away, its guest is not forgotten, the other host goes on.
    ip("link set to-host02 down");
    until("it is missed", Duration::from_secs(40), || {
        let (_, host) = lab.api.get("/v1/hosts/host02");
        if host["state"] == "unreachable" { Ok(()) } else { Err(host.to_string()) }
    });
    assert_eq!(lab.api.get("/v1/hosts/host02/vms").1.as_array().unwrap().len(), 1);
    assert_eq!(lab.api.get("/v1/hosts/host01").1["state"], "reachable");
    assert_eq!(lab.api.call(&lab.api.token, "DELETE", "/v1/hosts/host02", None).0, 204);
    ip("link del to-host02");
}
