//! Tenant links of a guest.

use std::collections::BTreeSet;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::error::Problem;

use super::body::Json;
use super::vms::{VmPath, place};
use crate::app::App;
use crate::app::links::{LinkRecord, LinkStatus, LinkWish};
use crate::auth::link::LinkVerb;
use crate::auth::{Caller, ManageVms, ReadFleet};

/// Ten days, as the readme's own link has.
const DEFAULT_SECONDS: u64 = 10 * 24 * 3600;

/// Body of `POST …/links`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLink {
    /// What it allows; everything but `snapshot` when absent.
    #[serde(default)]
    verbs: BTreeSet<LinkVerb>,
    /// For people, a line.
    #[serde(default)]
    #[schema(max_length = 200)]
    label: String,
    /// Life; ten days when absent.
    #[schema(minimum = 1)]
    expires_in_seconds: Option<u64>,
    /// How often it can change something or open a console; without end when absent.
    #[schema(minimum = 1, maximum = 10000)]
    uses: Option<u32>,
}

/// The one time that a link is shown.
#[derive(Serialize, ToSchema)]
struct MadeLink {
    #[serde(flatten)]
    record: LinkRecord,
    /// The link as one word, for the page.
    token: String,
    /// The link as it follows `/user/vm/<verb>/`.
    path: String,
    /// Page that takes the token.
    page: &'static str,
}

/// Makes a tenant link. It is shown this once.
#[utoipa::path(
    post, path = "/v1/hosts/{host}/vms/{vm}/links", tag = "links", operation_id = "create_link",
    responses((status = 201, body = MadeLink)),
)]
pub(super) async fn create(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: Json<NewLink>,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let NewLink { verbs, label, expires_in_seconds, uses } = body.into_inner();
    let seconds = expires_in_seconds.unwrap_or(DEFAULT_SECONDS);
    let expires = jsonwebtoken::get_current_timestamp().saturating_add(seconds);
    let wish = LinkWish { verbs, label, expires, uses };
    let (token, record) = app.create_link(&who.identity.user, &host, vm, wish).await?;
    let made = MadeLink { record, token: token.word(), path: token.text(), page: "/guest.html" };
    Ok(HttpResponse::Created().insert_header(("cache-control", "no-store")).json(made))
}

/// Tenant links of a guest.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}/links", tag = "links", operation_id = "list_links",
    responses((status = 200, body = Vec<LinkStatus>)),
)]
pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: VmPath,
) -> Result<web::Json<Vec<LinkStatus>>, Problem> {
    let (host, vm) = place(&path)?;
    app.vm(&host, vm).await?;
    Ok(web::Json(app.links(&host, vm).await?))
}

/// Revokes a link, and ends the consoles that were opened with it.
#[utoipa::path(
    delete, path = "/v1/hosts/{host}/vms/{vm}/links/{id}",
    tag = "links", operation_id = "revoke_link",
    responses((status = 204)),
)]
pub(super) async fn revoke(
    app: web::Data<App>,
    _: Caller<ManageVms>,
    path: web::Path<(String, String, String)>,
) -> Result<HttpResponse, Problem> {
    let (host, vm, id) = path.into_inner();
    let (host, vm) = place(&web::Path::from((host, vm)))?;
    app.revoke_link(&host, vm, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}
