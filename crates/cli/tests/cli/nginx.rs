//! nginx as `vmmctl nginx render` configures it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use vmmgr_common::error::Problem;
use vmmgr_common::testing::free_address;

use crate::pki::init;
use crate::support::vmmctl;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/nginx.conf");

pub(crate) fn render(dir: &Path, listen: &str, gateway: &str) -> PathBuf {
    render_with(dir, listen, gateway, &["--ui", dir.join("ui").to_str().unwrap()])
}

pub(crate) fn render_with(dir: &Path, listen: &str, gateway: &str, more: &[&str]) -> PathBuf {
    let output = dir.join("nginx.conf");
    let (pki, run) = (dir.join("pki"), dir.join("run"));
    let arguments = [
        ["nginx", "render"],
        ["--output", output.to_str().unwrap()],
        ["--listen", listen],
        ["--gateway", gateway],
        ["--pki", pki.to_str().unwrap()],
        ["--run-dir", run.to_str().unwrap()],
    ];
    let run = vmmctl("http://127.0.0.1:1", &[arguments.as_flattened(), more].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    output
}

/// False, said aloud, where nginx is not installed.
pub(crate) fn installed() -> bool {
    let found = Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: nginx is not installed, its configuration is not checked");
    }
    found
}

/// A running nginx; it ends with the value.
pub(crate) struct Nginx(Child);

impl Nginx {
    pub(crate) fn start(configuration: &Path, address: SocketAddr) -> Self {
        let child = Command::new("nginx")
            .arg("-c")
            .arg(configuration)
            .args(["-g", "daemon off;"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut nginx = Self(child);
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(
                nginx.0.try_wait().unwrap().is_none(),
                "nginx ended: {}",
                configuration.display()
            );
            assert!(Instant::now() < end, "nginx does not listen on {address}");
            std::thread::yield_now();
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM lets the master end its workers; SIGKILL would leave them behind.
        let stopped = Command::new("kill").arg(self.0.id().to_string()).status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("nginx {} may still run", self.0.id());
            return;
        }
        if let Err(error) = self.0.wait() {
            eprintln!("nginx {}: {error}", self.0.id());
        }
    }
}

/// Something in the gateway's place that shows what it was sent: nginx again, with the
/// certificate of `role`.
fn stand_in(dir: &Path, role: &str, address: SocketAddr) -> Nginx {
    let run = dir.join(format!("as-{role}"));
    fs::create_dir_all(&run).unwrap();
    let (pki, run_dir) = (dir.join("pki"), run.display().to_string());
    let pki = pki.display();
    let text = format!(
        r#"pid {run_dir}/pid; error_log {run_dir}/error.log; events {{}}
http {{
    access_log off; default_type application/json;
    client_body_temp_path {run_dir}/b; proxy_temp_path {run_dir}/p; fastcgi_temp_path {run_dir}/f;
    uwsgi_temp_path {run_dir}/u; scgi_temp_path {run_dir}/s;
    server {{
        listen {address} ssl; ssl_certificate {pki}/{role}.pem; ssl_certificate_key {pki}/{role}.key;
        ssl_client_certificate {pki}/ca.pem; ssl_verify_client on;
        location /v1/missing {{ return 404 '{{"code":"no_such_vm"}}'; }}
        location / {{
            return 200 '{{"caller":"$ssl_client_s_dn","uri":"$request_uri","request_id":"$http_x_request_id","host":"$host","from":"$http_x_forwarded_for"}}';
        }}
    }}
}}
"#
    );
    let configuration = run.join("nginx.conf");
    fs::write(&configuration, text).unwrap();
    Nginx::start(&configuration, address)
}

pub(crate) fn client(dir: &Path, site: SocketAddr) -> reqwest::ClientBuilder {
    let ca = reqwest::Certificate::from_pem(&fs::read(dir.join("pki/ca.pem")).unwrap()).unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([ca])
        .resolve("vmm.registry.local", site)
        .resolve("kvm.registry.local", site)
}

pub(crate) async fn get(
    client: &reqwest::Client,
    host: &str,
    site: SocketAddr,
    path: &str,
) -> reqwest::Response {
    client.get(format!("https://{host}:{}{path}", site.port())).send().await.unwrap()
}

/// A failure that nginx made itself reads like one of the API.
pub(crate) async fn problem(response: reqwest::Response) -> Problem {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let status = response.status().as_u16();
    let problem: Problem = response.json().await.unwrap();
    assert_eq!((problem.status, problem.code.status()), (status, status));
    assert!(problem.request_id.as_ref().is_some_and(|id| id.len() == 32), "{problem:?}");
    problem
}

#[test]
fn the_rendered_configuration_is_the_golden_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = render(dir.path(), "8443", "127.0.0.1:7441");
    let text = fs::read_to_string(output).unwrap().replace(dir.path().to_str().unwrap(), "@DIR@");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(GOLDEN, &text).unwrap();
    }
    assert!(
        text == fs::read_to_string(GOLDEN).unwrap(),
        "differs from {GOLDEN}; look at it with UPDATE_GOLDEN=1 and git diff:\n{text}"
    );
}

