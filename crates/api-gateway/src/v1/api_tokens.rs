//! Named tokens for scripts.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;
use vmmgr_common::error::Problem;
use vmmgr_common::secret::Secret;

use super::body::Json;
use crate::app::App;
use crate::app::api_tokens::{ApiTokenView, ApiTokenWish};
use crate::auth::{Caller, ReadFleet};

/// The one time that a token is shown.
#[derive(Serialize, ToSchema)]
struct MadeToken {
    /// For `Authorization: Bearer <token>`.
    #[schema(value_type = String, format = Password)]
    token: Secret<String>,
    #[serde(flatten)]
    record: ApiTokenView,
}

/// Makes a token for scripts. It is shown this once.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", operation_id = "create_token",
    responses((status = 201, body = MadeToken)),
)]
pub(super) async fn create(
    app: web::Data<App>,
    who: Caller<ReadFleet>,
    wish: Json<ApiTokenWish>,
) -> Result<HttpResponse, Problem> {
    let now = jsonwebtoken::get_current_timestamp();
    let (token, record) = app.create_api_token(&who.identity, wish.into_inner(), now).await?;
    tracing::info!(user = who.identity.user, "token made");
    Ok(HttpResponse::Created()
        .insert_header(("cache-control", "no-store"))
        .json(MadeToken { token, record }))
}

/// One's own tokens; all for an admin.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens", operation_id = "list_tokens",
    responses((status = 200, body = Vec<ApiTokenView>)),
)]
pub(super) async fn list(
    app: web::Data<App>,
    who: Caller<ReadFleet>,
) -> web::Json<Vec<ApiTokenView>> {
    web::Json(app.list_api_tokens(&who.identity, jsonwebtoken::get_current_timestamp()))
}

/// Revokes a token: it is worth nothing from now on.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens", operation_id = "revoke_token",
    responses((status = 204)),
)]
pub(super) async fn revoke(
    app: web::Data<App>,
    who: Caller<ReadFleet>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    app.revoke_api_token(&who.identity, &id).await?;
    tracing::info!(user = who.identity.user, token = %*id, "token revoked");
    Ok(HttpResponse::NoContent().finish())
}
