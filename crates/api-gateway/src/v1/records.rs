//! Gold images and ISOs.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;
use vmmgr_common::api::host::Arch;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::ResourceName;

use super::body::Json;
use crate::app::App;
use crate::app::records::{ImageRecord, IsoRecord};
use crate::auth::{Caller, ManageRecords, ReadFleet};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those that this architecture can boot.
    arch: Option<Arch>,
}

/// Gold images.
#[utoipa::path(
    get, path = "/v1/images", tag = "images", operation_id = "list_images",
    params(Filter), responses((status = 200, body = Vec<ImageRecord>)),
)]
pub(super) async fn list_images(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    filter: web::Query<Filter>,
) -> Result<web::Json<Vec<ImageRecord>>, Problem> {
    Ok(web::Json(app.images(filter.arch).await?))
}

/// Adds a gold image.
#[utoipa::path(
    post, path = "/v1/images", tag = "images", operation_id = "add_image",
    responses((status = 201, body = ImageRecord)),
)]
pub(super) async fn add_image(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    image: Json<ImageRecord>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Created().json(app.add_image(image.into_inner()).await?))
}

/// Removes the record of a gold image; the file stays.
#[utoipa::path(
    delete, path = "/v1/images/{name}/{arch}", tag = "images", operation_id = "remove_image",
    responses((status = 204)),
)]
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

/// ISOs.
#[utoipa::path(
    get, path = "/v1/isos", tag = "images", operation_id = "list_isos",
    responses((status = 200, body = Vec<IsoRecord>)),
)]
pub(super) async fn list_isos(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
) -> Result<web::Json<Vec<IsoRecord>>, Problem> {
    Ok(web::Json(app.isos().await?))
}

/// Adds an ISO.
#[utoipa::path(
    post, path = "/v1/isos", tag = "images", operation_id = "add_iso",
    responses((status = 201, body = IsoRecord)),
)]
pub(super) async fn add_iso(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    iso: Json<IsoRecord>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Created().json(app.add_iso(iso.into_inner()).await?))
}

/// Removes the record of an ISO; the file stays.
#[utoipa::path(
    delete, path = "/v1/isos/{name}", tag = "images", operation_id = "remove_iso",
    responses((status = 204)),
)]
pub(super) async fn remove_iso(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    app.remove_iso(&ResourceName::parse(&name)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
