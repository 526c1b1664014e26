//! `POST /v1/operations`, `GET /v1/operations/{id}`.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use vmmgr_common::api::operation::{Operation, OperationRequest};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::OperationId;

use crate::ops::Engine;

/// Longest time that an answer is held back.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    #[serde(default)]
    wait_ms: u64,
}

/// Accepts work: 200 when it has ended, 202 while it has not.
pub(super) async fn submit(
    engine: web::Data<Engine>,
    wait: web::Query<Wait>,
    request: web::Json<OperationRequest>,
) -> Result<HttpResponse, Problem> {
    let accepted = engine.submit(request.into_inner()).await?;
    let wait = Duration::from_millis(wait.wait_ms).min(LONGEST_WAIT);
    let operation = engine.wait(accepted.id, wait).await?;
    let mut answer =
        if operation.state.is_final() { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    Ok(answer.json(operation))
}

/// How far an operation is.
pub(super) async fn show(
    engine: web::Data<Engine>,
    id: web::Path<String>,
) -> Result<web::Json<Operation>, Problem> {
    Ok(web::Json(engine.operation(OperationId::parse(&id)?).await?))
}
