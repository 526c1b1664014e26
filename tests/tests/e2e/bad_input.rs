//! What is refused, with which status, and that nothing half-made is left.

use std::process::Command;

use serde_json::{Value, json};

use crate::guest::Guest;
use crate::lab::{HOST, Lab, lab, run};

const ABSENT: &str = "6f5d8bf6-d580-4946-9541-13fa98b4acf4";

fn refused(answer: (u16, Value), status: u16, code: &str) {
    assert_eq!((answer.0, answer.1["code"].as_str()), (status, Some(code)), "{}", answer.1);
    assert!(answer.1["detail"].is_string() && answer.1["request_id"].is_string(), "{}", answer.1);
}

fn defined() -> String {
    run("virsh", &["-c", "qemu:///system", "list", "--all", "--name"])
}

#[test]
fn callers_without_a_good_token_are_nobody() {
    let Some(lab) = lab("tokens") else { return };
    let _peace = lab.peace();
    let good = lab.api.token.clone();
    let parts: Vec<&str> = good.split('.').collect();
    let turned: String = parts[2].chars().rev().collect();
    let forged = [
        String::new(),
        "x".to_owned(),
        format!("{}.{}.{turned}", parts[0], parts[1]),
        format!("{}.{}.", parts[0], parts[1]),
        // {"alg":"none","typ":"JWT"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts[1]),
        format!("{good}{good}"),
    ];
    for token in &forged {
        refused(lab.api.call(token, "GET", "/v1/vms", None), 401, "unauthenticated");
        refused(
            lab.api.call(token, "DELETE", &format!("/v1/hosts/{HOST}/vms/{ABSENT}"), None),
            401,
            "unauthenticated",
        );
    }
    let login = |name: &str, password: &str| {
        lab.api.call(
            "",
            "POST",
            "/v1/session",
            Some(&json!({"username": name, "password": password}).to_string()),
        )
    };
    let (wrong, unknown) = (login("admin", "wrong"), login("nobody", "wrong"));
    assert_eq!((wrong.0, unknown.0), (401, 401));
    assert_eq!(wrong.1["detail"], unknown.1["detail"], "the answer tells which accounts exist");
}

#[test]
fn things_that_are_not_there_and_names_that_are_none() {
    let Some(lab) = lab("names") else { return };
    let _peace = lab.peace();
    refused(lab.api.get("/v1/hosts/host99"), 404, "no_such_host");
    refused(lab.api.get("/v1/hosts/host99/vms"), 404, "no_such_host");
    refused(lab.api.get(&format!("/v1/hosts/{HOST}/vms/{ABSENT}")), 404, "no_such_vm");
    refused(lab.api.get("/v1/nonsense"), 404, "no_such_route");
    let upper = ABSENT.to_uppercase();
    for id in [upper.as_str(), &ABSENT.replace('-', ""), "x", "..%2f..%2fetc", "%7B6f5d8bf6%7D"] {
        let (status, body) = lab.api.get(&format!("/v1/hosts/{HOST}/vms/{id}"));
        assert!((400..500).contains(&status), "{id}: {status} {body}");
    }
    for rest in ["/start", "/reset", "/poweroff", "/shutdown"] {
        let problem = lab
            .api
            .change("POST", &format!("/v1/hosts/{HOST}/vms/{ABSENT}{rest}"), None)
            .unwrap_err();
        assert_eq!(problem["code"], "no_such_vm", "{rest}: {problem}");
    }
}

#[test]
fn hostile_texts_make_no_guest() {
    let Some(lab) = lab("hostile texts") else { return };
    let _peace = lab.peace();
    let path = format!("/v1/hosts/{HOST}/vms");
    let bodies = [
        json!({"name": "../../etc"}),
        json!({"name": "bad<name"}),
        json!({"name": "bad", "memory_mib": 0}),
        json!({"name": "bad", "vcpus": 100_000}),
        json!({"name": "bad", "description": "a\u{0}b"}),
        json!({"name": "bad", "seed": {"hostname": "a b"}}),
        json!({"name": "bad", "seed": {"user": "root: ALL"}}),
        json!({"name": "bad", "seed": {"password_hash": "clear text"}}),
        json!({"name": "bad", "seed": {"ssh_keys": ["ssh-ed25519 AAAA\nruncmd: [reboot]"]}}),
        json!({"name": "bad", "id": ABSENT}),
        json!({"name": "bad", "template": "../x"}),
        json!({"name": "bad", "variables": {"virt_type": "kvm'><devices/>"}}),
    ];
    for body in bodies {
        let problem = lab.api.change("POST", &path, Some(&body)).expect_err(&body.to_string());
        let status = problem["status"].as_u64().unwrap();
        assert!((400..500).contains(&status), "{body}: {problem}");
    }
    let (status, _) = lab.api.call(&lab.api.token, "POST", &path, Some("{\"name\": "));
    assert_eq!(status, 400);
    assert!(!defined().contains("bad"), "{}", defined());
    // Markup in a text that may hold anything stays text.
    let odd = "</description><devices><hostdev/></devices>&amp; \u{4e2d}\u{6587}";
    let guest = Guest::define(lab, "odd", &json!({"description": odd}));
    assert_eq!(lab.api.get(&guest.path("")).1["description"], odd);
    guest.delete();
}

