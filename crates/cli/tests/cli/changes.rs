//! Changes: what is asked, how an operation is followed, and what is printed of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::{
    Answer, Asked, Fake, OPERATION, Run, VM, command, operation, problem, succeeds, vmmctl,
};

fn events_path() -> String {
    format!("GET /v1/operations/{OPERATION}/events")
}

/// Accepts every change and tells its end by the events.
fn following(end: Value) -> Fake {
    Fake::new(move |asked: &Asked| match asked.method.as_str() {
        "GET" => Answer::events(&[
            ("progress", json!({"event": "progress", "line": "step one"})),
            ("progress", json!({"event": "progress", "line": "step two"})),
            ("done", json!({"event": "done", "operation": end})),
        ]),
        _ => Answer::json(202, &operation("start", "running")),
    })
}

#[test]
fn an_operation_is_followed_to_its_end() {
    let server = following(operation("start", "succeeded"));
    let run = vmmctl(&server.url, &["-o", "name", "vm", "start", "host01", VM]);
    assert_eq!((run.code, run.out), (0, format!("{VM}\n")));
    assert!(run.err.contains("step one") && run.err.contains("step two"), "{}", run.err);
    assert_eq!(server.lines(), [format!("POST /v1/hosts/host01/vms/{VM}/start"), events_path()]);
    assert!(server.asked()[0].target.contains("?wait_ms="), "{}", server.asked()[0].target);
}

#[test]
fn an_operation_that_fails_later_fails_as_if_at_once() {
    let mut end = operation("start", "failed");
    end["problem"] = problem(409, "wrong_state");
    let server = following(end);
    let run = vmmctl(&server.url, &["vm", "start", "host01", VM]);
    assert_eq!((run.code, run.out.as_str()), (5, ""));
    assert!(run.err.contains("the reason in words") && run.err.contains("req-0815"), "{}", run.err);
}

fn breaking(end: Value, cut: bool) -> Fake {
    Fake::new(move |asked: &Asked| {
        if asked.method != "GET" {
            return Answer::json(202, &operation("delete", "running"));
        }
        if asked.line() != events_path() {
            return Answer::json(200, &end);
        }
        let step = json!({"event": "progress", "line": "step one"});
        let answer = Answer::events(&[("progress", step)]);
        if cut { answer.cut() } else { answer }
    })
}

#[test]
fn a_stream_that_ends_early_is_not_the_end_of_the_operation() {
    let server = breaking(operation("delete", "succeeded"), false);
    let run = vmmctl(&server.url, &["vm", "delete", "-y", "host01", VM]);
    assert_eq!(run.code, 0, "{}", run.err);
    // Still under way: neither success nor failure.
    let server = breaking(operation("delete", "running"), false);
    let run = vmmctl(&server.url, &["vm", "delete", "-y", "host01", VM]);
    assert_eq!(run.code, 6, "{}", run.err);
    assert!(run.err.contains(OPERATION), "{}", run.err);
}

#[test]
fn a_stream_that_breaks_is_not_the_end_of_the_operation() {
    let server = breaking(operation("delete", "succeeded"), true);
    let run = vmmctl(&server.url, &["vm", "delete", "-y", "host01", VM]);
    assert_eq!(run.code, 0, "{}", run.err);
}

