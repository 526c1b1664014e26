//! What vnc-proxy asks. No other role finds these routes; nginx does not even know them.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, get, post};
use futures_util::stream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use vmmgr_common::api::console::{
    ConsoleEvent, ConsoleGrant, ConsoleRedeem, ConsoleReport, ConsoleVerdict,
};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::server::{Draining, Peer, Routes};

use crate::app::App;

/// A silent stream says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Some 50,000 sessions of 300 bytes each; a proxy holds 10,000.
const LARGEST_REPORT: usize = 16 << 20;

/// All routes.
pub(crate) fn routes(service: &mut web::ServiceConfig) {
    Routes::new(service)
        .route("/internal/console/redeem", post().to(redeem))
        .route("/internal/console/sessions", post().to(report))
        .route("/internal/console/events", get().to(events));
}

async fn redeem(
    app: web::Data<App>,
    proxy: Peer,
    given: web::Json<ConsoleRedeem>,
) -> Result<web::Json<ConsoleGrant>, Problem> {
    Ok(web::Json(app.console_redeem(&proxy.0.instance, given.into_inner()).await?))
}

async fn report(
    app: web::Data<App>,
    proxy: Peer,
    body: web::Payload,
) -> Result<web::Json<ConsoleVerdict>, Problem> {
    let too_large = |_| {
        let detail = format!("the report is over {LARGEST_REPORT} bytes");
        Problem::new(ErrorCode::TooLarge, detail)
    };
    let unreadable = |why: String| Problem::new(ErrorCode::MalformedRequest, why);
    let body = body.to_bytes_limited(LARGEST_REPORT).await.map_err(too_large)?;
    let body = body.map_err(|error| unreadable(format!("body: {error}")))?;
    let told: ConsoleReport =
        serde_json::from_slice(&body).map_err(|error| unreadable(format!("body: {error}")))?;
    Ok(web::Json(app.console_report(&proxy.0.instance, told)))
}

async fn events(app: web::Data<App>, draining: Draining) -> HttpResponse {
    // The first line tells at once that the stream stands.
    let start = (app.consoles.events(), true);
    let lines = stream::unfold(start, |(mut events, first)| async move {
        let event = if first { ConsoleEvent::Heartbeat } else { next(&mut events).await? };
        Some((Ok::<_, Infallible>(line(&event)), (events, false)))
    });
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(draining.cut(lines))
}

/// None where events were missed: the proxy comes again, and its report tells what it missed.
async fn next(events: &mut broadcast::Receiver<ConsoleEvent>) -> Option<ConsoleEvent> {
    match tokio::time::timeout(HEARTBEAT, events.recv()).await {
        Ok(Ok(event)) => Some(event),
        Ok(Err(RecvError::Lagged(_) | RecvError::Closed)) => None,
        Err(_) => Some(ConsoleEvent::Heartbeat),
    }
}

fn line(event: &ConsoleEvent) -> Bytes {
    match serde_json::to_string(event) {
        Ok(text) => Bytes::from(text + "\n"),
        Err(error) => {
            tracing::error!(%error, "an event cannot be written as JSON");
            Bytes::new()
        }
    }
}
