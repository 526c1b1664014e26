//! What is refused, with which status, and that nothing half-made is left.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::guest::Guest;
use crate::lab::{HOST, Lab, lab, run, tool_ok, until};

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
    let braces = format!("%7B{ABSENT}%7D");
    let urn = format!("urn:uuid:{ABSENT}");
    for id in [&*upper, &*ABSENT.replace('-', ""), "x", &*braces, &*urn, "a%00b"] {
        for rest in ["", "/xml", "/boot"] {
            let answer = lab.api.get(&format!("/v1/hosts/{HOST}/vms/{id}{rest}"));
            // nginx refuses what no address can hold.
            if id.contains("%00") {
                assert_eq!(answer.0, 400, "{id}");
            } else {
                refused(answer, 422, "invalid_value");
            }
        }
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
        json!({"name": "bad", "template": "no-such-template"}),
        json!({"name": "bad", "variables": {"virt_type": "kvm'><devices/>"}}),
        json!({"name": "bad", "description": "gnp.\u{202e}exe"}),
        json!({"name": "bad", "description": "x".repeat(1001)}),
        json!({"name": "bad", "seed": {"hostname": "{{ 7*7 }}"}}),
        json!({"name": "bad", "seed": {"user": "a\u{0}b"}}),
        json!({"name": "bad", "seed": {"timezone": "../../etc/shadow"}}),
        json!({"name": "bad", "seed": {"locale": "x\ny: z"}}),
        json!({"name": "bad", "seed": {"runcmd": [["echo", "a\nb"]]}}),
        json!({"name": "bad", "seed": {"network": {"address": "10.0.0.1/24\nx"}}}),
        json!({"name": "\u{5e9}\u{5dc}\u{5d5}\u{5dd}"}),
        json!({"name": "{{ 7*7 }}"}),
        json!({"name": "x".repeat(64)}),
    ];
    for body in bodies {
        let problem = lab.api.change("POST", &path, Some(&body)).expect_err(&body.to_string());
        let told = (problem["status"].as_u64(), problem["code"].as_str());
        let absent = body["template"] == "no-such-template";
        let expected = if absent { (404, "no_such_record") } else { (422, "invalid_value") };
        assert_eq!(told, (Some(expected.0), Some(expected.1)), "{body}: {problem}");
    }
    let (status, _) = lab.api.call(&lab.api.token, "POST", &path, Some("{\"name\": "));
    assert_eq!(status, 400);
    assert!(!defined().contains("bad"), "{}", defined());
    // Markup in a text that may hold anything stays text.
    let odd = "{{ 7*7 }}</description><qemu:commandline/><devices><hostdev/></devices>&amp; \u{4e2d}\u{6587}";
    let guest = Guest::define(lab, "odd", &json!({"description": odd}));
    assert_eq!(lab.api.get(&guest.path("")).1["description"], odd);
    guest.delete();
}

#[test]
fn a_template_that_asks_for_qemu_arguments_makes_no_guest() {
    let Some(lab) = lab("templates") else { return };
    let _alone = lab.alone();
    let built_in =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/host-agent/templates/domain/x86_64.xml.j2");
    let good = fs_err::read_to_string(built_in).unwrap();
    let evil = good.replace(
        "</domain>",
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\
         <qemu:arg value='-chardev'/></qemu:commandline></domain>",
    );
    assert_ne!(good, evil);
    let path = lab.state.join("templates/evil.xml.j2");
    fs_err::write(&path, evil).unwrap();
    tool_ok("stack", &["stop", "host-agent"]);
    tool_ok("stack", &["start", "host-agent"]);
    let body = json!({"name": "evil", "template": "evil"});
    let problem = until("the host is back", Duration::from_secs(20), || {
        let made = lab.api.change("POST", &format!("/v1/hosts/{HOST}/vms"), Some(&body));
        let problem = made.expect_err("the template was taken");
        if problem["code"] == "host_unreachable" { Err(problem.to_string()) } else { Ok(problem) }
    });
    assert_eq!(
        (&problem["status"], &problem["code"]),
        (&json!(422), &json!("xml_refused")),
        "{problem}"
    );
    assert!(!defined().contains("evil"), "{}", defined());
    fs_err::remove_file(&path).unwrap();
    tool_ok("stack", &["stop", "host-agent"]);
    tool_ok("stack", &["start", "host-agent"]);
}