#[test]
fn a_guest_is_asked_for_with_everything_that_was_said() {
    let server = Fake::always(200, operation("create", "succeeded"));
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (key, hash) = (file("key.pub", "ssh-ed25519 AAAA me\n"), file("hash", "$6$salt$hash\n"));
    let own = file("user-data", "#cloud-config\n");
    let out = succeeds(
        &server.url,
        &[
            "-o",
            "name",
            "vm",
            "create",
            "host01",
            "--name",
            "web",
            "--description",
            "a web server",
            "--arch",
            "x86_64",
            "--vcpus",
            "2",
            "--memory",
            "768",
            "--firmware",
            "uefi",
            "--seed",
            "iso",
            "--hostname",
            "www",
            "--user",
            "demo",
            "--ssh-key",
            &key,
            "--password-hash-file",
            &hash,
            "--timezone",
            "Europe/Berlin",
            "--locale",
            "en_US.UTF-8",
            "--runcmd",
            "echo one; echo two",
            "--runcmd",
            "true",
            "--user-data",
            &own,
        ],
    );
    assert_eq!(out, format!("{VM}\n"));
    let asked = &server.asked()[0];
    assert_eq!(asked.line(), "POST /v1/hosts/host01/vms");
    assert_eq!(
        asked.json(),
        json!({
            "name": "web", "description": "a web server", "arch": "x86_64", "vcpus": 2, "memory_mib": 768,
            "firmware": "uefi", "seed_mode": "iso",
            "seed": {
                "hostname": "www", "user": "demo", "ssh_keys": ["ssh-ed25519 AAAA me"],
                "password_hash": "$6$salt$hash", "timezone": "Europe/Berlin", "locale": "en_US.UTF-8",
                "runcmd": [["sh", "-c", "echo one; echo two"], ["sh", "-c", "true"]],
                "user_data": "#cloud-config\n",
            },
        })
    );
    // The API refuses unknown fields, so the seed must be one.
    serde_json::from_value::<vmmgr_common::api::seed::SeedSpec>(asked.json()["seed"].clone())
        .unwrap();
}

#[test]
fn devices_are_attached_changed_and_detached_at_their_places() {
    let mut ended = operation("attach", "succeeded");
    ended["outcome"] = json!({"target": "vda", "mac": "52:54:00:aa:bb:cc"});
    let server = Fake::always(200, ended);
    let vm = format!("/v1/hosts/host01/vms/{VM}");
    for (arguments, line, body, out) in [
        (
            &["disk", "attach", "host01", VM, "--size", "4G", "--gold", "debian12"][..],
            "POST /disks",
            json!({"device": "local-disk", "size": "4G", "gold": "debian12"}),
            "vda\n",
        ),
        (
            &["disk", "attach", "host01", VM, "--device", "fast", "--size", "512M"],
            "POST /disks",
            json!({"device": "fast", "size": "512M"}),
            "vda\n",
        ),
        (
            &["nic", "attach", "host01", VM],
            "POST /nics",
            json!({"device": "net-br-ext"}),
            "52:54:00:aa:bb:cc\n",
        ),
        (
            &["media", "attach", "host01", VM, "--iso", "rescue"],
            "POST /cdroms",
            json!({"device": "cdrom", "iso": "rescue"}),
            "vda\n",
        ),
        (
            &["media", "change", "host01", VM, "sda", "--seed"],
            "POST /media/sda",
            json!({"seed": true}),
            "vda\n",
        ),
        (
            &["media", "change", "host01", VM, "sda"],
            "POST /media/sda",
            json!({"seed": false}),
            "vda\n",
        ),
        (
            &["device", "detach", "host01", VM, "52:54:00:aa:bb:cc"],
            "DELETE /devices/52:54:00:aa:bb:cc",
            Value::Null,
            "52:54:00:aa:bb:cc\n",
        ),
    ] {
        let mut all = vec!["-o", "name"];
        all.extend(arguments);
        assert_eq!(succeeds(&server.url, &all), out, "{arguments:?}");
        let asked = server.asked().pop().unwrap();
        let (method, rest) = line.split_once(' ').unwrap();
        assert_eq!(asked.line(), format!("{method} {vm}{rest}"));
        assert_eq!(
            if asked.body.is_empty() { Value::Null } else { asked.json() },
            body,
            "{arguments:?}"
        );
    }
}

#[test]
fn a_volume_that_stays_is_told() {
    let mut ended = operation("delete", "succeeded");
    ended["outcome"] = json!({"undeleted": [
        {"device": "disk", "source_type": "file", "target": "vdb", "bus": "virtio", "source": "/data/old.raw"},
    ]});
    let server = Fake::always(200, ended);
    let run = vmmctl(&server.url, &["vm", "delete", "--yes", "host01", VM]);
    assert_eq!(run.code, 0);
    assert!(run.err.contains("/data/old.raw"), "{}", run.err);
}

