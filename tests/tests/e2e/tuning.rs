//! Changes to a guest that exists, on real libvirt: settings, snapshots, sizes, counters.

use std::time::Duration;

use serde_json::{Value, json};

use crate::guest::Guest;
use crate::lab::{lab, run, until};

fn dumpxml(guest: &Guest, live: bool) -> String {
    let mut arguments = vec!["-c", "qemu:///system", "dumpxml", &guest.id];
    if !live {
        arguments.push("--inactive");
    }
    run("virsh", &arguments)
}

#[test]
fn a_guest_is_changed_while_it_runs_and_beyond_its_maximum_for_later() {
    let Some(lab) = lab("changes of a guest") else { return };
    let _peace = lab.peace();
    let extra = json!({"vcpus_max": 2, "memory_mib_max": 256});
    let guest = Guest::define(lab, "tuned", &extra);
    guest.act("POST", "/disks", &json!({"device": "local-disk", "size": "1G", "gold": "busybox"}));
    guest.start();
    let change = json!({"vcpus": 2, "memory_mib": 200, "description": "测试 <&>", "autostart": true,
        "metadata": {"owner": "ada & co"}});
    let done = guest.act("PATCH", "", &change);
    assert_eq!(done["outcome"]["restart_needed"], Value::Null, "{done}");
    let (_, shown) = lab.api.get(&guest.path(""));
    assert_eq!((&shown["vcpus"], &shown["autostart"]), (&json!(2), &json!(true)), "{shown}");
    assert_eq!(
        (&shown["description"], &shown["metadata"]["owner"]),
        (&json!("测试 <&>"), &json!("ada & co"))
    );
    assert_eq!(shown["record"]["creator"], "admin", "{shown}");
    let inactive = dumpxml(&guest, false);
    assert!(inactive.contains("<currentMemory unit='KiB'>204800</currentMemory>"), "{inactive}");
    assert!(inactive.contains("current='2'>2<") || inactive.contains(">2</vcpu>"), "{inactive}");
    let later = guest.act("PATCH", "", &json!({"vcpus": 3, "memory_mib": 300}));
    assert_eq!(later["outcome"]["restart_needed"], true, "{later}");
    let live = dumpxml(&guest, true);
    assert!(live.contains("<memory unit='KiB'>262144</memory>"), "{live}");
    let refused =
        lab.api.change("PATCH", &guest.path(""), Some(&json!({"metadata": {"tenant": "x"}})));
    assert_eq!(refused.unwrap_err()["code"], "invalid_value");
    guest.act("POST", "/poweroff", &Value::Null);
    guest.act("PATCH", "", &json!({"vcpus": 1, "metadata": {"owner": null}}));
    guest.start();
    let (_, shown) = lab.api.get(&guest.path(""));
    assert_eq!((&shown["vcpus"], &shown["vcpus_max"]), (&json!(1), &json!(3)), "{shown}");
    assert_eq!((&shown["memory_kib_max"], &shown["metadata"]), (&json!(307_200), &Value::Null));
    guest.delete();
}

#[test]
fn a_disk_grows_on_and_off_and_counters_count() {
    let Some(lab) = lab("sizes and counters") else { return };
    let _peace = lab.peace();
    let guest = Guest::boot(lab, "grown");
    let capacity = || lab.api.get(&guest.path("/disks/vda")).1["capacity_bytes"].clone();
    assert_eq!(capacity(), 1_u64 << 30);
    let smaller =
        lab.api.change("PATCH", &guest.path("/disks/vda"), Some(&json!({"size": "512M"})));
    assert_eq!(smaller.unwrap_err()["code"], "invalid_value");
    guest.act("PATCH", "/disks/vda", &json!({"size": "2G"}));
    assert_eq!(capacity(), 2_u64 << 30);
    let (_, shown) = lab.api.get(&guest.path(""));
    let mac = shown["nics"][0]["mac"].as_str().unwrap().to_owned();
    until("the guest has sent something", Duration::from_secs(300), || {
        let (_, stats) = lab.api.get(&guest.path(&format!("/nics/{mac}/stats")));
        if stats["tx_packets"].as_u64() > Some(0) { Ok(()) } else { Err(stats.to_string()) }
    });
    guest.act("POST", "/poweroff", &Value::Null);
    guest.act("PATCH", "/disks/vda", &json!({"size": "3G"}));
    assert_eq!(capacity(), 3_u64 << 30);
    let (status, off) = lab.api.get(&guest.path(&format!("/nics/{mac}/stats")));
    assert_eq!((status, &off["code"]), (409, &json!("wrong_state")), "{off}");
    assert_eq!(lab.api.get(&guest.path("/disks/vdz")).0, 404);
    guest.delete();
}

