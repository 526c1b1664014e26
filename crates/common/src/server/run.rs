//! Listening, and going down in order.

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::door::{self, Door};
use super::draining::Drain;
use super::{Readiness, caller, failure, ops};
use crate::mtls::{Role, TlsError, TlsFiles, server_config};

/// How long a drain may take before what is left is cut.
const DRAIN: Duration = Duration::from_secs(8);

/// One service: where it listens and whom it lets in.
pub struct Service {
    /// For logs.
    pub name: &'static str,
    /// Its certificate and the CA.
    pub tls: TlsFiles,
    /// The mTLS listener.
    pub listen: SocketAddr,
    /// The plain listener of `/healthz`, `/readyz`, `/metrics`; keep it on loopback.
    pub ops_listen: SocketAddr,
    /// Roles that may call the routes of `configure`.
    pub accept: &'static [Role],
    /// What `/readyz` tells.
    pub ready: Readiness,
}

/// Why a service could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// TLS files.
    #[error("{0} cannot set up TLS")]
    Tls(&'static str, #[source] TlsError),
    /// Listener.
    #[error("{0} cannot listen on {1}")]
    Listen(&'static str, SocketAddr, #[source] std::io::Error),
    /// The server ended by itself.
    #[error("{0} stopped serving")]
    Serve(&'static str, #[source] std::io::Error),
}

/// The listener of `/healthz`, `/readyz` and `/metrics` alone, for a service that owns its other
/// listener; [`run`] has one.
pub struct Side {
    /// Where it listens, for when the port was left to the system.
    pub address: SocketAddr,
    handle: ServerHandle,
    task: JoinHandle<std::io::Result<()>>,
}

impl Side {
    /// Listens on `listen`, plain.
    pub fn start(
        name: &'static str,
        listen: SocketAddr,
        ready: Readiness,
    ) -> Result<Self, ServeError> {
        ops::recorder();
        let ready = web::Data::new(ready);
        let routes = move || App::new().app_data(ready.clone()).configure(ops::routes);
        let server = HttpServer::new(routes)
            .workers(1)
            .disable_signals()
            .shutdown_timeout(1)
            .bind(listen)
            .map_err(|error| ServeError::Listen(name, listen, error))?;
        let address = server.addrs().first().copied().unwrap_or(listen);
        let server = server.run();
        Ok(Self { address, handle: server.handle(), task: tokio::spawn(server) })
    }

    /// Ends it.
    pub async fn stop(self) {
        self.handle.stop(false).await;
        match self.task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the ops listener failed"),
            Err(error) => tracing::warn!(%error, "the ops listener was cut"),
        }
    }
}

/// Serves until SIGTERM or SIGINT, then finishes what is under way, 10 s at most.
pub async fn run<F>(service: Service, configure: F) -> Result<(), ServeError>
where
    F: Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
{
    run_with_doors(service, configure, Vec::new()).await
}

/// As [`run`]; each further door has routes of its own for other roles.
pub async fn run_with_doors<F>(
    service: Service,
    configure: F,
    further: Vec<Door>,
) -> Result<(), ServeError>
where
    F: Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
{
    let name = service.name;
    let told = || {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok(async move {
            tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
        })
    };
    let told = told().map_err(|error| ServeError::Serve(name, error))?;
    run_until(service, configure, further, told).await
}

/// As [`run_with_doors`], until `told`.
pub async fn run_until<F>(
    service: Service,
    configure: F,
    further: Vec<Door>,
    told: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    F: Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
{
    let Service { name, tls, listen, ops_listen, accept, ready } = service;
    let mut doors = vec![Door::new(accept, configure)];
    doors.extend(further);
    let known = door::roles(&doors);
    let tls = server_config(&tls).map_err(|error| ServeError::Tls(name, error))?;
    let drain = Drain::new();
    let counting = drain.clone();
    let main = HttpServer::new(move || {
        let (known, counting) = (known.clone(), counting.clone());
        App::new()
            .wrap(from_fn(move |request, next| counting.clone().count(request, next)))
            .wrap(from_fn(move |request, next| caller::guard(request, next, known.clone())))
            .configure(failure::extractors)
            .configure(|app| doors.iter().for_each(|door| door.open(app)))
    })
    .on_connect(caller::on_connect)
    .workers(2)
    // A key that is typed into a console must not wait for the one before it.
    .tcp_nodelay(true)
    .client_request_timeout(Duration::from_secs(10))
    .keep_alive(Duration::from_secs(75))
    .disable_signals()
    .bind_rustls_0_23(listen, tls)
    .map_err(|error| ServeError::Listen(name, listen, error))?;
    let side = Side::start(name, ops_listen, ready)?;
    tracing::info!(service = name, %listen, %ops_listen, version = env!("CARGO_PKG_VERSION"), "serving");
    let mut main = main.run();
    let handle = main.handle();
    let result = tokio::select! {
        ended = &mut main => ended,
        () = told => {
            tracing::info!(service = name, "draining");
            let drained = async {
                handle.pause().await;
                drain.finish(DRAIN).await;
                handle.stop(false).await;
            };
            let (ended, ()) = tokio::join!(main, drained);
            ended
        }
    };
    side.stop().await;
    let result = result.map_err(|error| ServeError::Serve(name, error));
    tracing::info!(service = name, "stopped");
    result
}
