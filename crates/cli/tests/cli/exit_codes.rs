//! What a script learns from the exit code, and a person from standard error.

use std::net::TcpListener;

use serde_json::json;

use crate::support::{Answer, Fake, VM, command, vmmctl};

#[test]
fn each_failure_of_the_api_has_its_exit_code_and_says_why() {
    for (status, code, expected) in [
        (400, "malformed_request", 1),
        (401, "unauthenticated", 4),
        (403, "forbidden", 4),
        (404, "no_such_host", 3),
        (404, "no_such_vm", 3),
        (409, "wrong_state", 5),
        (409, "already_exists", 5),
        (412, "precondition_failed", 5),
        (422, "invalid_value", 1),
        (429, "rate_limited", 1),
        (500, "internal", 1),
        (502, "hypervisor_failed", 1),
        (503, "host_unreachable", 7),
        (504, "deadline", 6),
        (507, "no_space", 1),
    ] {
        let server = Fake::new(move |_| Answer::problem(status, code));
        let run = vmmctl(&server.url, &["host", "list"]);
        assert_eq!(run.code, expected, "{status} {code}: {}", run.err);
        assert_eq!(run.out, "", "{code}");
        for part in ["the reason in words", code, "hint: what to do next", "req-0815"] {
            assert!(run.err.contains(part), "{code}: `{part}` is not in {}", run.err);
        }
    }
}

#[test]
fn an_answer_that_is_none_of_the_apis_is_a_short_failure() {
    let page = format!("<html>{}</html>", "x".repeat(100_000));
    let server = Fake::new(move |_| Answer::text(502, "text/html", &page));
    let run = vmmctl(&server.url, &["vm", "list"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("502") && run.err.len() < 1000, "{} bytes", run.err.len());

    let server = Fake::new(|_| Answer::text(200, "text/html", "<html>a login page</html>"));
    assert_eq!(vmmctl(&server.url, &["vm", "list"]).code, 1);
}

#[test]
fn nobody_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let run = vmmctl(&url, &["host", "list"]);
    assert_eq!(run.code, 7, "{}", run.err);
    assert!(run.err.contains("VMMGR_URL"), "{}", run.err);
}

#[test]
fn wrong_use_is_told_before_anything_is_asked() {
    let server = Fake::always(200, json!([]));
    for arguments in [
        &["vm", "list", "--no-such-flag"][..],
        &["no-such-noun"],
        &["vm", "show", "host01"],
        &["-o", "xml", "host", "list"],
        // A secret in an argument stands in every process list.
        &["--token", "secret", "host", "list"],
        &["login", "--password", "secret"],
        // Nobody can be asked here, so nothing is deleted.
        &["vm", "delete", "host01", VM],
        // Names that would change the path.
        &["vm", "list", ".."],
        &["vm", "show", "host01", "../../session"],
        &["vm", "start", "a/b", VM],
        &["op", "show", "x?y"],
        &["media", "change", "host01", VM, "sda", "--iso", "x", "--seed"],
        &["iso", "add", "x"],
        &["iso", "add", "x", "--path", "/x", "--url", "https://h/x"],
        &["iso", "add", "x", "--path", "/x", "--no-tls-verify"],
    ] {
        let run = vmmctl(&server.url, arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {} {}", run.out, run.err);
    }
    assert_eq!(server.lines(), [""; 0]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let server = Fake::always(200, json!([]));
    for arguments in [
        &["--token-file", "/nonexistent/token", "host", "list"][..],
        &["--ca", "/nonexistent/ca.pem", "host", "list"],
        &["vm", "create", "host01", "--name", "x", "--ssh-key", "/nonexistent/key.pub"],
    ] {
        let run = vmmctl(&server.url, arguments);
        assert_eq!(run.code, 1, "{arguments:?}");
        assert!(run.err.contains("/nonexistent/"), "{}", run.err);
    }
    assert_eq!(server.lines(), [""; 0]);
}

#[test]
fn the_token_goes_to_the_api_and_nowhere_else() {
    let server = Fake::new(|_| Answer::problem(401, "unauthenticated"));
    let mut run = command(&server.url, &["host", "list"]);
    let run = run.env("VMMGR_TOKEN", "the-secret").output().unwrap();
    assert_eq!(server.asked()[0].authorization.as_deref(), Some("Bearer the-secret"));
    for text in [run.stdout, run.stderr] {
        assert!(!String::from_utf8(text).unwrap().contains("the-secret"));
    }

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "from-the-file\n").unwrap();
    let mut run = command(&server.url, &["host", "list", "--token-file", file.to_str().unwrap()]);
    run.env("VMMGR_TOKEN", "from-the-environment").output().unwrap();
    assert_eq!(server.asked()[1].authorization.as_deref(), Some("Bearer from-the-file"));

    vmmctl(&server.url, &["host", "list"]);
    assert_eq!(server.asked()[2].authorization, None);
}

#[test]
fn the_address_of_an_agent_is_not_the_address_of_the_api() {
    let server = Fake::always(201, json!({"name": "host01"}));
    let arguments =
        ["--server", &server.url, "host", "add", "host01", "--url", "https://10.0.0.1:7442"];
    // The flag wins over the environment.
    let run = vmmctl("http://127.0.0.1:1", &arguments);
    assert_eq!(run.code, 0, "{}", run.err);
    let asked = &server.asked()[0];
    assert_eq!(asked.line(), "POST /v1/hosts");
    assert_eq!(
        asked.json(),
        json!({"name": "host01", "url": "https://10.0.0.1:7442", "description": ""})
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let run = command("http://127.0.0.1:9", &["completion", "bash"]).stdout(writer).output();
    let run = run.unwrap();
    assert!(run.status.success(), "{run:?}");
    assert!(run.stderr.is_empty(), "{}", String::from_utf8_lossy(&run.stderr));
}
