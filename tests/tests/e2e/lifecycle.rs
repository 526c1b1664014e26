//! A guest's life: made, started, changed, stopped, deleted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::guest::Guest;
use crate::lab::{lab, run};

#[test]
fn a_guest_gets_its_own_seed_and_nobody_else_s() {
    let Some(lab) = lab("the seed of a guest") else { return };
    let _peace = lab.peace();
    let mut guest = Guest::create(lab, "seeded");
    guest.start();
    let first = guest.says("vmmgr-busybox meta-data ");
    assert!(first.contains(&guest.id), "{first}");
    guest.says("vmmgr-busybox ready seeded");
    // The host is not the guest, whatever it asks for.
    let url = format!("http://169.254.169.254/{}/user-data", guest.id);
    let status = run("curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}", &url]);
    assert_eq!(status, "404");
    guest.delete();
}

#[test]
fn starting_resetting_and_stopping_do_what_they_say() {
    let Some(lab) = lab("power") else { return };
    let _peace = lab.peace();
    let mut guest = Guest::boot(lab, "power");
    assert_eq!(guest.state(), "running");
    let again = lab.api.change("POST", &guest.path("/start"), None).unwrap_err();
    assert_eq!(again["code"], "wrong_state", "{again}");
    guest.act("POST", "/reset", &Value::Null);
    guest.says("vmmgr-busybox ready power");
    guest.act("POST", "/shutdown", &Value::Null);
    guest.becomes("shut_off", Duration::from_secs(300));
    guest.start();
    guest.says("vmmgr-busybox ready power");
    guest.act("POST", "/poweroff", &Value::Null);
    assert_eq!(guest.state(), "shut_off");
    let (_, all) = lab.api.get("/v1/vms");
    let listed = all.as_array().unwrap().iter().find(|vm| vm["id"] == guest.id.as_str()).unwrap();
    assert_eq!(
        (listed["host_state"].as_str(), listed["state"].as_str()),
        (Some("reachable"), Some("shut_off"))
    );
    guest.delete();
}

#[test]
fn disks_and_interfaces_come_and_go_while_it_runs() {
    let Some(lab) = lab("hotplug") else { return };
    let _peace = lab.peace();
    let mut guest = Guest::boot(lab, "hotplug");
    assert_eq!(guest.says("vmmgr-busybox devices "), "vda eth0");
    let disk = guest.act("POST", "/disks", &json!({"device": "local-disk", "size": "64M"}));
    assert_eq!(disk["outcome"]["target"], "vdb");
    assert_eq!(guest.says("vmmgr-busybox devices "), "vda vdb eth0");
    let nic = guest.act("POST", "/nics", &json!({"device": "net-br-ext"}));
    let mac = nic["outcome"]["mac"].as_str().unwrap().to_owned();
    assert_eq!(guest.says("vmmgr-busybox devices "), "vda vdb eth0 eth1");

    guest.act("DELETE", &format!("/devices/{mac}"), &Value::Null);
    assert_eq!(guest.says("vmmgr-busybox devices "), "vda vdb eth0");
    let volumes = lab.leftovers(&guest.id).len();
    guest.act("DELETE", "/devices/vdb", &Value::Null);
    assert_eq!(guest.says("vmmgr-busybox devices "), "vda eth0");
    assert_eq!(lab.leftovers(&guest.id).len(), volumes - 1, "the volume of vdb is to go with it");
    let gone = lab.api.change("DELETE", &guest.path("/devices/vdb"), None).unwrap_err();
    assert_eq!(gone["code"], "no_such_device", "{gone}");

    let (_, domain) = lab.api.get(&guest.path(""));
    assert_eq!(domain["disks"].as_array().unwrap().len(), 1);
    assert_eq!(domain["nics"].as_array().unwrap().len(), 1);
    guest.delete();
}

#[test]
fn a_running_guest_can_be_deleted_and_the_second_delete_finds_nothing() {
    let Some(lab) = lab("delete") else { return };
    let _peace = lab.peace();
    let guest = Guest::boot(lab, "doomed");
    let path = guest.path("");
    guest.delete();
    let again = lab.api.change("DELETE", &path, None).unwrap_err();
    assert_eq!(again["code"], "no_such_vm", "{again}");
}
