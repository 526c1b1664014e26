//! Named tokens for scripts.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use vmmgr_common::error::Problem;
use vmmgr_common::secret::Secret;

use crate::app::App;
use crate::app::api_tokens::{ApiTokenView, ApiTokenWish};
use crate::auth::{Caller, ReadFleet};

/// The one time that a token is shown.
#[derive(Serialize)]
struct Made {
    token: Secret<String>,
    #[serde(flatten)]
    record: ApiTokenView,
}

/// `POST /v1/tokens`.
pub(super) async fn create(
    app: web::Data<App>,
    who: Caller<ReadFleet>,
    wish: web::Json<ApiTokenWish>,
) -> Result<HttpResponse, Problem> {
    let now = jsonwebtoken::get_current_timestamp();
    let (token, record) = app.create_api_token(&who.identity, wish.into_inner(), now).await?;
    tracing::info!(user = who.identity.user, "token made");
    Ok(HttpResponse::Created()
        .insert_header(("cache-control", "no-store"))
        .json(Made { token, record }))
}

/// `GET /v1/tokens`: one's own; all for an admin.
pub(super) async fn list(
    app: web::Data<App>,
    who: Caller<ReadFleet>,
) -> web::Json<Vec<ApiTokenView>> {
    web::Json(app.list_api_tokens(&who.identity, jsonwebtoken::get_current_timestamp()))
}

/// `DELETE /v1/tokens/{id}`: worth nothing from now on.
pub(super) async fn revoke(
    app: web::Data<App>,
    who: Caller<ReadFleet>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    app.revoke_api_token(&who.identity, &id).await?;
    tracing::info!(user = who.identity.user, token = %*id, "token revoked");
    Ok(HttpResponse::NoContent().finish())
}
