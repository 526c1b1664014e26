//! Hosts.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use vmmgr_common::api::host::HostInfo;
use vmmgr_common::error::Problem;
use vmmgr_common::ids::HostId;

use crate::app::App;
use crate::app::hosts::{HostRecord, HostStatus};
use crate::auth::{Caller, ManageRecords, ReadFleet};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewHost {
    name: HostId,
    url: String,
    #[serde(default)]
    description: String,
}

pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
) -> Result<web::Json<Vec<HostStatus>>, Problem> {
    Ok(web::Json(app.hosts().await?))
}

pub(super) async fn show(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    host: web::Path<String>,
) -> Result<web::Json<HostStatus>, Problem> {
    Ok(web::Json(app.host(&HostId::parse(&host)?).await?))
}

pub(super) async fn capabilities(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    host: web::Path<String>,
) -> Result<web::Json<HostInfo>, Problem> {
    Ok(web::Json(app.host_info(&HostId::parse(&host)?).await?))
}

pub(super) async fn add(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    host: web::Json<NewHost>,
) -> Result<HttpResponse, Problem> {
    let NewHost { name, url, description } = host.into_inner();
    let record = HostRecord { name, url, description, info: None, modified: String::new() };
    Ok(HttpResponse::Created().json(app.add_host(record).await?))
}

pub(super) async fn remove(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    host: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    app.remove_host(&HostId::parse(&host)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
