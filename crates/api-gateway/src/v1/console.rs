//! Consoles of guests: tickets, who looks, the serial history, a screenshot.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;
use vmmgr_common::api::console::{
    ConsoleExchange, ConsoleRequest, ConsoleResumable, ConsoleSession, ConsoleTicket, OFFSET_HEADER,
};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::ConsoleSessionId;

use super::body::Json;
use super::vms::{VmPath, place};
use crate::app::App;
use crate::auth::{Caller, ManageVms};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Range {
    /// Offset of the first byte that is wanted; the oldest that is kept when absent.
    from: Option<u64>,
    /// Most bytes; 0 is as many as one answer holds.
    #[serde(default)]
    limit: u64,
}

/// A ticket for one websocket.
#[utoipa::path(
    post, path = "/v1/hosts/{host}/vms/{vm}/console",
    tag = "console", operation_id = "open_console",
    responses((status = 200, body = ConsoleTicket)),
)]
pub(super) async fn open(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    asked: Json<ConsoleRequest>,
) -> Result<web::Json<ConsoleTicket>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.console_ticket(&who.identity, &host, vm, asked.into_inner()).await?))
}

/// A ticket or a resume secret for the next pair. What is given is the credential.
#[utoipa::path(
    post, path = "/v1/console/exchange", tag = "console", operation_id = "exchange_console_ticket",
    security(()), responses((status = 200, body = ConsoleResumable)),
)]
pub(super) async fn exchange(
    app: web::Data<App>,
    given: Json<ConsoleExchange>,
) -> Result<web::Json<ConsoleResumable>, Problem> {
    Ok(web::Json(app.console_exchange(given.into_inner()).await?))
}

/// Who looks at a guest's consoles.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}/console/sessions",
    tag = "console", operation_id = "list_console_sessions",
    responses((status = 200, body = Vec<ConsoleSession>)),
)]
pub(super) async fn sessions(
    app: web::Data<App>,
    _: Caller<ManageVms>,
    path: VmPath,
) -> Result<web::Json<Vec<ConsoleSession>>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.console_sessions(&host, vm)?))
}

/// Ends one session.
#[utoipa::path(
    delete, path = "/v1/console/sessions/{id}",
    tag = "console", operation_id = "end_console_session",
    responses((status = 204)),
)]
pub(super) async fn end(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    app.end_console(&who.identity, ConsoleSessionId::parse(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What the serial line said; the header names the offset of the first byte.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}/console/log",
    tag = "console", operation_id = "show_console_log",
    params(Range), responses((status = 200, content(("application/octet-stream")),
        headers(("x-vmmgr-offset" = u64, description = "Offset of the first byte")))),
)]
pub(super) async fn log(
    app: web::Data<App>,
    _: Caller<ManageVms>,
    path: VmPath,
    range: web::Query<Range>,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let (offset, data) = app.agent(&host)?.console_log(vm, range.from, range.limit).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header((OFFSET_HEADER, offset.to_string()))
        .body(data))
}

/// The screen as PNG.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}/screenshot",
    tag = "console", operation_id = "show_screenshot",
    responses((status = 200, content(("image/png")))),
)]
pub(super) async fn screenshot(
    app: web::Data<App>,
    _: Caller<ManageVms>,
    path: VmPath,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let png = app.agent(&host)?.screenshot(vm).await?;
    Ok(HttpResponse::Ok()
        .content_type("image/png")
        .insert_header(("cache-control", "no-store"))
        .body(png))
}
