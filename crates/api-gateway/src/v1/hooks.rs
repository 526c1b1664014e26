//! What hosts' libvirt hooks have reported.

use actix_web::{HttpResponse, web};
use vmmgr_common::error::{ErrorCode, Problem};

use crate::app::App;
use crate::app::hooks::HookReport;
use crate::auth::{Caller, ManageVms, ReadFleet};

/// What the libvirt hooks of hosts have reported, without definitions.
#[utoipa::path(
    get, path = "/v1/hook-reports", tag = "hooks", operation_id = "list_hook_reports",
    responses((status = 200, body = Vec<HookReport>)),
)]
pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
) -> Result<web::Json<Vec<HookReport>>, Problem> {
    Ok(web::Json(app.reports().await?))
}

/// The definition as the host sent it; it may hold passwords, so looking is not enough.
#[utoipa::path(
    get, path = "/v1/hook-reports/{sender}/{guest}/xml",
    tag = "hooks", operation_id = "show_hook_report_xml",
    responses((status = 200, body = String, content_type = "text/plain")),
)]
pub(super) async fn xml(
    app: web::Data<App>,
    _: Caller<ManageVms>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let report = app.report(&path.0, &path.1).await?;
    let absent = || Problem::new(ErrorCode::NoSuchRecord, "the report came without a definition");
    // Plain text: what a host sends is shown, never interpreted.
    let xml = report.xml.ok_or_else(absent)?;
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(xml))
}
