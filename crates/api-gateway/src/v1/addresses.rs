//! The pool of addresses.

use std::net::IpAddr;

use actix_web::{HttpResponse, web};
use ipnet::IpNet;
use serde::Serialize;
use utoipa::ToSchema;
use vmmgr_common::error::Problem;

use super::body::Json;
use crate::app::App;
use crate::app::addresses::{NewRange, Range, RangeStatus};
use crate::auth::{Caller, ManageRecords, ReadFleet};

#[derive(Serialize, ToSchema)]
pub(super) struct FreeAddress {
    /// With its prefix length, `10.0.0.7/24`.
    #[schema(value_type = Option<String>)]
    address: Option<IpNet>,
    /// Gateway of its network.
    #[schema(value_type = Option<String>)]
    gateway: Option<IpAddr>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct AddedRange {
    /// What it is removed by.
    id: String,
    /// As it was read.
    range: Range,
}

/// Ranges of the pool, what is free in them, and who has the rest.
#[utoipa::path(
    get, path = "/v1/addresses", tag = "addresses", operation_id = "list_ranges",
    responses((status = 200, body = Vec<RangeStatus>)),
)]
pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
) -> Result<web::Json<Vec<RangeStatus>>, Problem> {
    Ok(web::Json(app.range_statuses().await?))
}

/// One free address, or nulls when there is none. Creating a guest with it reserves it.
#[utoipa::path(
    get, path = "/v1/free-address", tag = "addresses", operation_id = "show_free_address",
    responses((status = 200, body = FreeAddress)),
)]
pub(super) async fn free(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
) -> Result<web::Json<FreeAddress>, Problem> {
    let (address, gateway) = app.free_address().await?.unzip();
    Ok(web::Json(FreeAddress { address, gateway: gateway.flatten() }))
}

/// Adds a range to the pool.
#[utoipa::path(
    post, path = "/v1/addresses", tag = "addresses", operation_id = "add_range",
    responses((status = 201, body = AddedRange)),
)]
pub(super) async fn add(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    range: Json<NewRange>,
) -> Result<HttpResponse, Problem> {
    let range = app.add_range(&range).await?;
    Ok(HttpResponse::Created().json(AddedRange { id: range.id(), range }))
}

/// Removes a range of which nothing is reserved.
#[utoipa::path(
    delete, path = "/v1/addresses/{range}", tag = "addresses", operation_id = "remove_range",
    responses((status = 204)),
)]
pub(super) async fn remove(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    app.remove_range(&id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes the reservation of an address back.
#[utoipa::path(
    delete, path = "/v1/addresses/{range}/reservations/{address}",
    tag = "addresses", operation_id = "release_address",
    responses((status = 204)),
)]
pub(super) async fn release(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    app.release_address(&path.1).await?;
    Ok(HttpResponse::NoContent().finish())
}
