//! The record files, in and out.

use actix_web::web;
use vmmgr_common::error::Problem;

use crate::app::App;
use crate::app::transfer::{Files, Finding};
use crate::auth::{Caller, ManageRecords};

pub(super) async fn export(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
) -> Result<web::Json<Files>, Problem> {
    Ok(web::Json(app.export().await?))
}

pub(super) async fn import(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    files: web::Json<Files>,
) -> Result<web::Json<Vec<Finding>>, Problem> {
    Ok(web::Json(app.import(&files).await?))
}
