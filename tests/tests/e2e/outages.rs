//! Parts of the system die; guests, and what was accepted, do not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guest::Guest;
use crate::lab::{HOST, Lab, lab, run, tool_ok, until};

fn host_becomes(lab: &Lab, state: &str, within: Duration) {
    until(&format!("the host becomes {state}"), within, || {
        let (_, host) = lab.api.get(&format!("/v1/hosts/{HOST}"));
        if host["state"] == state { Ok(()) } else { Err(host["state"].to_string()) }
    });
}

#[test]
fn a_killed_libvirtd_comes_back_with_all_that_happened_meanwhile() {
    let Some(lab) = lab("libvirtd's end") else { return };
    let _alone = lab.alone();
    let survivor = Guest::boot(lab, "survivor");
    let victim = Guest::boot(lab, "victim");
    tool_ok("stack", &["kill", "libvirtd"]);
    run("pkill", &["-9", "-f", &format!("qemu-system.*-uuid {}", victim.id)]);
    tool_ok("stack", &["start", "libvirtd"]);
    let back = Instant::now();
    host_becomes(lab, "reachable", Duration::from_secs(10));
    until("the dead guest is seen", Duration::from_secs(10), || {
        let (_, all) = lab.api.get("/v1/vms");
        let state = |id: &str| {
            let vm = all.as_array().unwrap().iter().find(|vm| vm["id"] == id);
            vm.map_or(Value::Null, |vm| vm["state"].clone())
        };
        let seen = (state(&survivor.id), state(&victim.id));
        if seen == ("running".into(), "shut_off".into()) {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    let took = back.elapsed();
    eprintln!("libvirtd was back for {took:?} when the fleet list was right again");
    assert!(took < Duration::from_secs(2), "{took:?}");
    survivor.act("POST", "/reset", &Value::Null);
    victim.start();
    survivor.delete();
    victim.delete();
}

#[test]
fn guests_do_not_notice_a_restart_of_metadata_srv() {
    let Some(lab) = lab("metadata-srv's restart") else { return };
    let _alone = lab.alone();
    let mut guest = Guest::boot(lab, "patient");
    tool_ok("stack", &["kill", "metadata-srv"]);
    tool_ok("stack", &["start", "metadata-srv"]);
    guest.act("POST", "/reset", &Value::Null);
    let first = guest.says("vmmgr-busybox meta-data ");
    assert!(!first.is_empty(), "the seed is lost");
    guest.says("vmmgr-busybox ready patient");
    guest.delete();
}

#[test]
fn an_agent_that_is_down_leaves_the_last_known_guests_and_clear_answers() {
    let Some(lab) = lab("the agent's end") else { return };
    let _alone = lab.alone();
    let guest = Guest::boot(lab, "lonely");
    tool_ok("stack", &["kill", "host-agent"]);
    host_becomes(lab, "unreachable", Duration::from_secs(20));
    let (_, all) = lab.api.get("/v1/vms");
    let known = all.as_array().unwrap().iter().find(|vm| vm["id"] == guest.id.as_str()).unwrap();
    assert_eq!(
        (known["host_state"].as_str(), known["state"].as_str()),
        (Some("unreachable"), Some("running"))
    );
    let refused = lab.api.change("POST", &guest.path("/reset"), None).unwrap_err();
    assert_eq!(refused["code"], "host_unreachable", "{refused}");
    tool_ok("stack", &["start", "host-agent"]);
    host_becomes(lab, "reachable", Duration::from_secs(20));
    assert_eq!(guest.state(), "running");
    guest.delete();
}

#[test]
fn a_full_pool_says_so_and_takes_nothing() {
    let Some(lab) = lab("a full pool") else { return };
    let _alone = lab.alone();
    let guest = Guest::define(lab, "full", &json!({}));
    let pool = lab.state.join("storage");
    let pool = pool.to_str().unwrap();
    // A file system of its own over the pool's folder, with no room for an image's first clusters.
    run("mount", &["-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", pool]);
    let body = json!({"device": "local-disk", "size": "1G"});
    let answer = lab.api.change("POST", &guest.path("/disks"), Some(&body));
    let left = fs_err::read_dir(pool).unwrap().count();
    run("umount", &[pool]);
    let problem = answer.unwrap_err();
    assert_eq!(problem["code"], "no_space", "{problem}");
    assert_eq!(left, 0);
    until("a disk fits again", Duration::from_secs(10), || {
        lab.api
            .change("POST", &guest.path("/disks"), Some(&body))
            .map_err(|problem| problem.to_string())
    });
    guest.delete();
}
