//! The audit log.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use vmmgr_common::error::Problem;

use crate::app::App;
use crate::auth::{Caller, ReadAudit};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(default = "hundred")]
    limit: usize,
    /// Where the page before ended; opaque to callers, from its `Link`.
    page_token: Option<u64>,
}

const fn hundred() -> usize {
    100
}

/// `GET /v1/audit`: the newest first; `Link: …; rel="next"` (RFC 8288) leads to the older ones.
pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ReadAudit>,
    filter: web::Query<Filter>,
) -> Result<HttpResponse, Problem> {
    let limit = filter.limit.clamp(1, 1000);
    let page = app.audit_records(filter.page_token, limit).await?;
    let mut answer = HttpResponse::Ok();
    if let Some(last) = page.last().filter(|last| last.number > 1 && page.len() == limit) {
        let next = format!("/v1/audit?limit={limit}&page_token={}", last.number);
        answer.insert_header(super::next_page(&next));
    }
    Ok(answer.json(page))
}
