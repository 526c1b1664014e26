//! Hosts.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;
use vmmgr_common::api::host::HostInfo;
use vmmgr_common::error::Problem;
use vmmgr_common::ids::HostId;

use super::body::Json;
use crate::app::App;
use crate::app::hosts::{HostRecord, HostStatus};
use crate::auth::{Caller, ManageRecords, ReadFleet};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewHost {
    /// As its agent's certificate has it.
    name: HostId,
    /// `https://address:port` of its agent.
    #[schema(max_length = 2000, pattern = "^https://")]
    url: String,
    /// For people, a line.
    #[serde(default)]
    #[schema(max_length = 1000)]
    description: String,
}

/// All hosts and how they are.
#[utoipa::path(
    get, path = "/v1/hosts", tag = "hosts", operation_id = "list_hosts",
    responses((status = 200, body = Vec<HostStatus>)),
)]
pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
) -> Result<web::Json<Vec<HostStatus>>, Problem> {
    Ok(web::Json(app.hosts().await?))
}

/// One host.
#[utoipa::path(
    get, path = "/v1/hosts/{host}", tag = "hosts", operation_id = "show_host",
    responses((status = 200, body = HostStatus)),
)]
pub(super) async fn show(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    host: web::Path<String>,
) -> Result<web::Json<HostStatus>, Problem> {
    Ok(web::Json(app.host(&HostId::parse(&host)?).await?))
}

/// What a host is and can do, asked now.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/capabilities", tag = "hosts", operation_id = "show_capabilities",
    responses((status = 200, body = HostInfo)),
)]
pub(super) async fn capabilities(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    host: web::Path<String>,
) -> Result<web::Json<HostInfo>, Problem> {
    Ok(web::Json(app.host_info(&HostId::parse(&host)?).await?))
}

/// Registers a host, after its agent has proved who it is.
#[utoipa::path(
    post, path = "/v1/hosts", tag = "hosts", operation_id = "add_host",
    responses((status = 201, body = HostStatus)),
)]
pub(super) async fn add(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    host: Json<NewHost>,
) -> Result<HttpResponse, Problem> {
    let NewHost { name, url, description } = host.into_inner();
    let record = HostRecord { name, url, description, info: None, modified: String::new() };
    Ok(HttpResponse::Created().json(app.add_host(record).await?))
}

/// Forgets a host. Its guests stay as they are.
#[utoipa::path(
    delete, path = "/v1/hosts/{host}", tag = "hosts", operation_id = "remove_host",
    responses((status = 204)),
)]
pub(super) async fn remove(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    host: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    app.remove_host(&HostId::parse(&host)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
