//! Operations: how far, and how they go.

use std::future::ready;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use serde::Deserialize;
use utoipa::IntoParams;
use vmmgr_common::api::operation::OperationEvent;
use vmmgr_common::error::Problem;
use vmmgr_common::ids::{OperationId, VmId};
use vmmgr_common::server::Draining;

use super::events::last_event_id;
use crate::app::App;
use crate::app::operations::OperationRecord;
use crate::auth::{Caller, ReadFleet};
use crate::sse;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those of this guest.
    vm: Option<VmId>,
    /// Operations of a page; 1000 at most.
    #[serde(default = "hundred")]
    limit: u32,
    /// Where the page before ended; opaque to callers, from its `Link`.
    page_token: Option<OperationId>,
}

const fn hundred() -> u32 {
    100
}

/// Operations, the newest first.
#[utoipa::path(
    get, path = "/v1/operations", tag = "operations", operation_id = "list_operations",
    params(Filter), responses((status = 200, body = Vec<OperationRecord>, headers(("link" = String, description = "The next page, `rel=\"next\"` (RFC 8288)")))),
)]
pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    filter: web::Query<Filter>,
) -> Result<HttpResponse, Problem> {
    let limit = filter.limit.clamp(1, 1000) as usize;
    let page = app.operations(filter.vm, filter.page_token, limit).await?;
    let mut answer = HttpResponse::Ok();
    if let Some(last) = page.last().filter(|_| page.len() == limit) {
        let vm = filter.vm.map(|vm| format!("&vm={vm}")).unwrap_or_default();
        let next = format!("/v1/operations?limit={limit}{vm}&page_token={}", last.operation.id);
        answer.insert_header(super::next_page(&next));
    }
    Ok(answer.json(page))
}

/// One operation.
#[utoipa::path(
    get, path = "/v1/operations/{id}", tag = "operations", operation_id = "show_operation",
    responses((status = 200, body = OperationRecord)),
)]
pub(super) async fn show(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    id: web::Path<String>,
) -> Result<web::Json<OperationRecord>, Problem> {
    Ok(web::Json(app.operation(OperationId::parse(&id)?).await?))
}

/// An operation as server-sent events: what happened so far, what follows, and the end.
#[utoipa::path(
    get, path = "/v1/operations/{id}/events", tag = "operations", operation_id = "follow_operation",
    params(("last-event-id" = Option<String>, Header, description = "The `id` that came last: lines that were told before are left out")),
    responses((status = 200, body = OperationEvent, content_type = "text/event-stream", description = "Events `progress` and, last, `done`; the schema is of their data")),
)]
pub(super) async fn events(
    app: web::Data<App>,
    draining: Draining,
    who: Caller<ReadFleet>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id = OperationId::parse(&id)?;
    let record = app.operation(id).await?;
    if record.operation.state.is_final() {
        let end = OperationEvent::Done { operation: Box::new(record.operation) };
        let frames = stream::iter([frame(0, &end)]);
        return Ok(sse::answer(app, who.identity, draining, frames));
    }
    let events = app.agent(&record.host)?.operation_events(id).await?;
    let told = last_event_id(&request).and_then(|last| last.parse().ok()).unwrap_or(0);
    // Where the host is lost the stream ends without `done`: the operation goes on there.
    let events = events.scan(0, |count, event| {
        *count += 1;
        ready(event.ok().map(|event| (*count, event)))
    });
    let frames = events.filter_map(move |(number, event)| {
        let known = number <= told && matches!(event, OperationEvent::Progress { .. });
        ready((!known).then(|| frame(number, &event)))
    });
    Ok(sse::answer(app, who.identity, draining, sse::kept_alive(frames)))
}

fn frame(number: usize, event: &OperationEvent) -> Bytes {
    let name = match event {
        OperationEvent::Progress { .. } => "progress",
        OperationEvent::Done { .. } => "done",
    };
    match serde_json::to_string(event) {
        Ok(data) => sse::frame(name, &number.to_string(), &data),
        Err(error) => {
            tracing::error!(%error, "an event cannot be written as JSON");
            Bytes::new()
        }
    }
}