#[test]
fn sizes_and_devices_that_cannot_be_leave_no_volume() {
    let Some(lab) = lab("attach") else { return };
    let _peace = lab.peace();
    let guest = Guest::define(lab, "sizes", &json!({}));
    let before = lab.leftovers(&guest.id);
    let attempts = [
        ("/disks", json!({"device": "local-disk", "size": "10GG"})),
        ("/disks", json!({"device": "local-disk", "size": "-1"})),
        ("/disks", json!({"device": "local-disk", "size": "99999999T"})),
        ("/disks", json!({"device": "no-such-device", "size": "1G"})),
        ("/disks", json!({"device": "net-br-ext", "size": "1G"})),
        ("/disks", json!({"device": "local-disk", "size": "1G", "gold": "no-such-gold"})),
        ("/disks", json!({"device": "local-disk", "size": "8M", "gold": "busybox"})),
        ("/nics", json!({"device": "net-br-ext", "mac": "01:00:5e:00:00:01"})),
        ("/cdroms", json!({"device": "cdrom", "iso": "no-such-iso"})),
    ];
    for (rest, body) in attempts {
        let problem =
            lab.api.change("POST", &guest.path(rest), Some(&body)).expect_err(&body.to_string());
        let status = problem["status"].as_u64().unwrap();
        assert!((400..500).contains(&status), "{body}: {problem}");
    }
    assert_eq!(lab.leftovers(&guest.id), before);
    guest.delete();
}

#[test]
fn a_gold_image_that_reads_other_files_is_refused() {
    let Some(lab) = lab("images") else { return };
    let _peace = lab.peace();
    // Origins must be below the cache folder, which outlives this lab.
    let dir = std::env::var("VMMGR_CACHE").unwrap_or_else(|_| "/var/cache/vmmgr".to_owned());
    let dir =
        format!("{dir}/e2e-{}", lab.run.parent().unwrap().file_name().unwrap().to_string_lossy());
    fs_err::create_dir_all(&dir).unwrap();
    let image = |name: &str, arguments: &[&str]| {
        let path = format!("{dir}/{name}.qcow2");
        run("qemu-img", &[&["create", "-q", "-f", "qcow2"], arguments, &[&path, "64M"]].concat());
        path
    };
    let data = format!("data_file={dir}/data.raw");
    let backed = image("backed", &["-b", "/etc/passwd", "-F", "raw"]);
    let outside = image("outside", &["-o", &data]);
    fs_err::write(format!("{dir}/text.qcow2"), "no image").unwrap();
    let guest = Guest::define(lab, "unfit", &json!({}));
    let before = lab.leftovers(&guest.id);
    let text = format!("{dir}/text.qcow2");
    let origins = [
        ("backed", backed.as_str()),
        ("outside", &outside),
        ("text", &text),
        ("passwd", "/etc/passwd"),
        ("up", "/var/cache/vmmgr/../../../etc/passwd"),
    ];
    for (name, uri) in origins {
        let (status, answer) =
            lab.api.post("/v1/images", &json!({"name": name, "arch": "x86_64", "uri": uri}));
        if status >= 400 {
            continue;
        }
        assert_eq!(status, 201, "{answer}");
        let body = json!({"device": "local-disk", "size": "1G", "gold": name});
        let problem = lab.api.change("POST", &guest.path("/disks"), Some(&body)).expect_err(name);
        let status = problem["status"].as_u64().unwrap();
        assert!((400..500).contains(&status), "{name}: {problem}");
    }
    assert_eq!(lab.leftovers(&guest.id), before);
    guest.delete();
    fs_err::remove_dir_all(&dir).unwrap();
}

/// Status of a call to an internal listener with the certificate of a role.
fn internal(lab: &Lab, role: Option<&str>, port: u16, path: &str) -> Result<u16, i32> {
    let pki = lab.state.join("pki");
    let mut curl = Command::new("curl");
    // Names inside are roles, not addresses; who we are is what is tested here.
    curl.args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10"]);
    if let Some(role) = role {
        curl.arg("--cert").arg(pki.join(format!("{role}.pem")));
        curl.arg("--key").arg(pki.join(format!("{role}.key")));
    }
    let output = curl.arg(format!("https://127.0.0.1:{port}{path}")).output().unwrap();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).parse().unwrap()),
        code => Err(code.unwrap_or(-1)),
    }
}

#[test]
fn internal_listeners_take_their_own_roles_only() {
    let Some(lab) = lab("roles") else { return };
    let _peace = lab.peace();
    let listeners = [
        (7441, "/v1/vms", &["gateway", "host-agent", "metadata"][..]),
        (7442, "/v1/inventory", &["nginx", "metadata", "host-agent"]),
        (
            7443,
            "/v1/seeds/6f5d8bf6-d580-4946-9541-13fa98b4acf4/boot",
            &["nginx", "gateway", "operator"],
        ),
    ];
    for (port, path, wrong) in listeners {
        assert!(
            internal(lab, None, port, path).is_err(),
            "{port} takes callers without a certificate"
        );
        for role in wrong {
            assert_eq!(internal(lab, Some(role), port, path), Ok(403), "{role} at {port}");
        }
    }
    assert_eq!(internal(lab, Some("gateway"), 7442, "/v1/inventory"), Ok(200));
    // nginx's certificate carries requests; it is no caller of its own.
    assert_eq!(internal(lab, Some("nginx"), 7441, "/v1/vms"), Ok(401));
}

#[test]
fn a_host_that_is_down_cannot_be_registered_and_leaves_no_record() {
    let Some(lab) = lab("a host that is down") else { return };
    let _peace = lab.peace();
    let body = json!({"name": "host77", "url": "https://127.0.0.1:1"});
    let (status, answer) = lab.api.post("/v1/hosts", &body);
    assert!([502, 503, 504].contains(&status), "{status} {answer}");
    refused(lab.api.get("/v1/hosts/host77"), 404, "no_such_host");
    // An agent answers, but its certificate names another host.
    let body = json!({"name": "host78", "url": "https://127.0.0.1:7442"});
    let (status, answer) = lab.api.post("/v1/hosts", &body);
    assert!(status >= 400, "{status} {answer}");
    refused(lab.api.get("/v1/hosts/host78"), 404, "no_such_host");
}
