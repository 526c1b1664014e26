//! PKI, gateway, agent and the program.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmmgr_common::api::console::{ConsoleGrant, ConsoleKind, ConsoleMode};
use vmmgr_common::ids::{ConsoleSessionId, HostId, VmId};
use vmmgr_common::mtls::issue::{Ca, LeafRequest};
use vmmgr_common::mtls::{Identity, Role, TlsFiles};

use crate::agent::Agent;
use crate::browser::Browser;
use crate::gateway::Gateway;

/// Longest time that a test waits for something to come about.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The one site whose pages may open consoles.
pub(crate) const ORIGIN: &str = "https://vmm.registry.local";

/// All that runs; it ends with the value.
pub(crate) struct Stack {
    dir: tempfile::TempDir,
    pub(crate) gateway: Arc<Gateway>,
    /// Further ones, which the proxy asks next.
    pub(crate) others: Vec<Arc<Gateway>>,
    pub(crate) agent: Agent,
    proxy: Child,
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
}

pub(crate) fn issue(dir: &Path, role: Role, instance: &str) -> TlsFiles {
    let identity = Some(Identity { role, instance: instance.to_owned() });
    let (server, client) = (true, true);
    let request = LeafRequest { identity, names: Vec::new(), server, client, days: 1 };
    let name = format!("{}-{instance}", role.as_str());
    Ca::load(dir).unwrap().issue(&request).unwrap().write(dir, &name).unwrap();
    TlsFiles {
        ca: dir.join("ca.pem"),
        cert: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    }
}

fn configuration(dir: &Path, gateways: &[SocketAddr], ping_seconds: u64) -> PathBuf {
    let gateways: String = gateways
        .iter()
        .map(|address| format!("[[gateway]]\nurl = 'https://{address}'\nname = 'main'\n"))
        .collect();
    let tls = issue(dir, Role::VncProxy, "main");
    let text = format!(
        "listen = '127.0.0.1:0'\nops_listen = '127.0.0.1:0'\norigins = ['{ORIGIN}']\n\
         sessions = 20000\nping_seconds = {ping_seconds}\n\
         {gateways}[tls]\nca = '{}'\ncert = '{}'\nkey = '{}'\n",
        tls.ca.display(),
        tls.cert.display(),
        tls.key.display()
    );
    let path = dir.join("vnc-proxy.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Starts the program; where it listens, and where it shows its health.
fn program(configuration: &Path) -> (Child, SocketAddr, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vnc-proxy"))
        .arg("--config")
        .arg(configuration)
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = loop {
        let line = lines.next().expect("the program ended").unwrap();
        eprintln!("{line}");
        if line.contains(" serving ") {
            break line;
        }
    };
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
    let field = |name: &str| {
        let after = line.split(&format!(" {name}=")).nth(1).unwrap();
        after.split(' ').next().unwrap().parse().unwrap()
    };
    (child, field("listen"), field("ops_listen"))
}

impl Stack {
    pub(crate) async fn start() -> Self {
        Self::with_ping(20).await
    }

    /// All of it, pinging so often.
    pub(crate) async fn with_ping(seconds: u64) -> Self {
        Self::with(seconds, 0).await
    }

    /// With a second gateway of the same store.
    pub(crate) async fn with_two_gateways() -> Self {
        Self::with(20, 1).await
    }

    async fn with(seconds: u64, more: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Ca::create(dir.path()).unwrap();
        let gateway = Gateway::start(dir.path()).await;
        let agent = Agent::start(&issue(dir.path(), Role::HostAgent, "host01")).await;
        let mut others = Vec::new();
        for _ in 0..more {
            others.push(Gateway::start(dir.path()).await);
        }
        let all: Vec<_> =
            others.iter().chain([&gateway]).rev().map(|gateway| gateway.address).collect();
        let configuration = configuration(dir.path(), &all, seconds);
        let (proxy, address, ops) =
            tokio::task::spawn_blocking(move || program(&configuration)).await.unwrap();
        let stack = Self { dir, gateway, others, agent, proxy, address, ops };
        stack.until("the proxy follows the gateway", || stack.gateway.followers() > 0).await;
        stack
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        until(what, holds).await;
    }

    /// A grant of a serial line whose agent behaves as `run` says.
    pub(crate) fn grant(&self, run: &str) -> ConsoleGrant {
        ConsoleGrant {
            binding: String::new(),
            session: ConsoleSessionId::new(),
            host: HostId::parse("host01").unwrap(),
            agent_url: format!("https://{}", self.agent.address),
            vm: VmId::new(),
            user: "ada".to_owned(),
            run: run.to_owned(),
            kind: ConsoleKind::Serial,
            mode: ConsoleMode::Share,
            ends_at: None,
        }
    }

    /// A ticket for a grant.
    pub(crate) fn ticket(&self, grant: &ConsoleGrant) -> String {
        self.gateway.ticket(grant)
    }

    /// Opens a session with a fresh ticket.
    pub(crate) async fn open(&self, run: &str) -> Browser {
        self.open_as(&self.grant(run)).await
    }

    pub(crate) async fn open_as(&self, grant: &ConsoleGrant) -> Browser {
        let ticket = self.ticket(grant);
        self.page(&ticket, "/console/ws").await.unwrap_or_else(|(status, body)| {
            panic!("no session: {status} {body}");
        })
    }

    /// As the page does it: the ticket as a subprotocol.
    pub(crate) async fn page(&self, ticket: &str, path: &str) -> Result<Browser, (u16, String)> {
        let headers = format!(
            "Origin: {ORIGIN}\r\nSec-WebSocket-Protocol: binary, vmmgr.ticket.{ticket}\r\n"
        );
        self.request(Role::Nginx, path, &headers).await
    }

    /// A websocket request with these headers, of somebody with a certificate of `role`.
    pub(crate) async fn request(
        &self,
        role: Role,
        path: &str,
        headers: &str,
    ) -> Result<Browser, (u16, String)> {
        let name = if role == Role::Nginx { "front" } else { "other" };
        let known = self.dir.path().join(format!("{}-{name}.pem", role.as_str()));
        let files = if known.exists() {
            let key = known.with_extension("key");
            TlsFiles { ca: self.dir.path().join("ca.pem"), cert: known, key }
        } else {
            issue(self.dir.path(), role, name)
        };
        Browser::open(&files, self.address, path, headers).await
    }

    /// Folder of the PKI and whatever a test adds.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn terminate(&self) {
        let pid = self.proxy.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
    }

    /// Waits for the program's own end.
    pub(crate) async fn ended(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.proxy.try_wait().unwrap() {
                return status.success();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Resident memory of the program, KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.proxy.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "it did not come about: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Err(error) = self.proxy.kill().and_then(|()| self.proxy.wait()) {
            eprintln!("the program may still run: {error}");
        }
    }
}
