//! The web pages as nginx serves them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::nginx::{Nginx, client, get, installed, problem, render, render_with};
use crate::pki::init;
use vmmgr_common::testing::free_address;

const PAGES: [&str; 6] = [
    "/",
    "/guest.html",
    "/api.html",
    "/console/vnc.html",
    "/console/spice.html",
    "/console/serial.html",
];
/// Other addresses of the same.
const ALIASES: [&str; 4] = [
    "/?a=b",
    "/novnc/vnc_lite.html?path=websockify/%3Ftoken=t",
    "/spice/spice_auto.html",
    "/term/xterm.html",
];

/// Built pages as far as nginx sees them, with things beside them that must stay unseen.
fn pages(dir: &Path) {
    let ui = dir.join("ui");
    for folder in ["console", "assets"] {
        fs::create_dir_all(ui.join(folder)).unwrap();
    }
    let html = r#"<meta property="csp-nonce" nonce="__CSP_NONCE__"><link nonce="__CSP_NONCE__">"#;
    for page in PAGES {
        let file = if page == "/" { "/index.html" } else { page };
        fs::write(ui.join(&file[1..]), html).unwrap();
    }
    fs::write(ui.join("assets/app-1a2b.js"), "export const a = 'é';".repeat(200)).unwrap();
    fs::write(ui.join("assets/app-1a2b.css"), "a{}").unwrap();
    fs::write(ui.join("favicon.svg"), "<svg/>").unwrap();
    fs::write(ui.join("notes.txt"), "SECRET").unwrap();
    fs::write(dir.join("secret.txt"), "SECRET").unwrap();
    std::os::unix::fs::symlink(dir.join("secret.txt"), ui.join("assets/link.js")).unwrap();
}

fn site() -> Option<(tempfile::TempDir, SocketAddr, Nginx)> {
    if !installed() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    // nginx's workers run as another user.
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    pages(dir.path());
    init(&dir.path().join("pki"), &[]);
    let site = free_address();
    let front =
        Nginx::start(&render(dir.path(), &site.to_string(), &free_address().to_string()), site);
    Some((dir, site, front))
}

/// The value between two texts.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

#[tokio::test]
async fn pages_have_a_nonce_of_their_own_and_run_nothing_from_elsewhere() {
    let Some((dir, site, _front)) = site() else { return };
    let client = client(dir.path(), site).build().unwrap();
    let mut seen = Vec::new();
    for page in PAGES.into_iter().chain(ALIASES) {
        let response = get(&client, "vmm.registry.local", site, page).await;
        assert_eq!(response.status(), 200, "{page}");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("strict-transport-security", "max-age=31536000"),
        ] {
            assert_eq!(header(name), value, "{page}");
        }
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self';",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{page}: {policy}");
        }
        let scripts = between(&policy, "script-src ", ";");
        assert_eq!(scripts, "'self'", "{page}");
        let nonce = between(&policy, "'nonce-", "'").to_owned();
        assert_eq!(nonce.len(), 32, "{policy}");
        let body = response.text().await.unwrap();
        assert_eq!(body.matches(&format!(r#"nonce="{nonce}""#)).count(), 2, "{body}");
        seen.push(nonce);
    }
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all, "a nonce was used twice");
}

#[tokio::test]
async fn assets_are_kept_for_ever_and_compressed() {
    let Some((dir, site, _front)) = site() else { return };
    let client = client(dir.path(), site).build().unwrap();
    let address = format!("https://vmm.registry.local:{}/assets/app-1a2b.js", site.port());
    let response = client.get(address).header("accept-encoding", "gzip").send().await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap();
    assert_eq!(header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(header("content-encoding"), "gzip");
    assert_eq!(header("x-content-type-options"), "nosniff");
    let missing = get(&client, "vmm.registry.local", site, "/assets/app-old.js").await;
    // Otherwise a page of an older build would be broken for a year.
    assert!(!missing.headers().contains_key("cache-control"));
    assert_eq!(problem(missing).await.code.as_str(), "no_such_route");
}

#[tokio::test]
async fn nothing_beside_the_pages_is_served() {
    let Some((dir, site, _front)) = site() else { return };
    let client = client(dir.path(), site).build().unwrap();
    for path in [
        "/index.html",
        "/notes.txt",
        "/console/",
        "/console",
        "/console/index.html",
        "/assets",
        "/assets/",
        "/assets../secret.txt",
        "/assets/../notes.txt",
        "/assets/%2e%2e/notes.txt",
        "/assets/..%2fnotes.txt",
        "/assets/../../secret.txt",
        "/assets/link.js",
        "/guest.html/",
        "/guest.html/../notes.txt",
        "/ui/index.html",
    ] {
        let response = get(&client, "vmm.registry.local", site, path).await;
        let status = response.status().as_u16();
        let body = response.text().await.unwrap();
        assert!((400..500).contains(&status), "{path}: {status}");
        assert!(!body.contains("SECRET"), "{path}");
    }
    // The name for hosts has no pages.
    let hosts = client.get(format!("https://kvm.registry.local:{}/", site.port())).send().await;
    assert_eq!(hosts.unwrap().status(), 400);
}

#[tokio::test]
async fn without_built_pages_the_site_says_so() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (dir, site) = (dir.path(), free_address());
    init(&dir.join("pki"), &[]);
    let configuration = render_with(dir, &site.to_string(), &free_address().to_string(), &[]);
    let _front = Nginx::start(&configuration, site);
    let client = client(dir, site).build().unwrap();
    let response = get(&client, "vmm.registry.local", site, "/").await;
    assert_eq!(response.status(), 200);
    assert!(response.text().await.unwrap().contains("docs/ui.md"));
    assert_eq!(get(&client, "vmm.registry.local", site, "/guest.html").await.status(), 404);
}
