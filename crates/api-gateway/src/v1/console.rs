//! Consoles of guests: tickets, who looks, the serial history, a screenshot.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use vmmgr_common::api::console::{
    ConsoleExchange, ConsoleRequest, ConsoleResumable, ConsoleSession, ConsoleTicket, OFFSET_HEADER,
};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::ConsoleSessionId;

use super::vms::{VmPath, place};
use crate::app::App;
use crate::auth::{Caller, ManageVms};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    from: Option<u64>,
    #[serde(default)]
    limit: u64,
}

/// A ticket for one websocket.
pub(super) async fn open(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    asked: web::Json<ConsoleRequest>,
) -> Result<web::Json<ConsoleTicket>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.console_ticket(&who.identity, &host, vm, asked.into_inner()).await?))
}

/// A ticket or a resume secret for the next pair. What is given is the credential.
pub(super) async fn exchange(
    app: web::Data<App>,
    given: web::Json<ConsoleExchange>,
) -> Result<web::Json<ConsoleResumable>, Problem> {
    Ok(web::Json(app.console_exchange(given.into_inner()).await?))
}

/// Who looks at a guest's consoles.
pub(super) async fn sessions(
    app: web::Data<App>,
    _: Caller<ManageVms>,
    path: VmPath,
) -> Result<web::Json<Vec<ConsoleSession>>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.console_sessions(&host, vm)?))
}

/// Ends one session.
pub(super) async fn end(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    app.end_console(&who.identity, ConsoleSessionId::parse(&id)?)?;
    Ok(HttpResponse::NoContent().finish())
}

/// What the serial line said; the header names the offset of the first byte.
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