#[test]
fn sizes_and_devices_that_cannot_be_leave_no_volume() {
    let Some(lab) = lab("attach") else { return };
    let _peace = lab.peace();
    let guest = Guest::define(lab, "sizes", &json!({}));
    let before = lab.leftovers(&guest.id);
    let disk = |size: &str, gold: Option<&str>| {
        let mut body = json!({"device": "local-disk", "size": size});
        if let Some(gold) = gold {
            body["gold"] = json!(gold);
        }
        body
    };
    let attempts = [
        ("/disks", disk("10GG", None), 422, "invalid_value"),
        ("/disks", disk("-1", None), 422, "invalid_value"),
        ("/disks", disk("99999999T", None), 422, "invalid_value"),
        ("/disks", json!({"device": "no-such-device", "size": "1G"}), 404, "no_such_record"),
        ("/disks", json!({"device": "net-br-ext", "size": "1G"}), 422, "invalid_value"),
        ("/disks", disk("1G", Some("no-such-gold")), 404, "no_such_record"),
        ("/disks", disk("8M", Some("busybox")), 422, "invalid_value"),
        ("/disks", disk("1G", Some("../../etc/passwd")), 422, "invalid_value"),
        (
            "/nics",
            json!({"device": "net-br-ext", "mac": "01:00:5e:00:00:01"}),
            422,
            "invalid_value",
        ),
        ("/cdroms", json!({"device": "cdrom", "iso": "no-such-iso"}), 404, "no_such_record"),
    ];
    for (rest, body, status, code) in attempts {
        let problem =
            lab.api.change("POST", &guest.path(rest), Some(&body)).expect_err(&body.to_string());
        let told = (problem["status"].as_u64(), problem["code"].as_str());
        assert_eq!(told, (Some(status), Some(code)), "{body}: {problem}");
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
    let whole = format!("{dir}/whole.qcow2");
    run("qemu-img", &["convert", "-O", "qcow2", "/bin/busybox", &whole]);
    let bytes = fs_err::read(&whole).unwrap();
    fs_err::write(format!("{dir}/cut.qcow2"), &bytes[..bytes.len() / 2]).unwrap();
    let extents = format!("{dir}/extents.qcow2");
    let split = ["-o", "subformat=twoGbMaxExtentFlat"];
    run("qemu-img", &[&["create", "-q", "-f", "vmdk"], &split[..], &[&extents, "64M"]].concat());
    let guest = Guest::define(lab, "unfit", &json!({}));
    let before = lab.leftovers(&guest.id);
    let text = format!("{dir}/text.qcow2");
    let cut = format!("{dir}/cut.qcow2");
    let origins = [
        ("backed", backed.as_str(), "unfit_image"),
        ("outside", &outside, "unfit_image"),
        ("text", &text, "unfit_image"),
        ("cut", &cut, "unfit_image"),
        ("extents", &extents, "unfit_image"),
        ("passwd", "/etc/passwd", "invalid_value"),
        ("up", "/var/cache/vmmgr/../../../etc/passwd", "invalid_value"),
    ];
    for (name, uri, code) in origins {
        let (status, answer) =
            lab.api.post("/v1/images", &json!({"name": name, "arch": "x86_64", "uri": uri}));
        assert_eq!(status, 201, "{answer}");
        let body = json!({"device": "local-disk", "size": "1G", "gold": name});
        let problem = lab.api.change("POST", &guest.path("/disks"), Some(&body)).expect_err(name);
        let told = (problem["status"].as_u64(), problem["code"].as_str());
        assert_eq!(told, (Some(422), Some(code)), "{name}: {problem}");
        let gone =
            lab.api.call(&lab.api.token, "DELETE", &format!("/v1/images/{name}/x86_64"), None);
        assert_eq!(gone.0, 204);
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
