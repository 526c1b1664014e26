//! An operator's own program runs when a device of a real guest comes and when it goes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::api::URL;
use crate::guest::Guest;
use crate::lab::{HOST, Lab, lab};

/// Keeps a file for each device; `no` in its folder makes it fail.
fn write_hook(dir: &Path) {
    let script = format!(
        "#!/bin/sh\ncd {} || exit 9\necho \"$1 $4 on $2\"\n\
         [ \"$1\" = detach ] || [ ! -e no ] || {{ echo the fabric has no port left >&2; exit 3; }}\n\
         case $1 in attach) cat >kept/$4 ;; detach) rm -f kept/$4 ;; esac\n",
        dir.display()
    );
    fs_err::create_dir_all(dir.join("kept")).unwrap();
    let path = dir.join("fabric");
    fs_err::write(&path, script).unwrap();
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    fs_err::write(dir.join("fabric.vars.json"), r#"{"zone": "where the port is"}"#).unwrap();
}

/// What the compat route streams.
fn stream(lab: &Lab, guest: &Guest, body: &Value) -> Vec<String> {
    let path = format!("{URL}/vm/attach_device/{HOST}/{}?dev=fabric-disk", guest.id);
    let request = lab.api.client.post(path).bearer_auth(&lab.api.token).body(body.to_string());
    let text =
        lab.api.runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() });
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_device_s_hook_runs_when_it_comes_and_when_it_goes() {
    let Some(lab) = lab("device hooks") else { return };
    let _alone = lab.alone_but_demo();
    let dir = lab.state.join("hooks");
    write_hook(&dir);
    let more = format!(
        "[device_hooks]\ndirectory = \"{}\"\ntimeout_seconds = 30\n\
         [[device]]\nkind = \"disk\"\nname = \"fabric-disk\"\nhook = \"fabric\"\n",
        dir.display()
    );
    let _agent = Agent::with(lab, |text| format!("{text}\n{more}"));
    let (_, host) = lab.api.get(&format!("/v1/hosts/{HOST}/capabilities"));
    assert_eq!(host["template_problems"], json!([]), "{host}");
    let mut guest = Guest::boot(lab, "hooked");

    // The seed's way: lines as they come, then the envelope.
    let lines = stream(lab, &guest, &json!({"size": "1G"}));
    let said = format!("fabric: attach vdb on {HOST}");
    assert!(lines.contains(&said), "{lines:?}");
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(last["result"], "OK", "{lines:?}");
    guest.sees(&["vdb"]);
    let kept = |device: &str| fs_err::read_to_string(dir.join("kept").join(device));
    let told: Value = serde_json::from_str(&kept("vdb").unwrap()).unwrap();
    assert_eq!((&told["target"], &told["vm"]["id"]), (&json!("vdb"), &json!(guest.id)));

    let hostile = "$(touch /tmp/x)\"};\u{1f}";
    let body = json!({"device": "fabric-disk", "size": "1G", "variables": {"zone": hostile}});
    guest.act("POST", "/disks", &body);
    let told: Value = serde_json::from_str(&kept("vdc").unwrap()).unwrap();
    assert_eq!(told["variables"]["zone"], hostile);

    // It fails: the caller reads why, and the guest is as it was.
    fs_err::write(dir.join("no"), "").unwrap();
    let before = lab.api.get(&guest.path("")).1["disks"].clone();
    let problem = lab.api.change("POST", &guest.path("/disks"), Some(&body)).unwrap_err();
    assert_eq!((&problem["code"], &problem["status"]), (&json!("hook_failed"), &json!(502)));
    assert!(problem["detail"].as_str().unwrap().contains("no port left"), "{problem}");
    assert_eq!(lab.api.get(&guest.path("")).1["disks"], before);
    let files = lab.leftovers(&guest.id);
    assert!(!files.iter().any(|name| name.contains("vdd")), "{files:?}");

    // Somebody else may write to it: it is not run, and the device stays.
    let hook = dir.join("fabric");
    fs_err::set_permissions(&hook, std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = lab.api.change("DELETE", &guest.path("/devices/vdb"), None).unwrap_err();
    assert_eq!(refused["code"], "hook_refused", "{refused}");
    fs_err::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    guest.act("DELETE", "/devices/vdb", &Value::Null);
    assert!(kept("vdb").is_err() && kept("vdc").is_ok());
    guest.delete();
    assert!(kept("vdc").is_err());
}
