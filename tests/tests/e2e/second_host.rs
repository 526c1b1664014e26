//! Another host joins, by the steps of the README; it has a network of its own.

use std::process::{Child, Command};
use std::time::Duration;

use serde_json::json;

use crate::lab::{lab, run, tool_ok, until};

const NAME: &str = "host02";
const ADDRESS: &str = "10.77.0.2";

/// An agent that ends with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

#[test]
fn a_second_host_joins_with_certificates_of_its_own_and_under_no_other_name() {
    let Some(lab) = lab("a second host") else { return };
    let _peace = lab.peace();
    let programs = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debug");
    let root = lab.run.join("host02-root");
    let certificates = lab.run.join("host02-pki");
    fs_err::create_dir_all(&root).unwrap();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (pki, out) = (text(&lab.state.join("pki")), text(&certificates));
    run(&format!("{programs}/vmmctl"), &["pki", "host", NAME, "--dir", &pki, "--out", &out]);
    tool_ok(
        "install-host",
        &[
            NAME,
            "--certificates",
            &out,
            "--listen",
            ADDRESS,
            "--programs",
            programs,
            "--root",
            &text(&root),
        ],
    );
    // systemd would give the credentials and the folders.
    let config = fs_err::read_to_string(root.join("etc/vmmgr/agent.toml")).unwrap();
    assert!(config.contains("host = \"host02\""), "{config}");
    let config = config
        .replace("/var/", &format!("{}/var/", root.display()))
        .replace("/run/credentials/vmmgr-host-agent.service", &out)
        .replace("path = \"/storage\"", &format!("path = \"{}/storage\"", root.display()))
        .replace("qemu:///system", "test:///default");
    let path = root.join("agent.toml");
    fs_err::write(&path, config).unwrap();
    ip("netns add host02");
    ip("link add to-host02 type veth peer name eth0 netns host02");
    ip("addr add 10.77.0.1/24 dev to-host02");
    ip("link set to-host02 up");
    ip("-n host02 addr add 10.77.0.2/24 dev eth0");
    ip("-n host02 link set eth0 up");
    ip("-n host02 link set lo up");
    let agent = Command::new("ip")
        .args(["netns", "exec", NAME, &format!("{programs}/host-agent"), "--config", &text(&path)])
        .spawn();
    let _agent = Agent(agent.unwrap());
    let url = format!("https://{ADDRESS}:7442");
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
