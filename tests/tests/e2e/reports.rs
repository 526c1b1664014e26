//! libvirt's own hook tells the gateway of a guest's life, with the host's certificate.

use std::time::Duration;

use serde_json::Value;

use crate::guest::Guest;
use crate::lab::{HOST, lab, program, run, tool_ok, until};

#[test]
fn what_libvirt_s_hook_sends_is_kept_with_the_definition() {
    let Some(lab) = lab("reports of libvirt's hook") else { return };
    let _alone = lab.alone_but_demo();
    // As docs/installing.md says for a host: its certificate for libvirt, its name for the gateway, the hook.
    let pki = lab.state.join("pki");
    let names = ["--name", "localhost"];
    let certificate =
        [&["pki", "libvirt-server", HOST, "--dir", pki.to_str().unwrap()][..], &names].concat();
    run(program("vmmctl").to_str().unwrap(), &certificate);
    let hosts = fs_err::read_to_string("/etc/hosts").unwrap();
    fs_err::write("/run/hosts", format!("{hosts}\n127.0.0.1 kvm.registry.local\n")).unwrap();
    run("mount", &["--bind", "/run/hosts", "/etc/hosts"]);
    tool_ok("install-qemu-hook", &["--url", "https://kvm.registry.local:8443"]);
    // libvirtd looks for hooks when it starts.
    let restart = || {
        tool_ok("stack", &["stop", "libvirtd"]);
        tool_ok("stack", &["start", "libvirtd"]);
        until("the host is followed again", Duration::from_secs(20), || {
            let (_, host) = lab.api.get(&format!("/v1/hosts/{HOST}"));
            if host["state"] == "reachable" { Ok(()) } else { Err(host.to_string()) }
        });
    };
    restart();

    let guest = Guest::define(lab, "reported", &serde_json::json!({"memory_mib": 64}));
    let report = |operation: &str| {
        until(&format!("a report of {operation}"), Duration::from_secs(20), || {
            let (_, all) = lab.api.get("/v1/hook-reports");
            let ours = |report: &&Value| report["object"] == guest.id.as_str();
            let told = all.as_array().unwrap().iter().find(ours).cloned().unwrap_or_default();
            if told["operation"] == operation { Ok(told) } else { Err(all.to_string()) }
        })
    };
    guest.start();
    let started = report("started");
    assert_eq!((&started["sender"], &started["action"]), (&HOST.into(), &"begin".into()));
    let xml = lab.api.bytes(&format!("/v1/hook-reports/{HOST}/{}/xml", guest.id), "content-type").1;
    let xml = String::from_utf8(xml).unwrap();
    assert!(xml.contains(&format!("<uuid>{}</uuid>", guest.id)), "{xml}");
    guest.act("POST", "/poweroff", &Value::Null);
    assert_eq!(report("release")["action"], "end");

    guest.delete();
    tool_ok("install-qemu-hook", &["--uninstall"]);
    run("umount", &["/etc/hosts"]);
    restart();
}
