//! The audit log.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;
use vmmgr_common::api::audit::AuditRecord;
use vmmgr_common::error::Problem;

use crate::app::App;
use crate::auth::{Caller, ReadAudit};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Records of a page; 1000 at most.
    #[serde(default = "hundred")]
    limit: u32,
    /// Where the page before ended; opaque to callers, from its `Link`.
    page_token: Option<u64>,
}

const fn hundred() -> u32 {
    100
}

/// Records of the audit log, the newest first.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit", operation_id = "list_audit_records",
    params(Filter), responses((status = 200, body = Vec<AuditRecord>, headers(("link" = String, description = "The next page, `rel=\"next\"` (RFC 8288)")))),
)]
pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ReadAudit>,
    filter: web::Query<Filter>,
) -> Result<HttpResponse, Problem> {
    let limit = filter.limit.clamp(1, 1000) as usize;
    let page = app.audit_records(filter.page_token, limit).await?;
    let mut answer = HttpResponse::Ok();
    if let Some(last) = page.last().filter(|last| last.number > 1 && page.len() == limit) {
        let next = format!("/v1/audit?limit={limit}&page_token={}", last.number);
        answer.insert_header(super::next_page(&next));
    }
    Ok(answer.json(page))
}
