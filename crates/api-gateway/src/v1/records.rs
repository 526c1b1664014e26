//! Gold images and ISOs.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use vmmgr_common::api::host::Arch;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::ResourceName;

use crate::app::App;
use crate::app::records::{ImageRecord, IsoRecord};
use crate::auth::{Caller, ManageRecords, ReadFleet};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    arch: Option<Arch>,
}

pub(super) async fn list_images(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    filter: web::Query<Filter>,
) -> Result<web::Json<Vec<ImageRecord>>, Problem> {
    Ok(web::Json(app.images(filter.arch).await?))
}

pub(super) async fn add_image(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    image: web::Json<ImageRecord>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Created().json(app.add_image(image.into_inner()).await?))
}

pub(super) async fn remove_image(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (name, arch) = path.into_inner();
    let arch = [Arch::X86_64, Arch::Aarch64].into_iter().find(|known| known.as_str() == arch);
    let arch = arch.ok_or_else(|| Problem::new(ErrorCode::NoSuchRecord, "no such architecture"))?;
    app.remove_image(&ResourceName::parse(&name)?, arch).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(super) async fn list_isos(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
) -> Result<web::Json<Vec<IsoRecord>>, Problem> {
    Ok(web::Json(app.isos().await?))
}

pub(super) async fn add_iso(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    iso: web::Json<IsoRecord>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Created().json(app.add_iso(iso.into_inner()).await?))
}

pub(super) async fn remove_iso(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    app.remove_iso(&ResourceName::parse(&name)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