#[test]
fn a_running_guest_is_suspended_and_goes_back_to_its_snapshot() {
    let Some(lab) = lab("snapshots") else { return };
    let _peace = lab.peace();
    let mut guest = Guest::boot(lab, "snapped");
    guest.act("POST", "/suspend", &Value::Null);
    assert_eq!(guest.state(), "paused");
    guest.act("POST", "/resume", &Value::Null);
    assert_eq!(guest.state(), "running");
    guest.act("POST", "/snapshots", &json!({"name": "before", "description": "clean"}));
    let (_, all) = lab.api.get(&guest.path("/snapshots"));
    assert_eq!(
        (&all[0]["name"], &all[0]["state"], &all[0]["current"]),
        (&json!("before"), &json!("running"), &json!(true)),
        "{all}"
    );
    guest.act("POST", "/poweroff", &Value::Null);
    guest.act("POST", "/snapshots/before/revert", &Value::Null);
    guest.becomes("running", Duration::from_secs(300));
    let twice = lab.api.change("POST", &guest.path("/snapshots"), Some(&json!({"name": "before"})));
    assert_eq!(twice.unwrap_err()["code"], "already_exists");
    guest.act("POST", "/disks", &json!({"device": "local-disk", "size": "64M"}));
    let other = lab.api.change("POST", &guest.path("/snapshots/before/revert"), None).unwrap_err();
    assert_eq!(other["code"], "wrong_state", "{other}");
    guest.says("vmmgr-busybox devices ");
    guest.act("DELETE", "/snapshots/before", &Value::Null);
    assert_eq!(lab.api.get(&guest.path("/snapshots")).1, json!([]));
    guest.act("POST", "/snapshots", &json!({"name": "last"}));
    guest.delete();
}

#[test]
fn a_guest_with_uefi_is_told_that_it_cannot_have_a_snapshot() {
    let Some(lab) = lab("snapshots of UEFI") else { return };
    let _peace = lab.peace();
    let guest = Guest::define(lab, "flash", &json!({"firmware": "uefi", "memory_mib": 256}));
    guest.act("POST", "/disks", &json!({"device": "local-disk", "size": "64M"}));
    let no = lab.api.change("POST", &guest.path("/snapshots"), Some(&json!({"name": "s"})));
    let no = no.unwrap_err();
    assert_eq!(no["code"], "wrong_state", "{no}");
    assert!(no["detail"].as_str().unwrap().contains("UEFI"), "{no}");
    guest.delete();
}

/// The newest described system's tenant: whoever has such a link needs no account.
#[test]
fn a_link_that_was_made_for_it_takes_snapshots_of_its_guest() {
    let Some(lab) = lab("snapshots by link") else { return };
    let _peace = lab.peace();
    let guest = Guest::create(lab, "linked");
    let (status, link) =
        lab.api.post(&guest.path("/links"), &json!({"verbs": ["list", "snapshot"]}));
    assert_eq!(status, 201, "{link}");
    let path = link["path"].as_str().unwrap();
    let ask = |method: &str, verb: &str, name: &str| {
        let more = if name.is_empty() { String::new() } else { format!("&name={name}") };
        lab.api.call("", method, &format!("/user/vm/{verb}/{path}{more}"), None)
    };
    let listed = |names: &[&str]| {
        let (status, all) = ask("GET", "snapshot", "");
        assert_eq!((status, &all["names"]), (200, &json!(names)), "{all}");
    };
    listed(&[]);
    assert_eq!(ask("POST", "snapshot", "before").1["result"], "OK");
    listed(&["before"]);
    assert_eq!(ask("POST", "revert_snapshot", "before").1["result"], "OK");
    assert_eq!(ask("POST", "revert_snapshot", "absent").0, 404);
    assert_eq!(ask("POST", "delete_snapshot", "before").1["result"], "OK");
    listed(&[]);
    assert_eq!(ask("GET", "start", "").0, 403);
    assert_eq!(guest.state(), "shut_off");
    guest.delete();
}
