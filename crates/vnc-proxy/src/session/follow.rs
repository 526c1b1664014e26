//! What the gateway knows of our sessions, and what it wants of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};
use vmmgr_common::api::console::{ConsoleEvent, ConsoleReport};
use vmmgr_common::client::GatewayClient;
use vmmgr_common::error::Problem;
use vmmgr_common::server::Readiness;

use super::Live;

/// Between two reports when nothing happens.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Between two reports when much happens.
const REPORT_AT_MOST_EVERY: Duration = Duration::from_millis(200);
/// Between two tries to follow the events: a session ends within 1 s of the gateway's word.
const RETRY: Duration = Duration::from_millis(300);
/// Name of the condition on `/readyz`.
const CONDITION: &str = "gateway";

/// Tells the gateway once which sessions there are, and ends those that it names.
pub(crate) async fn report(gateway: &GatewayClient, live: &Live) -> Result<(), Problem> {
    let report = ConsoleReport { sessions: live.list() };
    for id in gateway.report(&report).await?.end {
        if live.end(id, "ended by the gateway".to_owned()) {
            tracing::info!(session.id = %id, "the gateway's verdict ends a session");
        }
    }
    Ok(())
}

/// Reports for ever.
async fn reports(gateway: &GatewayClient, live: &Live) {
    let mut told = false;
    loop {
        match report(gateway, live).await {
            Ok(()) => told = false,
            Err(problem) if !told => {
                tracing::warn!(%problem, "cannot report sessions; they go on, and so do the reports");
                told = true;
            }
            Err(_) => {}
        }
        sleep(REPORT_AT_MOST_EVERY).await;
        // Either way it is time: something changed, or nothing did for a while.
        let _ = timeout(REPORT_EVERY, live.changed.notified()).await.is_err();
    }
}

/// Does what the gateway's events say until their stream breaks.
async fn obey(gateway: &GatewayClient, live: &Live, ready: &Readiness) -> Result<(), Problem> {
    let mut events = std::pin::pin!(gateway.console_events().await?);
    ready.set(CONDITION, Ok(()));
    // What was said while nobody listened.
    live.changed.notify_one();
    while let Some(event) = events.next().await {
        match event? {
            ConsoleEvent::Heartbeat => {}
            ConsoleEvent::End { session, reason } => {
                if live.end(session, reason.clone()) {
                    tracing::info!(session.id = %session, reason, "the gateway ends a session");
                }
            }
        }
    }
    Ok(())
}

/// Reports and follows for ever. A gateway that is away ends no session.
pub(crate) async fn follow(gateway: GatewayClient, live: Arc<Live>, ready: Readiness) {
    super::live::describe();
    let events = async {
        loop {
            if let Err(problem) = obey(&gateway, &live, &ready).await {
                ready.set(CONDITION, Err(problem.to_string()));
            }
            sleep(RETRY).await;
        }
    };
    tokio::join!(events, reports(&gateway, &live));
}
