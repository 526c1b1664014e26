//! What every service owes its operator: honest configuration, logs, readiness, and an orderly end.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guest::Guest;
use crate::lab::{HOST, Lab, lab, run, tool, tool_ok, until};

const SERVICES: [(&str, u16); 4] =
    [("api-gateway", 9441), ("host-agent", 9442), ("metadata-srv", 9443), ("vnc-proxy", 9444)];

fn binary(name: &str) -> String {
    let target = std::env::var("CARGO_TARGET_DIR")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../target").to_owned());
    format!("{target}/debug/{name}")
}

#[test]
fn a_key_that_a_service_does_not_know_is_refused_with_file_and_name() {
    let Some(lab) = lab("unknown keys") else { return };
    let _peace = lab.peace();
    for (name, _) in SERVICES {
        let good = fs_err::read_to_string(lab.run.join(format!("etc/{name}.toml"))).unwrap();
        let path = lab.run.join(format!("bad-{name}.toml"));
        let in_a_section = good.replace("[log]", "[log]\nfromat = \"json\"");
        for (key, text) in [("lsiten", format!("lsiten = 1\n{good}")), ("fromat", in_a_section)] {
            fs_err::write(&path, text).unwrap();
            for command in [&["check-config"][..], &[]] {
                let started = Command::new(binary(name))
                    .args(command)
                    .arg("--config")
                    .arg(&path)
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&started.stderr).into_owned();
                assert!(!started.status.success(), "{name} took `{key}`");
                assert!(said.contains(path.to_str().unwrap()), "{name}: {said}");
                assert!(said.contains(key), "{name}: {said}");
            }
        }
        fs_err::remove_file(&path).unwrap();
    }
}

/// Lines of a service's log that carry this request id.
fn lines(lab: &Lab, service: &str, request: &str) -> Vec<Value> {
    let text = fs_err::read_to_string(lab.run.join(format!("log/{service}.log"))).unwrap();
    let found = text.lines().filter(|line| line.contains(request));
    found
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

#[test]
fn one_request_has_one_id_in_the_logs_of_all_services() {
    let Some(lab) = lab("request ids") else { return };
    let _peace = lab.peace();
    let body = json!({"name": "traced", "memory_mib": 160, "seed": {"hostname": "traced"}});
    let path = format!("/v1/hosts/{HOST}/vms?wait_ms=30000");
    let (status, request, operation) = lab.api.call_for("POST", &path, Some(&body), "x-request-id");
    assert_eq!(status, 200, "{operation}");
    for service in ["api-gateway", "host-agent", "metadata-srv"] {
        until(&format!("{service} logs {request}"), Duration::from_secs(10), || {
            let lines = lines(lab, service, &request);
            if lines.iter().any(|line| line["request_id"] == request.as_str()) {
                Ok(())
            } else {
                Err(format!("{lines:?}"))
            }
        });
    }
    let vm = operation["vm"].as_str().unwrap();
    let agent = lines(lab, "host-agent", &request);
    assert!(agent.iter().any(|line| line["vm.id"] == vm), "{agent:?}");
    lab.api.change("DELETE", &format!("/v1/hosts/{HOST}/vms/{vm}"), None).unwrap();
}

fn conditions(port: u16) -> (u16, Value) {
    let url = format!("http://127.0.0.1:{port}/readyz");
    let text = run("curl", &["-s", "-w", "\n%{http_code}", &url]);
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[test]
fn readiness_names_the_condition_that_fails() {
    let Some(lab) = lab("readiness") else { return };
    let _alone = lab.alone();
    for (name, port) in SERVICES {
        let (status, body) = conditions(port);
        assert_eq!((status, &body["ready"]), (200, &json!(true)), "{name}: {body}");
    }
    tool_ok("stack", &["kill", "libvirtd"]);
    until("the agent is not ready", Duration::from_secs(10), || {
        let (status, body) = conditions(9442);
        let told = body["conditions"]["libvirt"].as_str().unwrap_or_default();
        if status == 503 && told.contains("libvirtd") { Ok(()) } else { Err(body.to_string()) }
    });
    tool_ok("stack", &["start", "libvirtd"]);
    until("the agent is ready", Duration::from_secs(10), || {
        let (status, body) = conditions(9442);
        if status == 200 { Ok(()) } else { Err(body.to_string()) }
    });
}

/// A sparse file of zeros below the cache folder; reading it all takes longer than a drain.
fn large_image(lab: &Lab) -> (String, String) {
    let cache = std::env::var("VMMGR_CACHE").unwrap_or_else(|_| "/var/cache/vmmgr".to_owned());
    let name = lab.run.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let dir = format!("{cache}/e2e-large-{name}");
    fs_err::create_dir_all(&dir).unwrap();
    let path = format!("{dir}/large.raw");
    run("truncate", &["-s", "12G", &path]);
    (dir, path)
}

#[test]
fn a_service_that_is_told_to_stop_ends_in_time_and_its_work_goes_on_after() {
    let Some(lab) = lab("SIGTERM") else { return };
    let _alone = lab.alone();
    let guest = Guest::define(lab, "drained", &json!({}));
    let (dir, uri) = large_image(lab);
    let image = json!({"name": "large", "arch": "x86_64", "uri": uri});
    assert_eq!(lab.api.post("/v1/images", &image).0, 201);
    let body = json!({"device": "local-disk", "size": "12G", "gold": "large"});
    let (status, accepted) = lab.api.post(&guest.path("/disks"), &body);
    assert_eq!(status, 202, "{accepted}");
    let place = format!("/v1/operations/{}", accepted["id"].as_str().unwrap());
    // A request that waits for the end of the work is under way in both services.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| lab.api.get(&format!("{place}/events")));
        until("the image is being brought", Duration::from_secs(10), || {
            let parts = fs_err::read_dir(lab.state.join("images")).unwrap();
            let names: Vec<_> = parts.map(|entry| entry.unwrap().file_name()).collect();
            let found = names.iter().any(|name| name.to_string_lossy().starts_with(".part-"));
            if found { Ok(()) } else { Err(format!("{names:?}")) }
        });
        for service in ["host-agent", "api-gateway", "metadata-srv", "vnc-proxy"] {
            let begun = Instant::now();
            // The script kills after 15 s; a service that drains is faster.
            assert!(tool("stack", &["stop", service]).status.success());
            let took = begun.elapsed();
            eprintln!("{service} ended {took:?} after SIGTERM");
            assert!(took < Duration::from_secs(11), "{service} took {took:?}");
        }
        // Its stream was cut; nothing more was promised.
        drop(waiting.join());
    });
    for service in ["metadata-srv", "host-agent", "api-gateway", "vnc-proxy"] {
        tool_ok("stack", &["start", service]);
    }
    // Nobody asks for it by its id, and yet its end is told.
    let ended = until("the operation's end", Duration::from_secs(180), || {
        let (_, all) = lab.api.get(&format!("/v1/operations?vm={}", guest.id));
        let state = all[0]["state"].as_str().unwrap_or("none").to_owned();
        if ["succeeded", "failed"].contains(&&*state) { Ok(all[0].clone()) } else { Err(state) }
    });
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(lab.leftovers(&guest.id).iter().filter(|name| name.contains("vda")).count(), 1);
    guest.delete();
    assert_eq!(lab.api.call(&lab.api.token, "DELETE", "/v1/images/large/x86_64", None).0, 204);
    fs_err::remove_dir_all(&dir).unwrap();
}
