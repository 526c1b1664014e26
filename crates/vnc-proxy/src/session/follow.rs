//! What the gateways know of our sessions, and what they want of them. Each hears of all sessions and
//! may end each: they have one store, and any of them may have gone tomorrow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::sleep;
use vmmgr_common::api::console::{ConsoleEvent, ConsoleGrant, ConsoleRedeem, ConsoleReport};
use vmmgr_common::client::{ClientError, GatewayClient};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::server::Readiness;

use super::Live;
use crate::config::{Config, Gateway};

/// Between two reports when nothing happens.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Between two reports when much happens.
const REPORT_AT_MOST_EVERY: Duration = Duration::from_millis(200);
/// Between two tries to follow the events: a session ends within 1 s of the gateway's word.
const RETRY: Duration = Duration::from_millis(300);
/// Name of the condition on `/readyz`.
const CONDITION: &str = "gateway";

/// Tells a gateway once which sessions there are, and ends those that it names.
async fn report(gateway: &GatewayClient, live: &Live) -> Result<(), Problem> {
    let report = ConsoleReport { sessions: live.list() };
    for id in gateway.report(&report).await?.end {
        if live.end(id, "ended by the gateway".to_owned()) {
            tracing::info!(session.id = %id, "the gateway's verdict ends a session");
        }
    }
    Ok(())
}

/// Reports for ever.
async fn reports(gateway: &GatewayClient, live: &Live, again: &Notify) {
    let (mut told, mut changes) = (false, live.changes());
    loop {
        changes.mark_unchanged();
        match report(gateway, live).await {
            Ok(()) => told = false,
            Err(problem) if !told => {
                tracing::warn!(%problem, "cannot report sessions; they go on, and so do the reports");
                told = true;
            }
            Err(_) => {}
        }
        sleep(REPORT_AT_MOST_EVERY).await;
        tokio::select! {
            // The sender lives as long as we do.
            _ = changes.changed() => {}
            () = again.notified() => {}
            () = sleep(REPORT_EVERY) => {}
        }
    }
}

/// Does what a gateway's events say until their stream breaks.
async fn obey(
    gateway: &GatewayClient,
    live: &Live,
    again: &Notify,
    heard: impl FnOnce(),
) -> Result<(), Problem> {
    let mut events = std::pin::pin!(gateway.console_events().await?);
    heard();
    // What was said while nobody listened.
    again.notify_one();
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

/// All gateways of one store.
#[derive(Debug, Clone)]
pub(crate) struct Gateways(Arc<[GatewayClient]>);

impl Gateways {
    /// Those of the configuration.
    pub(crate) fn new(config: &Config) -> Result<Self, ClientError> {
        let client = |of: &Gateway| GatewayClient::new(&config.tls, &of.url, &of.name);
        Ok(Self(config.gateway.iter().map(client).collect::<Result<_, _>>()?))
    }

    /// Uses a ticket up at the first gateway that can. Where an answer was lost the ticket is used up, and
    /// the next gateway refuses it.
    pub(crate) async fn redeem(&self, ticket: &ConsoleRedeem) -> Result<ConsoleGrant, Problem> {
        let mut last = Problem::new(ErrorCode::Internal, "there is no gateway");
        for gateway in &*self.0 {
            match gateway.redeem(ticket).await {
                Err(problem) if problem.status >= 500 => last = problem,
                judged => return judged,
            }
        }
        Err(last)
    }

    /// Tells all of them once which sessions there are.
    pub(crate) async fn report(&self, live: &Live) {
        for told in join_all(self.0.iter().map(|gateway| report(gateway, live))).await {
            if let Err(problem) = told {
                tracing::info!(%problem, "a report was not taken");
            }
        }
    }

    /// Reports and follows for ever. Gateways that are away end no session; this is ready while one is
    /// there.
    pub(crate) async fn follow(self, live: Arc<Live>, ready: Readiness) {
        super::live::describe();
        let there = AtomicUsize::new(0);
        let follow = async |gateway: &GatewayClient| {
            let again = Notify::new();
            let events = async {
                loop {
                    let mut heard = false;
                    let ended = obey(gateway, &live, &again, || {
                        heard = true;
                        there.fetch_add(1, Ordering::Relaxed);
                        ready.set(CONDITION, Ok(()));
                    });
                    let ended = ended.await;
                    let left = match heard {
                        true => there.fetch_sub(1, Ordering::Relaxed) - 1,
                        false => there.load(Ordering::Relaxed),
                    };
                    if let (Err(problem), 0) = (ended, left) {
                        ready.set(CONDITION, Err(problem.to_string()));
                    }
                    sleep(RETRY).await;
                }
            };
            tokio::join!(events, reports(gateway, &live, &again));
        };
        join_all(self.0.iter().map(follow)).await;
    }
}