#[test]
fn records_are_made_and_forgotten() {
    let server = Fake::new(|asked: &Asked| match asked.method.as_str() {
        "DELETE" => Answer::text(204, "text/plain", ""),
        _ => Answer::json(201, &json!({})),
    });
    for (arguments, line, body) in [
        (
            &["image", "add", "debian12", "--uri", "https://images/d.raw", "--sha256", "00ff"][..],
            "POST /v1/images",
            json!({"name": "debian12", "arch": "x86_64", "uri": "https://images/d.raw", "sha256": "00ff", "description": ""}),
        ),
        (
            &["iso", "add", "rescue", "--path", "/isos/r.iso"],
            "POST /v1/isos",
            json!({"name": "rescue", "path": "/isos/r.iso", "description": ""}),
        ),
        (
            &["iso", "add", "net", "--url", "https://isos/n.iso"],
            "POST /v1/isos",
            json!({"name": "net", "url": "https://isos/n.iso", "description": ""}),
        ),
        (
            &["iso", "add", "own", "--url", "https://isos/n.iso", "--no-tls-verify"],
            "POST /v1/isos",
            json!({"name": "own", "url": "https://isos/n.iso", "tls_verify": false, "description": ""}),
        ),
        (
            &["image", "remove", "debian12", "--arch", "aarch64"],
            "DELETE /v1/images/debian12/aarch64",
            Value::Null,
        ),
        (&["iso", "remove", "rescue"], "DELETE /v1/isos/rescue", Value::Null),
        (&["host", "remove", "host01"], "DELETE /v1/hosts/host01", Value::Null),
    ] {
        let mut all = vec!["-o", "name"];
        all.extend(arguments);
        assert_eq!(succeeds(&server.url, &all), format!("{}\n", arguments[2]));
        let asked = server.asked().pop().unwrap();
        assert_eq!(asked.line(), line);
        assert_eq!(
            if asked.body.is_empty() { Value::Null } else { asked.json() },
            body,
            "{arguments:?}"
        );
    }
}

#[test]
fn a_guest_that_exists_is_changed() {
    let server = Fake::always(200, operation("configure", "succeeded"));
    let change = [
        "vm",
        "set",
        "host01",
        VM,
        "--vcpus",
        "2",
        "--memory",
        "512",
        "--description",
        "d",
        "--autostart",
        "true",
        "--metadata",
        "owner=me",
        "--metadata",
        "old=",
    ];
    succeeds(&server.url, &change);
    succeeds(&server.url, &["snapshot", "create", "host01", VM, "s1"]);
    succeeds(&server.url, &["snapshot", "revert", "host01", VM, "s1"]);
    succeeds(&server.url, &["snapshot", "delete", "host01", VM, "s1"]);
    succeeds(&server.url, &["disk", "resize", "host01", VM, "vda", "--size", "2G"]);
    succeeds(&server.url, &["vm", "suspend", "host01", VM]);
    let at = |verb: &str, rest: &str| format!("{verb} /v1/hosts/host01/vms/{VM}{rest}");
    assert_eq!(
        server.lines(),
        [
            at("PATCH", ""),
            at("POST", "/snapshots"),
            at("POST", "/snapshots/s1/revert"),
            at("DELETE", "/snapshots/s1"),
            at("PATCH", "/disks/vda"),
            at("POST", "/suspend"),
        ]
    );
    let expected = json!({"vcpus": 2, "memory_mib": 512, "description": "d", "autostart": true,
        "metadata": {"owner": "me", "old": null}});
    assert_eq!(server.asked()[0].json(), expected);
    for bad in [&["vm", "set", "host01", VM][..], &["vm", "set", "host01", VM, "--metadata", "x"]] {
        assert_eq!(vmmctl(&server.url, bad).code, 2, "{bad:?}");
    }
}

