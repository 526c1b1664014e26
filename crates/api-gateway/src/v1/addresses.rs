//! The pool of addresses.

use actix_web::{HttpResponse, web};
use serde_json::json;
use vmmgr_common::error::Problem;

use crate::app::App;
use crate::app::addresses::{NewRange, RangeStatus};
use crate::auth::{Caller, ManageRecords, ReadFleet};

pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
) -> Result<web::Json<Vec<RangeStatus>>, Problem> {
    Ok(web::Json(app.range_statuses().await?))
}

/// One free address, or nulls when there is none. Creating a guest with it reserves it.
pub(super) async fn free(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
) -> Result<web::Json<serde_json::Value>, Problem> {
    let (address, gateway) = app.free_address().await?.unzip();
    Ok(web::Json(json!({"address": address, "gateway": gateway.flatten()})))
}

pub(super) async fn add(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    range: web::Json<NewRange>,
) -> Result<HttpResponse, Problem> {
    let range = app.add_range(&range).await?;
    Ok(HttpResponse::Created().json(json!({"id": range.id(), "range": range})))
}

pub(super) async fn remove(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    app.remove_range(&id).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(super) async fn release(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    app.release_address(&path.1).await?;
    Ok(HttpResponse::NoContent().finish())
}
