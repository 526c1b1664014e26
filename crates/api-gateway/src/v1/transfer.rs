//! The record files, in and out.

use actix_web::web;
use utoipa::ToSchema;
use vmmgr_common::error::Problem;

use super::body::Json;
use crate::app::App;
use crate::app::transfer::{Files, Finding};
use crate::auth::{Caller, ManageRecords};

/// Record files of the described system, by name, each the parsed JSON.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes `Files`")]
struct RecordFiles {
    /// Hosts.
    #[schema(rename = "hosts.json", value_type = Vec<Value>, required = false)]
    hosts: (),
    /// Devices of hosts; compared, never written.
    #[schema(rename = "devices.json", value_type = Vec<Value>, required = false)]
    devices: (),
    /// Gold images.
    #[schema(rename = "golds.json", value_type = Vec<Value>, required = false)]
    golds: (),
    /// ISOs.
    #[schema(rename = "iso.json", value_type = Vec<Value>, required = false)]
    iso: (),
    /// Addresses.
    #[schema(rename = "ippool.json", value_type = Vec<Value>, required = false)]
    ippool: (),
    /// Guests; compared, never written.
    #[schema(rename = "guests.json", value_type = Vec<Value>, required = false)]
    guests: (),
    /// Help texts of template variables.
    #[schema(rename = "vars.json", value_type = Object, required = false)]
    vars: (),
}

/// All records, as files of the described system.
#[utoipa::path(
    get, path = "/v1/config/export", tag = "config", operation_id = "export_config",
    responses((status = 200, body = RecordFiles)),
)]
pub(super) async fn export(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
) -> Result<web::Json<Files>, Problem> {
    Ok(web::Json(app.export().await?))
}

/// Reads record files of the described system in, and tells what became of each row.
#[utoipa::path(
    post, path = "/v1/config/import", tag = "config", operation_id = "import_config",
    request_body = RecordFiles, responses((status = 200, body = Vec<Finding>)),
)]
pub(super) async fn import(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    files: Json<Files>,
) -> Result<web::Json<Vec<Finding>>, Problem> {
    Ok(web::Json(app.import(&files).await?))
}
