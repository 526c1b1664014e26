//! The main job: a real Debian guest configures itself from 169.254.169.254.

use std::time::Instant;

use serde_json::Value;

use crate::lab::{HOST, Lab, lab, run, tool_ok};

fn variable(lab: &Lab, name: &str) -> String {
    let text = fs_err::read_to_string(lab.run.join("demo.env")).unwrap();
    let start = format!("export {name}=");
    text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().to_owned()
}

fn agent(vm: &str, command: &str) -> Value {
    let answer = run(
        "virsh",
        &["-c", "qemu:///system", "qemu-agent-command", "--timeout", "20", vm, command],
    );
    serde_json::from_str::<Value>(&answer).unwrap()["return"].clone()
}

#[test]
fn a_real_cloud_init_configures_its_guest_from_the_metadata_address() {
    let Some(lab) = lab("the boot of a Debian guest") else { return };
    let _peace = lab.peace();
    lab.demo();
    let vm = variable(lab, "VMMGR_VM");

    // What the guest itself says: its runcmd's result on the serial line, host name and user inside.
    let serial = fs_err::read(lab.state.join(format!("console/console.{vm}.log"))).unwrap();
    let serial = String::from_utf8_lossy(&serial).into_owned();
    assert!(
        serial.contains("vmmgr-runcmd demo demo"),
        "the runcmd left nothing on the serial line"
    );
    assert!(serial.contains("Datasource DataSourceNoCloudNet"), "cloud-init used another source");
    assert_eq!(agent(&vm, r#"{"execute":"guest-get-host-name"}"#)["host-name"], "demo");

    // What metadata-srv saw of it.
    let (status, trace) = lab.api.get(&format!("/v1/hosts/{HOST}/vms/{vm}/boot"));
    assert_eq!(status, 200, "{trace}");
    let fetches = trace["fetches"].as_array().unwrap();
    for file in ["meta-data", "user-data", "vendor-data"] {
        let fetch = fetches.iter().find(|fetch| fetch["file"] == file);
        let fetch = fetch.unwrap_or_else(|| panic!("{file} was not fetched: {trace}"));
        assert_eq!(fetch["status"], 200, "{fetch}");
        assert!(fetch["user_agent"].as_str().unwrap().starts_with("Cloud-Init/"), "{fetch}");
    }
    assert!(fetches.len() < 8, "cloud-init had to try again: {trace}");

    // The way in that `make demo` prints.
    let (_, addresses) = lab.api.get(&format!("/v1/hosts/{HOST}/vms/{vm}/addresses"));
    let all =
        addresses.as_array().unwrap().iter().flat_map(|nic| nic["addresses"].as_array().unwrap());
    let texts: Vec<&str> = all.filter_map(|a| a["address"].as_str()).collect();
    let address = texts
        .iter()
        .find(|text| text.starts_with("169.254."))
        .unwrap_or_else(|| panic!("{addresses}"));
    let target = format!("demo@{}", address.split('/').next().unwrap());
    let key = lab.run.join("demo_key");
    let inside = run(
        "ssh",
        &[
            "-i",
            key.to_str().unwrap(),
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=30",
            &target,
            "hostname; id -un; sudo -n cat /run/cloud-init/result.json",
        ],
    );
    let mut lines = inside.lines();
    assert_eq!((lines.next(), lines.next()), (Some("demo"), Some("demo")), "{inside}");
    let result: Value = serde_json::from_str(&lines.collect::<String>()).unwrap();
    assert_eq!(result["v1"]["errors"], serde_json::json!([]), "{result}");
}

#[test]
fn a_second_demo_uses_the_first_one_s_guest() {
    let Some(lab) = lab("a second demo") else { return };
    let _peace = lab.peace();
    lab.demo();
    let before = variable(lab, "VMMGR_VM");
    let started = Instant::now();
    tool_ok("stack", &["up"]);
    let said = tool_ok("demo", &["guest"]);
    assert!(said.contains(&before), "{said}");
    assert_eq!(variable(lab, "VMMGR_VM"), before);
    assert!(started.elapsed().as_secs() < 60, "it began anew");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs_err::metadata(lab.run.join("demo.env")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}