#[test]
fn the_configuration_keeps_the_rules_of_a_front() {
    let text = fs::read_to_string(GOLDEN).unwrap();
    let directives: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let has = |start: &str| directives.iter().any(|line| line.starts_with(start));
    for wanted in [
        "ssl_protocols TLSv1.2 TLSv1.3;",
        "server_tokens off;",
        "proxy_ssl_verify on;",
        "proxy_ssl_name gateway.vmmgr.internal;",
        "proxy_ssl_name vnc-proxy.vmmgr.internal;",
        "ssl_verify_client on;",
        "client_max_body_size",
        "limit_req zone",
    ] {
        assert!(has(wanted), "`{wanted}` is missing");
    }
    // An alias without its slash once served the files of the folder above.
    for banned in ["alias", "autoindex", "proxy_ssl_verify off"] {
        assert!(!has(banned), "`{banned}`");
    }
    let roots = directives.iter().filter(|line| line.starts_with("root "));
    assert!(roots.clone().all(|line| *line == "root @DIR@/ui;"), "{:?}", roots.collect::<Vec<_>>());
    let format = directives.iter().find(|line| line.starts_with("log_format")).unwrap();
    for leak in [
        "$request ",
        "$request'",
        "$request\"",
        "$request_uri",
        "$args",
        "$query_string",
        "$http_authorization",
        "$http_referer",
    ] {
        assert!(!format.contains(leak), "{leak} in {format}");
    }
}

#[test]
fn a_value_cannot_end_a_directive() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("nginx.conf");
    for (flag, value) in [
        ("--listen", "8443; alias /etc/"),
        ("--gateway", "a{}"),
        ("--gateway", "a\nb"),
        ("--vnc-proxy", "127.0.0.1:7444; alias /etc/"),
        ("--public-name", "$host"),
        ("--ui", "/srv/ui; autoindex on"),
        ("--ui", "ui/dist"),
    ] {
        let run = vmmctl(
            "http://127.0.0.1:1",
            &[
                "nginx",
                "render",
                "--output",
                output.to_str().unwrap(),
                "--pki",
                "/pki",
                "--run-dir",
                dir.path().to_str().unwrap(),
                flag,
                value,
            ],
        );
        assert_eq!(run.code, 2, "{flag} {value:?}");
        assert!(!output.exists());
    }
}

#[test]
fn nginx_itself_takes_it() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    init(&dir.path().join("pki"), &[]);
    let output = render(dir.path(), &free_address().to_string(), "127.0.0.1:7441");
    let check = Command::new("nginx").arg("-t").arg("-c").arg(output).output().unwrap();
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success() && !said.contains("[warn]"), "{said}");
}

#[tokio::test]
async fn the_gateway_is_reached_by_mutual_tls_and_nothing_else_is() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (dir, site, gateway) = (dir.path(), free_address(), free_address());
    init(&dir.join("pki"), &[]);
    let behind = stand_in(dir, "gateway", gateway);
    let _front = Nginx::start(&render(dir, &site.to_string(), &gateway.to_string()), site);
    let client_of_people = client(dir, site).build().unwrap();
    let ask = |path| get(&client_of_people, "vmm.registry.local", site, path);

    for path in ["/v1/vms?a=b", "/vm/list/", "/tpl/host/"] {
        let response = ask(path).await;
        assert_eq!(response.status(), 200, "{path}");
        let seen: Value = response.json().await.unwrap();
        assert!(seen["caller"].as_str().unwrap().contains("nginx"), "{seen}");
        assert_eq!(
            (seen["uri"].as_str(), seen["host"].as_str()),
            (Some(path), Some("vmm.registry.local"))
        );
        assert_eq!(seen["from"], "127.0.0.1");
        assert_eq!(seen["request_id"].as_str().unwrap().len(), 32);
    }
    // The gateway's own failures pass as they are.
    let response = ask("/v1/missing").await;
    assert_eq!(
        (response.status().as_u16(), response.text().await.unwrap().as_str()),
        (404, r#"{"code":"no_such_vm"}"#)
    );

    for path in [
        "/etc/passwd",
        "/vmx/",
        "/healthz",
        "/metrics",
        "/v2/hosts",
        "/v1/../etc/passwd",
        "/run/nginx.pid",
    ] {
        assert_eq!(problem(ask(path).await).await.code.as_str(), "no_such_route", "{path}");
    }

    // Somebody else of the same CA is no gateway.
    drop(behind);
    let _other = stand_in(dir, "metadata", gateway);
    assert_eq!(problem(ask("/v1/vms").await).await.status, 503);
}

#[tokio::test]
async fn a_gateway_that_is_away_is_told_and_the_access_log_holds_no_query() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (dir, site) = (dir.path(), free_address());
    init(&dir.join("pki"), &[]);
    let front = Nginx::start(&render(dir, &site.to_string(), &free_address().to_string()), site);
    let client = client(dir, site).build().unwrap();
    let ask = |path| get(&client, "vmm.registry.local", site, path);
    let response = ask("/v1/vms?access=SECRET-QUERY").await;
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(problem(response).await.status, 503);
    ask("/user/vm/list/h/u?k=SECRET-QUERY&e=1").await;
    drop(front);
    let log = |name: &str| fs::read_to_string(dir.join("run").join(name)).unwrap();
    let access = log("nginx-access.log");
    assert!(access.contains(" /v1/vms 503 "), "{access}");
    assert!(!access.contains("SECRET-QUERY"), "{access}");
}

#[tokio::test]
async fn the_name_for_hosts_wants_a_certificate_of_the_ca() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (dir, site) = (dir.path(), free_address());
    let pki = dir.join("pki");
    init(&pki, &[]);
    let _front = Nginx::start(&render(dir, &site.to_string(), &free_address().to_string()), site);
    let nobody = client(dir, site).build().unwrap();
    assert_eq!(get(&nobody, "kvm.registry.local", site, "/").await.status(), 400);

    let pem =
        [fs::read(pki.join("host.pem")).unwrap(), fs::read(pki.join("host.key")).unwrap()].concat();
    let host =
        client(dir, site).identity(reqwest::Identity::from_pem(&pem).unwrap()).build().unwrap();
    let response = get(&host, "kvm.registry.local", site, "/").await;
    assert_eq!(problem(response).await.status, 404);
}
