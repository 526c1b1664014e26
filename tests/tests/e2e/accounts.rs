//! Accounts, as an operator handles them with `vmmctl`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::api::URL;
use crate::lab::{Lab, lab, program};

/// `vmmctl` of whoever `token` is; `typed` is its standard input.
fn vmmctl(lab: &Lab, token: &str, arguments: &[&str], typed: &str) -> Output {
    vmmctl_at(URL, lab, token, arguments, typed)
}

/// The same, at another site.
pub(crate) fn vmmctl_at(
    url: &str,
    lab: &Lab,
    token: &str,
    arguments: &[&str],
    typed: &str,
) -> Output {
    let mut child = Command::new(program("vmmctl"))
        .args(["--server", url])
        .args(arguments)
        .env("VMMGR_CA", lab.state.join("pki/ca.pem"))
        .env("VMMGR_TOKEN", token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments does not read.
    match child.stdin.take().unwrap().write_all(typed.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        other => other.unwrap(),
    }
    child.wait_with_output().unwrap()
}

fn said(lab: &Lab, token: &str, arguments: &[&str], typed: &str) -> String {
    let output = vmmctl(lab, token, arguments, typed);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn an_account_is_made_used_changed_and_removed_on_the_command_line() {
    let Some(lab) = lab("vmmctl user") else { return };
    let _peace = lab.peace();
    let admin = lab.api.token.clone();
    said(lab, &admin, &["user", "add", "eve", "--role", "viewer"], "correct horse\n");
    let again = vmmctl(lab, &admin, &["user", "add", "eve", "--role", "viewer"], "correct horse\n");
    assert!(!again.status.success(), "{again:?}");
    let token = said(lab, "", &["login", "--username", "eve"], "correct horse\n");
    assert_eq!(said(lab, &token, &["whoami"], ""), "eve (viewer)");
    let refused = vmmctl(lab, &token, &["user", "list"], "");
    assert!(!refused.status.success(), "{refused:?}");

    said(lab, &admin, &["user", "set-role", "eve", "operator"], "");
    let old = vmmctl(lab, &token, &["whoami"], "");
    assert!(!old.status.success(), "a session of before goes on: {old:?}");
    said(lab, &admin, &["user", "set-password", "eve"], "battery staple\n");
    let wrong = vmmctl(lab, "", &["login", "--username", "eve"], "correct horse\n");
    assert!(!wrong.status.success(), "{wrong:?}");
    let token = said(lab, "", &["login", "--username", "eve"], "battery staple\n");
    assert_eq!(said(lab, &token, &["whoami"], ""), "eve (operator)");
    let blind = vmmctl(lab, &token, &["password"], "battery staple\n");
    assert!(String::from_utf8_lossy(&blind.stderr).contains("--old-file"), "{blind:?}");

    let script = said(lab, &token, &["token", "create", "ci", "--role", "viewer"], "");
    assert_eq!(said(lab, &script, &["whoami"], ""), "eve (viewer)");
    let other = said(lab, &token, &["token", "create", "other"], "");
    let id = said(lab, &other, &["-o", "json", "token", "list"], "");
    let listed: serde_json::Value = serde_json::from_str(&id).unwrap();
    let ci = listed.as_array().unwrap().iter().find(|token| token["name"] == "ci").unwrap();
    said(lab, &token, &["token", "revoke", ci["id"].as_str().unwrap()], "");
    assert!(!vmmctl(lab, &script, &["whoami"], "").status.success(), "it was revoked");

    // All of that is in the audit log, which is whole; a file with a change in it is not.
    assert!(said(lab, &admin, &["audit", "verify"], "").contains("records are whole"));
    let log = said(lab, &admin, &["audit", "export"], "");
    assert!(log.lines().any(|line| line.contains("/v1/users/eve") && line.contains("PATCH")));
    assert!(!log.contains("correct horse") && !log.contains(&script), "a secret is in the log");
    said(lab, &admin, &["audit", "verify", "-"], &log);
    let forged = log.replacen("PATCH", "POST", 1);
    let found = vmmctl(lab, &admin, &["audit", "verify", "-"], &forged);
    assert!(String::from_utf8_lossy(&found.stderr).contains("was altered"), "{found:?}");

    said(lab, &admin, &["user", "remove", "eve"], "");
    assert!(!vmmctl(lab, &other, &["whoami"], "").status.success(), "its account is gone");
    assert!(!said(lab, &admin, &["-o", "name", "user", "list"], "").contains("eve"));
    assert!(!vmmctl(lab, &token, &["whoami"], "").status.success());
}
