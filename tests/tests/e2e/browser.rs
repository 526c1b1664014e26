//! Consoles as people use them: the built pages in Chromium (`ui/e2e/stack.mjs`), a guest that runs.

use std::path::Path;
use std::process::Command;

use crate::guest::Guest;
use crate::lab::{HOST, lab};

#[test]
fn consoles_work_in_a_browser() {
    let Some(lab) = lab("consoles in a browser") else { return };
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if !lab.state.join("ui/index.html").exists() {
        eprintln!("SKIPPED: consoles in a browser: the web pages are not built (make ui)");
        return;
    }
    let _alone = lab.alone_but_demo();
    let guest = Guest::boot(lab, "screen");
    let status = Command::new("node")
        .arg(root.join("ui/e2e/stack.mjs"))
        .env("VMMGR_URL", "https://localhost:8443")
        .env("VMMGR_PASSWORD", lab.state.join("admin.password"))
        .env("VMMGR_GUEST", format!("{HOST}/{}", guest.id))
        .env("VMMGR_TOOLS", root.join("tools"))
        .status()
        .unwrap();
    assert!(status.success(), "ui/e2e/stack.mjs: {status}");
    guest.delete();
}
