//! Operations: how far, and how they go.

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use utoipa::IntoParams;
use vmmgr_common::api::operation::OperationEvent;
use vmmgr_common::error::Problem;
use vmmgr_common::ids::{OperationId, VmId};
use vmmgr_common::server::Draining;

use crate::app::App;
use crate::app::operations::OperationRecord;
use crate::auth::{Caller, ReadFleet};

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

/// One JSON document a line: what happened so far, what follows, and the end.
#[utoipa::path(
    get, path = "/v1/operations/{id}/events", tag = "operations", operation_id = "follow_operation",
    responses((status = 200, body = OperationEvent, content_type = "application/x-ndjson")),
)]
pub(super) async fn events(
    app: web::Data<App>,
    draining: Draining,
    _: Caller<ReadFleet>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = OperationId::parse(&id)?;
    let record = app.operation(id).await?;
    let mut answer = HttpResponse::Ok();
    answer.content_type("application/x-ndjson").insert_header(("x-accel-buffering", "no"));
    if record.operation.state.is_final() {
        let end = OperationEvent::Done { operation: Box::new(record.operation) };
        return Ok(answer.body(line(&end)));
    }
    let events = app.agent(&record.host)?.operation_events(id).await?;
    Ok(answer.streaming(draining.cut(events.map(|event| event.map(|event| line(&event))))))
}

fn line(event: &OperationEvent) -> Bytes {
    match serde_json::to_string(event) {
        Ok(text) => Bytes::from(text + "\n"),
        Err(error) => {
            tracing::error!(%error, "an event cannot be written as JSON");
            Bytes::new()
        }
    }
}
