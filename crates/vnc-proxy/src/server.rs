//! Listening, opening sessions, and going down in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use vmmgr_common::client::ClientError;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::mtls::{Identity, Role, TlsError, server_config};
use vmmgr_common::request_id;
use vmmgr_common::server::{Readiness, ServeError, Side};

use crate::agent::Agents;
use crate::config::Config;
use crate::request::{self, Head, InvalidOrigin, Origins};
use crate::session::{Gateways, Live, Sessions};
use crate::wire::Wire;

/// From the first byte to the whole request.
const GREETING: Duration = Duration::from_secs(10);
/// Sessions that are being opened at the same time; each costs two TLS handshakes.
const MOST_OPENING: usize = 1024;
/// How long sessions may take to say goodbye.
const DRAIN: Duration = Duration::from_secs(8);
/// How long the last report may take.
const LAST_REPORT: Duration = Duration::from_secs(1);
/// Name of the condition on `/readyz`.
const CONDITION: &str = "serving";

/// Why the service could not run.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its own listeners.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Certificates.
    #[error("vnc-proxy cannot set up TLS")]
    Tls(#[from] TlsError),
    /// The way to the gateway.
    #[error("vnc-proxy cannot call the gateway")]
    Gateway(#[from] ClientError),
    /// Nobody redeems tickets.
    #[error("key `gateway`: at least one [[gateway]] is needed")]
    NoGateway,
    /// The list of origins.
    #[error("key `origins`")]
    Origins(#[from] InvalidOrigin),
    /// The listener of browsers.
    #[error("vnc-proxy cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// Signals.
    #[error("vnc-proxy cannot wait for signals")]
    Signal(#[source] std::io::Error),
}

struct Proxy {
    tls: Arc<ServerConfig>,
    origins: Origins,
    sessions: Arc<Sessions>,
    most: usize,
    opening: Arc<Semaphore>,
}

/// A configuration that could not be served.
pub fn check(config: &Config) -> Result<(), Failure> {
    Origins::parse(&config.origins)?;
    if config.gateway.is_empty() {
        return Err(Failure::NoGateway);
    }
    Ok(())
}

/// Serves until SIGTERM or SIGINT; then no session lives longer than 8 s.
pub async fn run(config: Config) -> Result<(), Failure> {
    check(&config)?;
    let ready = Readiness::default();
    let side = Side::start("vnc-proxy", config.ops_listen, ready.clone())?;
    let gateways = Gateways::new(&config)?;
    let live = Arc::new(Live::default());
    let proxy = Arc::new(Proxy {
        tls: Arc::new(server_config(&config.tls)?),
        origins: Origins::parse(&config.origins)?,
        sessions: Arc::new(Sessions {
            gateways: gateways.clone(),
            agents: Agents::new(config.tls),
            live: Arc::clone(&live),
            beat: Duration::from_secs(config.ping_seconds),
        }),
        most: config.sessions,
        opening: Arc::new(Semaphore::new(MOST_OPENING)),
    });
    let listener = listen(config.listen)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signal)?;
    let following = tokio::spawn(gateways.clone().follow(Arc::clone(&live), ready.clone()));
    ready.set(CONDITION, Ok(()));
    let address = listener.local_addr().map_err(|error| Failure::Listen(config.listen, error))?;
    tracing::info!(service = "vnc-proxy", listen = %address, ops_listen = %side.address,
        version = env!("CARGO_PKG_VERSION"), "serving");
    tokio::select! {
        () = accept(listener, proxy) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    ready.set(CONDITION, Err("going down".to_owned()));
    drain(&live).await;
    following.abort();
    if timeout(LAST_REPORT, gateways.report(&live)).await.is_err() {
        tracing::info!("the last report took too long");
    }
    side.stop().await;
    tracing::info!(service = "vnc-proxy", "stopped");
    Ok(())
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let open = || {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(4096)
    };
    open().map_err(|error| Failure::Listen(address, error))
}

async fn drain(live: &Live) {
    let start = Instant::now();
    let (sessions, mut changes) = (live.count(), live.changes());
    live.drain();
    while live.count() > 0 && start.elapsed() < DRAIN {
        // Sessions say when they end; the timeout is for those that do not.
        let _ = timeout(Duration::from_millis(100), changes.changed()).await.is_err();
    }
    let (left, took_ms) = (live.count(), start.elapsed().as_millis() as u64);
    tracing::info!(sessions, left, took_ms, "sessions were told to come back");
}

async fn accept(listener: TcpListener, proxy: Arc<Proxy>) {
    loop {
        let Ok(permit) = Arc::clone(&proxy.opening).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let proxy = Arc::clone(&proxy);
                tokio::spawn(async move {
                    if let Err(error) = proxy.open(socket).await {
                        tracing::debug!(%error, "a connection opened no session");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Proxy {
    async fn open(self: Arc<Self>, socket: TcpStream) -> std::io::Result<()> {
        socket.set_nodelay(true)?;
        let greeting = timeout(GREETING, self.greet(socket)).await;
        let (mut browser, head) = greeting.map_err(|_| std::io::ErrorKind::TimedOut)??;
        let Head { opening, request_id, .. } = head;
        let started = Instant::now();
        let granted = request_id::scope(request_id.clone(), async {
            self.admit(&browser)?;
            let opening = opening?;
            Ok((self.sessions.grant(&opening).await?, opening))
        });
        let result: Result<_, Problem> = granted.await;
        match result {
            Ok((granted, opening)) => {
                metrics::histogram!("vmmgr_console_open_seconds")
                    .record(started.elapsed().as_secs_f64());
                browser.write(opening.accepted(&request_id).as_bytes()).await?;
                self.sessions.begin(browser, granted).await;
                Ok(())
            }
            Err(problem) => {
                let code = problem.code.as_str();
                metrics::counter!("vmmgr_console_refusals_total", "code" => code).increment(1);
                tracing::info!(request_id, code, detail = problem.detail, "console.refused");
                browser.write(request::refused(&problem, &request_id).as_bytes()).await?;
                std::future::poll_fn(|cx| browser.poll_shutdown(cx)).await
            }
        }
    }

    /// TLS and the whole head; what came after it is left to be read.
    async fn greet(&self, socket: TcpStream) -> std::io::Result<(Wire, Head)> {
        let mut browser = Wire::accept(socket, Arc::clone(&self.tls)).await?;
        let mut bytes = Vec::new();
        loop {
            if browser.read(&mut bytes).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(head) = request::read(&bytes, &self.origins) {
                browser.unread(&bytes[head.length..]);
                return Ok((browser, head));
            }
        }
    }

    /// Only nginx, and only so many.
    fn admit(&self, browser: &Wire) -> Result<(), Problem> {
        let forbidden = |why: String| Problem::new(ErrorCode::Forbidden, why);
        let leaf = browser.certificate();
        let leaf = leaf.ok_or_else(|| forbidden("there is no certificate".to_owned()))?;
        let caller =
            Identity::of_certificate(leaf).map_err(|error| forbidden(error.to_string()))?;
        if caller.role != Role::Nginx {
            tracing::warn!(%caller, "refused a certificate of another role");
            return Err(forbidden(format!("{caller} may not call this service")));
        }
        if self.sessions.live.count() >= self.most {
            let detail = format!("this proxy has its {} sessions", self.most);
            return Err(Problem::new(ErrorCode::RateLimited, detail));
        }
        Ok(())
    }
}
