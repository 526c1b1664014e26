//! A gateway that knows only consoles.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::broadcast;
use vmmgr_common::api::console::{
    ConsoleEvent, ConsoleGrant, ConsoleRedeem, ConsoleReport, ConsoleVerdict,
};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{ConsoleSessionId, OperationId};
use vmmgr_common::mtls::Role;
use vmmgr_common::server::{self, Readiness, Service};
use vmmgr_common::testing::free_address;

use crate::stack::{issue, until};

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    tickets: Mutex<HashMap<String, ConsoleGrant>>,
    /// All that were asked for, in order.
    pub(crate) redeemed: Mutex<Vec<ConsoleRedeem>>,
    /// The last report.
    pub(crate) report: Mutex<ConsoleReport>,
    /// What the next verdict says.
    pub(crate) verdict: Mutex<ConsoleVerdict>,
    events: broadcast::Sender<ConsoleEvent>,
    /// Cuts all event streams, and refuses everything while it is odd.
    pub(crate) away: AtomicUsize,
}

impl Gateway {
    pub(crate) async fn start(pki: &Path) -> Arc<Self> {
        let gateway = Arc::new(Self {
            address: free_address(),
            tickets: Mutex::default(),
            redeemed: Mutex::default(),
            report: Mutex::new(ConsoleReport { sessions: Vec::new() }),
            verdict: Mutex::default(),
            events: broadcast::Sender::new(64),
            away: AtomicUsize::new(0),
        });
        let service = Service {
            name: "test",
            tls: issue(pki, Role::Gateway, "main"),
            listen: gateway.address,
            ops_listen: free_address(),
            accept: &[Role::VncProxy],
            ready: Readiness::default(),
        };
        let data = web::Data::from(gateway.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            let routes = move |service: &mut web::ServiceConfig| {
                service
                    .app_data(data.clone())
                    .app_data(web::JsonConfig::default().limit(16 << 20))
                    .route("/internal/console/redeem", web::post().to(redeem))
                    .route("/internal/console/sessions", web::post().to(sessions))
                    .route("/internal/console/events", web::get().to(events));
            };
            runtime.block_on(server::run(service, routes)).unwrap();
        });
        let address = gateway.address;
        until("the gateway listens", || std::net::TcpStream::connect(address).is_ok()).await;
        gateway
    }

    /// A ticket, good for one redeeming.
    pub(crate) fn ticket(&self, grant: &ConsoleGrant) -> String {
        let ticket = format!("t-{}", OperationId::new());
        self.tickets.lock().unwrap().insert(ticket.clone(), grant.clone());
        ticket
    }

    /// Forgets all tickets, as their time does.
    pub(crate) fn expire(&self) {
        self.tickets.lock().unwrap().clear();
    }

    pub(crate) fn followers(&self) -> usize {
        self.events.receiver_count()
    }

    pub(crate) fn end(&self, session: ConsoleSessionId, reason: &str) {
        let reason = reason.to_owned();
        self.events.send(ConsoleEvent::End { session, reason }).unwrap();
    }

    fn here(&self) -> Result<(), Problem> {
        if self.away.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::StoreUnavailable, "restarting"))
    }

    /// As a restart does: event streams are cut, and until `set_away(false)` nothing is answered.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(usize::from(away), Ordering::SeqCst);
        // Wakes the streams, which then see it.
        self.events.send(ConsoleEvent::Heartbeat).unwrap_or_default();
    }
}

async fn redeem(
    gateway: web::Data<Gateway>,
    ticket: web::Json<ConsoleRedeem>,
) -> Result<web::Json<ConsoleGrant>, Problem> {
    gateway.here()?;
    gateway.redeemed.lock().unwrap().push(ticket.0.clone());
    let grant = gateway.tickets.lock().unwrap().remove(ticket.ticket.expose());
    let unknown = || Problem::new(ErrorCode::Unauthenticated, "the ticket is unknown, used or old");
    grant.map(web::Json).ok_or_else(unknown)
}

async fn sessions(
    gateway: web::Data<Gateway>,
    report: web::Json<ConsoleReport>,
) -> Result<web::Json<ConsoleVerdict>, Problem> {
    gateway.here()?;
    *gateway.report.lock().unwrap() = report.0;
    Ok(web::Json(std::mem::take(&mut *gateway.verdict.lock().unwrap())))
}

async fn events(gateway: web::Data<Gateway>) -> Result<HttpResponse, Problem> {
    gateway.here()?;
    let start = (gateway.events.subscribe(), gateway);
    let lines = stream::unfold(start, |(mut events, gateway)| async move {
        let event = events.recv().await.ok()?;
        gateway.here().ok()?;
        let line = serde_json::to_string(&event).unwrap() + "\n";
        Some((Ok::<_, Infallible>(Bytes::from(line)), (events, gateway)))
    });
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines))
}
