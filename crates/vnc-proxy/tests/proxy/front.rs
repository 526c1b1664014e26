//! Through nginx as it is rendered for the site.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use minijinja::{Environment, context};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use vmmgr_common::mtls::Role;
use vmmgr_common::mtls::issue::{Ca, LeafRequest};
use vmmgr_common::testing::free_address;

use crate::browser::{Browser, Stream, frame};
use crate::stack::{ORIGIN, Stack, issue, until};

const TEMPLATE: &str = include_str!("../../../../nginx/vmmgr.conf.j2");

/// nginx; it ends with the value.
struct Front {
    child: Child,
    address: SocketAddr,
    tls: TlsConnector,
}

/// False, said aloud, where nginx is not installed.
fn installed() -> bool {
    let found = Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: nginx is not installed");
    }
    found
}

fn certificates(pki: &Path) {
    let front = issue(pki, Role::Nginx, "front");
    fs::copy(front.cert, pki.join("nginx.pem")).unwrap();
    fs::copy(front.key, pki.join("nginx.key")).unwrap();
    let names = vec!["vmm.registry.local".to_owned()];
    let request = LeafRequest { identity: None, names, server: true, client: false, days: 1 };
    Ca::load(pki).unwrap().issue(&request).unwrap().write(pki, "server").unwrap();
}

impl Front {
    async fn start(stack: &Stack) -> Self {
        let pki = stack.dir();
        certificates(pki);
        let (run, address) = (pki.join("nginx"), free_address());
        fs::create_dir_all(run.join("tmp")).unwrap();
        let text = Environment::new()
            .render_str(
                TEMPLATE,
                context! {
                    listen => address.to_string(), public_name => "vmm.registry.local",
                    hosts_name => "kvm.registry.local", pki => pki.to_string_lossy(),
                    run_dir => run.to_string_lossy(), gateway => [stack.gateway.address.to_string()],
                    public_pair => pki.join("server").to_string_lossy(),
                    hosts_pair => pki.join("server").to_string_lossy(),
                    vnc_proxy => [stack.address.to_string()],
                },
            )
            .unwrap();
        fs::write(run.join("nginx.conf"), format!("user root;\n{text}")).unwrap();
        let child = Command::new("nginx")
            .arg("-c")
            .arg(run.join("nginx.conf"))
            .args(["-g", "daemon off;"])
            .spawn()
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.join("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        until("nginx listens", || std::net::TcpStream::connect(address).is_ok()).await;
        Self { child, address, tls: TlsConnector::from(Arc::new(config)) }
    }

    async fn connect(&self) -> Stream {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("vmm.registry.local").unwrap();
        self.tls.connect(name, socket).await.unwrap()
    }

    async fn open(&self, path: &str, headers: &str) -> Result<Browser, (u16, String)> {
        Browser::over(self.connect().await, path, headers).await
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // SIGTERM lets the master end its workers; SIGKILL would leave them behind.
        let told = Command::new("kill").arg(self.child.id().to_string()).status();
        if !told.is_ok_and(|status| status.success()) || self.child.wait().is_err() {
            eprintln!("nginx {} may still run", self.child.id());
        }
    }
}

#[tokio::test]
async fn a_console_is_reached_through_nginx_and_no_log_has_its_ticket() {
    if !installed() {
        return;
    }
    let stack = Stack::start().await;
    let front = Front::start(&stack).await;
    let origin = format!("Origin: {ORIGIN}\r\n");
    let mut tickets = Vec::new();
    for path in ["/console/ws?from=0", "/websockify", "/websockify/"] {
        let ticket = stack.ticket(&stack.grant("echo"));
        let offer = format!("Sec-WebSocket-Protocol: binary, vmmgr.ticket.{ticket}\r\n");
        let page = path.starts_with("/console");
        let (path, headers) = if page {
            (path.to_owned(), format!("{origin}{offer}"))
        } else {
            (format!("{path}?token={ticket}"), origin.clone())
        };
        let mut browser = front.open(&path, &headers).await.ok().unwrap();
        if page {
            assert_eq!(browser.next().await.unwrap().0, 0x81);
        }
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        browser.binary(&bytes).await;
        assert!(browser.bytes(bytes.len()).await == bytes, "{path}");
        browser.send(&frame(0x88, &1000_u16.to_be_bytes())).await;
        assert_eq!(browser.end().await.1, Some(1000));
        assert_eq!(front.open(&path, &headers).await.err().unwrap().0, 401);
        tickets.push(ticket);
    }
    // nginx replaces what a caller says of its own address.
    let redeemed = stack.gateway.redeemed.lock().unwrap().clone();
    assert!(redeemed.iter().all(|ticket| ticket.address == "127.0.0.1"), "{redeemed:?}");
    assert_eq!(front.open("/console/wsx", &origin).await.err().unwrap().0, 404);

    // A proxy that is away is told, and its ticket is in no message either.
    stack.terminate();
    until("the proxy is gone", || std::net::TcpStream::connect(stack.address).is_err()).await;
    let ticket = stack.ticket(&stack.grant("echo"));
    let path = format!("/websockify/?token={ticket}");
    assert_eq!(front.open(&path, &origin).await.err().unwrap().0, 503);
    tickets.push(ticket);
    drop(front);
    for log in ["nginx-access.log", "nginx-error.log"] {
        let text = fs::read_to_string(stack.dir().join("nginx").join(log)).unwrap();
        assert!(tickets.iter().all(|ticket| !text.contains(ticket)), "{log}: {text}");
    }
}

#[tokio::test]
async fn what_is_no_websocket_is_refused_through_nginx_too() {
    if !installed() {
        return;
    }
    let stack = Stack::start().await;
    let front = Front::start(&stack).await;
    let mut stream = front.connect().await;
    stream
        .write_all(
            b"GET /console/ws HTTP/1.1\r\nHost: vmm.registry.local\r\nConnection: close\r\n\r\n",
        )
        .await
        .unwrap();
    let mut text = Vec::new();
    // The end may come without TLS' own goodbye.
    drop(stream.read_to_end(&mut text).await);
    assert!(text.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&text));
}
