//! Lists as a table, as JSON and as names.

use serde_json::{Value, json};
use vmmgr_common::api::domain::Domain;

use crate::support::{Answer, Fake, VM, succeeds};

fn guests() -> Value {
    let guests = json!([{
        "host": "host01", "host_state": "reachable", "age_seconds": 0, "id": VM,
        "name": format!("web-{VM}"), "description": "", "arch": "x86_64", "state": "running",
        "vcpus": 2, "vcpus_max": 4, "memory_kib": 786_432, "memory_kib_max": 1_048_576,
        "cpu_time_ns": 1,
    }]);
    // The rows are what the API sends, or this test says nothing.
    serde_json::from_value::<Domain>(guests[0].clone()).unwrap();
    guests
}

/// Cells of each line; how wide a column is may change with its content.
fn cells(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect()
}

#[test]
fn guests_are_listed_for_people_scripts_and_pipes() {
    let server = Fake::always(200, guests());
    let name = format!("web-{VM}");
    assert_eq!(
        cells(&succeeds(&server.url, &["vm", "list"])),
        [
            vec!["ID", "HOST", "HOST STATE", "STATE", "VCPUS", "MEMORY KIB", "NAME"],
            vec![VM, "host01", "reachable", "running", "2", "786432", name.as_str()],
        ]
    );
    let json: Value =
        serde_json::from_str(&succeeds(&server.url, &["-o", "json", "vm", "list", "host01"]))
            .unwrap();
    assert_eq!(json, guests());
    assert_eq!(succeeds(&server.url, &["list", "-o", "name"]), format!("{VM}\n"));
    assert_eq!(server.lines(), ["GET /v1/vms", "GET /v1/hosts/host01/vms", "GET /v1/vms"]);
}

#[test]
fn hosts_and_records_show_what_an_operator_looks_for() {
    let server = Fake::new(|asked| {
        Answer::json(
            200,
            &match asked.target.as_str() {
                "/v1/hosts" => json!([
                    {"name": "host01", "url": "https://127.0.0.1:7442", "description": "", "modified": "", "state": "reachable",
                     "age_seconds": 1, "active": 3, "inactive": 2, "info": {"arch": "x86_64", "virt_type": "kvm"}},
                    {"name": "host02", "url": "https://127.0.0.1:8442", "description": "", "modified": "", "state": "unreachable",
                     "reason": "no route", "age_seconds": 90, "active": 0, "inactive": 0, "info": null},
                ]),
                "/v1/images" => {
                    json!([{"name": "debian12", "arch": "x86_64", "uri": "https://images/d.raw", "description": ""}])
                }
                "/v1/isos" => {
                    json!([{"name": "rescue", "path": "/isos/r.iso", "description": "a rescue"}])
                }
                other => panic!("{other}"),
            },
        )
    });
    assert_eq!(
        cells(&succeeds(&server.url, &["host", "list"])),
        [
            ["NAME", "STATE", "ARCH", "VIRT", "RUNNING", "OFF", "URL"],
            ["host01", "reachable", "x86_64", "kvm", "3", "2", "https://127.0.0.1:7442"],
            ["host02", "unreachable", "-", "-", "0", "0", "https://127.0.0.1:8442"],
        ]
    );
    assert_eq!(
        cells(&succeeds(&server.url, &["image", "list"]))[1],
        ["debian12", "x86_64", "https://images/d.raw", "-"]
    );
    assert_eq!(
        cells(&succeeds(&server.url, &["iso", "list"]))[1],
        ["rescue", "/isos/r.iso", "-", "a rescue"]
    );
}

#[test]
fn a_terminal_does_not_obey_what_a_guest_is_called() {
    let server = Fake::always(200, json!([{"id": VM, "name": "x\u{1b}]0;owned\u{7}\nfake row"}]));
    for format in ["table", "name", "json"] {
        let out = succeeds(&server.url, &["-o", format, "vm", "list"]);
        assert!(!out.contains(['\u{1b}', '\u{7}']), "{format}: {out:?}");
    }
    assert_eq!(succeeds(&server.url, &["vm", "list"]).lines().count(), 2);
}

#[test]
fn no_guests_are_no_names() {
    let server = Fake::always(200, json!([]));
    assert_eq!(succeeds(&server.url, &["-o", "name", "vm", "list"]), "");
}

#[test]
fn a_definition_is_printed_as_libvirt_has_it() {
    let server = Fake::new(|_| Answer::text(200, "text/xml", "<domain/>\n"));
    assert_eq!(succeeds(&server.url, &["vm", "xml", "host01", VM]), "<domain/>\n");
    assert_eq!(server.lines(), [format!("GET /v1/hosts/host01/vms/{VM}/xml")]);
}

#[test]
fn a_login_sends_the_password_and_prints_the_token() {
    let server =
        Fake::always(200, json!({"token": "abc.def", "token_type": "Bearer", "expires_in": 900}));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "pass word \n").unwrap();
    let arguments = ["login", "--username", "admin", "--password-file", file.to_str().unwrap()];
    assert_eq!(succeeds(&server.url, &arguments), "abc.def\n");
    let asked = &server.asked()[0];
    assert_eq!(asked.line(), "POST /v1/session");
    // Only the newline is the file's; blanks are the password's.
    assert_eq!(asked.json(), json!({"username": "admin", "password": "pass word "}));
}