#[test]
fn what_is_measured_is_printed() {
    let usage = json!({"target": "vda", "capacity_bytes": 1024});
    let server = Fake::always(200, usage.clone());
    let text = succeeds(&server.url, &["disk", "usage", "host01", VM, "vda"]);
    assert!(text.contains("capacity_bytes 1024"), "{text}");
    let text =
        succeeds(&server.url, &["-o", "json", "nic", "stats", "host01", VM, "52:54:00:00:00:01"]);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), usage);
    let list = json!([{"name": "s1", "created": "2026-01-01T00:00:00Z", "state": "running",
        "current": true, "description": ""}]);
    let server = Fake::always(200, list);
    assert_eq!(
        succeeds(&server.url, &["-o", "name", "snapshot", "list", "host01", VM]).trim(),
        "s1"
    );
}

#[test]
fn a_seed_is_checked_put_and_renewed() {
    let server = Fake::always(200, operation("reseed", "succeeded"));
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let seed = write("seed.json", r#"{"hostname": "web2"}"#);
    succeeds(&server.url, &["seed", "put", "host01", VM, &seed]);
    succeeds(&server.url, &["seed", "renew", "host01", VM, "--new-instance"]);
    let at = |rest: &str| format!("/v1/hosts/host01/vms/{VM}{rest}");
    assert_eq!(server.lines(), [format!("PUT {}", at("/seed")), format!("POST {}", at("/reseed"))]);
    assert_eq!(server.asked()[0].json(), json!({"hostname": "web2"}));
    assert_eq!(server.asked()[1].json(), json!({"new_instance": true}));
    // Linting asks nobody.
    let good = write("good", "#cloud-config\npackages: [vim]\n");
    assert_eq!(succeeds("https://127.0.0.1:1", &["seed", "lint", &good]), "");
    let bad = write("bad", "#cloud-config\na:\n\tb: c\n");
    let run = vmmctl("https://127.0.0.1:1", &["seed", "lint", &bad]);
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(run.out.contains("bad:3: error: a tab"), "{}", run.out);
    // A cloud-init of this machine is asked too; a stand-in says what the real one says.
    let said = "Error:\nCloud config schema errors: users: 7 is not of type 'array'\n";
    let script = format!(
        "#!/bin/sh\n[ \"$1 $2\" = 'schema --config-file' ] || exit 9\n\
         grep -q users \"$3\" || exit 0\nprintf '%s' \"{said}\" >&2\nexit 1\n"
    );
    let stand_in = write("cloud-init", &script);
    fs::set_permissions(stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let with_schema = |file: &str| {
        let mut command = command("https://127.0.0.1:1", &["seed", "lint", file]);
        Run::from(command.env("PATH", &path).output().unwrap())
    };
    let run = with_schema(&good);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
    let odd = write("odd", "#cloud-config\nusers: 7\n");
    let run = with_schema(&odd);
    assert_eq!(run.code, 1, "{}", run.err);
    let line = "odd: error: cloud-init's schema: users: 7 is not of type 'array'\n";
    assert!(run.out.ends_with(line), "{}", run.out);
}

#[test]
fn the_options_of_hardware_are_passed_on() {
    let server = Fake::always(200, operation("create", "succeeded"));
    succeeds(
        &server.url,
        &[
            "vm",
            "create",
            "host01",
            "--name",
            "w",
            "--firmware",
            "uefi_secure",
            "--tpm",
            "--vcpus-max",
            "4",
            "--memory-max",
            "4096",
            "--cpu-model",
            "maximum",
            "--variable",
            "sound=ich9",
        ],
    );
    let disk =
        ["disk", "attach", "host01", VM, "--size", "1G", "--bus", "scsi", "--disk-format", "raw"];
    succeeds(&server.url, &disk);
    succeeds(&server.url, &["nic", "attach", "host01", VM, "--model", "e1000"]);
    let guest = server.asked()[0].json();
    for (key, value) in [
        ("firmware", json!("uefi_secure")),
        ("tpm", json!(true)),
        ("vcpus_max", json!(4)),
        ("memory_mib_max", json!(4096)),
        ("cpu_model", json!("maximum")),
        ("variables", json!({"sound": "ich9"})),
    ] {
        assert_eq!(guest[key], value, "{key}");
    }
    let device = server.asked()[1].json();
    assert_eq!((&device["bus"], &device["format"]), (&json!("scsi"), &json!("raw")));
    assert_eq!(server.asked()[2].json()["model"], "e1000");
}
