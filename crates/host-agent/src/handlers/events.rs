//! Streams of JSON lines: what changes on the host, and how an operation goes.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use vmmgr_common::api::inventory::{HostEvent, Inventory};
use vmmgr_common::api::operation::OperationEvent;
use vmmgr_common::error::Problem;
use vmmgr_common::ids::OperationId;
use vmmgr_common::server::Draining;

use crate::ops::Engine;

/// A silent stream says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(5);

fn ndjson(
    draining: Draining,
    lines: impl Stream<Item = Result<Bytes, Infallible>> + 'static,
) -> HttpResponse {
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(draining.cut(lines))
}

fn line<T: Serialize>(value: &T) -> Bytes {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            Bytes::from(text)
        }
        Err(error) => {
            tracing::error!(%error, "an event cannot be written as JSON");
            Bytes::new()
        }
    }
}

struct HostFeed {
    engine: web::Data<Engine>,
    first: Option<Inventory>,
    events: broadcast::Receiver<HostEvent>,
    generation: u64,
}

impl HostFeed {
    async fn next(&mut self) -> Option<HostEvent> {
        if let Some(snapshot) = self.first.take() {
            self.generation = snapshot.generation;
            return Some(HostEvent::Snapshot(snapshot));
        }
        match tokio::time::timeout(HEARTBEAT, self.events.recv()).await {
            Ok(Ok(event)) => Some(event),
            // Too slow for single changes: everything again.
            Ok(Err(broadcast::error::RecvError::Lagged(_))) => {
                let (snapshot, events) = self.engine.context().inventory.subscribe();
                self.events = events;
                self.generation = snapshot.generation;
                Some(HostEvent::Snapshot(snapshot))
            }
            Ok(Err(broadcast::error::RecvError::Closed)) => None,
            Err(_) => Some(HostEvent::Heartbeat {
                generation: self.engine.context().inventory.generation(),
            }),
        }
    }
}

/// A snapshot, then every change.
pub(super) async fn host_events(engine: web::Data<Engine>, draining: Draining) -> HttpResponse {
    let (first, events) = engine.context().inventory.subscribe();
    let feed = HostFeed { engine, first: Some(first), events, generation: 0 };
    ndjson(
        draining,
        stream::unfold(feed, |mut feed| async move {
            let event = feed.next().await?;
            Some((Ok(line(&event)), feed))
        }),
    )
}

struct OperationFeed {
    view: watch::Receiver<crate::ops::View>,
    told: usize,
    over: bool,
}

impl OperationFeed {
    /// What is new, as a line; an empty one where nothing was for a while, because a step may take long.
    async fn next(&mut self) -> Option<Bytes> {
        let event = tokio::time::timeout(HEARTBEAT, self.event()).await;
        event.map_or(Some(Bytes::from_static(b"\n")), |event| event.map(|event| line(&event)))
    }

    async fn event(&mut self) -> Option<OperationEvent> {
        while !self.over {
            let fresh = {
                let view = self.view.borrow_and_update();
                if let Some(text) = view.lines.get(self.told) {
                    self.told += 1;
                    return Some(OperationEvent::Progress { line: text.clone() });
                }
                view.operation.clone()
            };
            if fresh.state.is_final() {
                self.over = true;
                return Some(OperationEvent::Done { operation: Box::new(fresh) });
            }
            if self.view.changed().await.is_err() {
                self.over = true;
            }
        }
        None
    }
}

/// An operation's progress so far, what follows, and its end.
pub(super) async fn operation_events(
    engine: web::Data<Engine>,
    draining: Draining,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = OperationId::parse(&id)?;
    if let Some(view) = engine.watch(id) {
        let feed = OperationFeed { view, told: 0, over: false };
        return Ok(ndjson(
            draining,
            stream::unfold(feed, |mut feed| async move {
                let text = feed.next().await?;
                Some((Ok(text), feed))
            }),
        ));
    }
    let operation = engine.operation(id).await?;
    let end = line(&OperationEvent::Done { operation: Box::new(operation) });
    Ok(ndjson(draining, stream::iter([Ok(end)])))
}
