//! Links, the pool of addresses, and the record files.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Answer, Fake, VM, succeeds, vmmctl};

#[test]
fn a_link_is_made_printed_once_and_revoked() {
    let link = json!({"id": "abc", "token": "aG9zdDAx", "path": "host01/…", "verbs": ["list"]});
    let server = Fake::always(201, link);
    let arguments =
        ["link", "create", "host01", VM, "--verbs", "list,start", "--days", "2", "--uses", "3"];
    assert_eq!(succeeds(&server.url, &arguments), "aG9zdDAx\n");
    assert_eq!(
        server.asked()[0].json(),
        json!({"verbs": ["list", "start"], "expires_in_seconds": 172_800, "label": "", "uses": 3})
    );
    let server =
        Fake::always(200, json!([{"id": "abc", "label": "bob", "verbs": ["list"], "used": 1}]));
    let table = succeeds(&server.url, &["link", "list", "host01", VM]);
    assert!(table.starts_with("ID") && table.contains("abc"), "{table}");
    assert!(succeeds(&server.url, &["link", "revoke", "host01", VM, "abc"]).contains("abc"));
    let at = format!("/v1/hosts/host01/vms/{VM}/links");
    assert_eq!(server.lines(), [format!("GET {at}"), format!("DELETE {at}/abc")]);
    // A name that would lead elsewhere is not asked for.
    assert_ne!(vmmctl(&server.url, &["link", "revoke", "host01", VM, "../x"]).code, 0);
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn addresses_are_added_shown_and_given_back() {
    let server = Fake::new(|asked| {
        Answer::json(
            200,
            &match asked.line().as_str() {
                "GET /v1/addresses" => json!([{"id": "r1", "prefix": 24, "total": 3, "free": 2}]),
                "GET /v1/free-address" => json!({"address": "10.0.0.7/24"}),
                _ => json!({"id": "r1"}),
            },
        )
    });
    let address = |arguments: &[&str]| succeeds(&server.url, &[&["address"], arguments].concat());
    assert!(address(&["list"]).contains("r1"));
    assert_eq!(address(&["free"]), "10.0.0.7/24\n");
    address(&[
        "add",
        "10.0.0.0/24",
        "--gateway",
        "10.0.0.1",
        "--first",
        "10.0.0.5",
        "--last",
        "10.0.0.7",
    ]);
    address(&["release", "r1", "10.0.0.7"]);
    address(&["remove", "r1"]);
    assert_eq!(
        server.lines(),
        [
            "GET /v1/addresses",
            "GET /v1/free-address",
            "POST /v1/addresses",
            "DELETE /v1/addresses/r1/reservations/10.0.0.7",
            "DELETE /v1/addresses/r1",
        ]
    );
    assert_eq!(
        server.asked()[2].json(),
        json!({"cidr": "10.0.0.0/24", "gateway": "10.0.0.1", "first": "10.0.0.5", "last": "10.0.0.7"})
    );
    let half = vmmctl(&server.url, &["address", "add", "10.0.0.0/24", "--first", "10.0.0.5"]);
    assert_ne!(half.code, 0, "a part has two ends");
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn record_files_go_in_under_their_names_and_come_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("iso.json");
    fs::write(&file, r#"[{"name": "a", "uri": "/srv/iso/a.iso"}]"#).unwrap();
    let (file, out) = (file.to_str().unwrap(), dir.path().join("out"));
    let report = json!([{"file": "iso.json", "name": "a", "fate": "written", "detail": ""}]);
    let server = Fake::always(200, report);
    assert!(succeeds(&server.url, &["import", file]).contains("written"));
    assert_eq!(
        server.asked()[0].json(),
        json!({"iso.json": [{"name": "a", "uri": "/srv/iso/a.iso"}]})
    );
    let twice = vmmctl(&server.url, &["import", file, file]);
    assert!(twice.code != 0 && twice.err.contains("iso.json is given twice"), "{}", twice.err);
    fs::write(dir.path().join("golds.json"), "{").unwrap();
    let broken = dir.path().join("golds.json");
    assert_ne!(vmmctl(&server.url, &["import", broken.to_str().unwrap()]).code, 0);
    assert_eq!(server.asked().len(), 1, "what cannot be read is not sent");
    let server = Fake::always(200, json!({"iso.json": [{"name": "a"}], "vars.json": {}}));
    succeeds(&server.url, &["export", out.to_str().unwrap()]);
    let written: Value = serde_json::from_slice(&fs::read(out.join("iso.json")).unwrap()).unwrap();
    assert_eq!(written, json!([{"name": "a"}]));
    assert_eq!(fs::read_dir(out).unwrap().count(), 2);
    // A server that names a file elsewhere writes nothing there.
    let server = Fake::always(200, json!({"../evil.json": []}));
    let into = dir.path().join("in");
    assert_ne!(vmmctl(&server.url, &["export", into.to_str().unwrap()]).code, 0);
    assert!(!dir.path().join("evil.json").exists());
}

#[test]
fn the_map_of_the_described_system_names_commands_that_exist() {
    let page = include_str!("../../../../docs/seed-map.md");
    let spans = page.split('`').skip(1).step_by(2);
    let commands: Vec<&str> = spans.filter_map(|span| span.strip_prefix("vmmctl ")).collect();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let run = vmmctl("https://127.0.0.1:1", &words);
        assert_eq!(run.code, 0, "vmmctl {command}: {}", run.err);
    }
}
