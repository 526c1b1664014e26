//! Logging in and out.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::error::Problem;
use vmmgr_common::secret::Secret;

use super::body::Json;
use crate::app::App;
use crate::auth::password::User;
use crate::auth::{Caller, ReadFleet, Role, login};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// Name of the account.
    username: String,
    /// Its password.
    #[schema(value_type = String, format = Password)]
    password: Secret<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// For `Authorization: Bearer <token>`.
    #[schema(value_type = String, format = Password)]
    token: Secret<String>,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Version {
    /// `vmmgr`.
    name: &'static str,
    /// Semantic version.
    version: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    /// Name of the account.
    username: String,
    /// What it may do.
    role: Role,
    /// Seconds since 1970.
    expires: u64,
}

/// Logs in: name and password for a token.
#[utoipa::path(
    post, path = "/v1/session", tag = "session", operation_id = "log_in",
    security(()), responses((status = 200, body = Session)),
)]
pub(super) async fn login(
    app: web::Data<App>,
    request: HttpRequest,
    body: Json<Login>,
) -> Result<web::Json<Session>, Problem> {
    let Login { username, password } = body.into_inner();
    let user = login::enter(&app, &request, &username, password).await?;
    Session::open(&app, &user).map(web::Json)
}

impl Session {
    /// A new token for an account.
    pub(super) fn open(app: &App, user: &User) -> Result<Self, Problem> {
        let token = app.tokens.sign(&user.name, user.role, user.generation)?;
        Ok(Self { token, token_type: "Bearer", expires_in: app.tokens.seconds() })
    }
}

/// Who I am.
#[utoipa::path(
    get, path = "/v1/session", tag = "session", operation_id = "show_session",
    responses((status = 200, body = Me)),
)]
pub(super) async fn me(who: Caller<ReadFleet>) -> web::Json<Me> {
    let identity = who.identity;
    web::Json(Me { username: identity.user, role: identity.role, expires: identity.until })
}

/// Logs out: the token, and what `/api/refresh` made of it, is worth nothing from now on.
#[utoipa::path(
    delete, path = "/v1/session", tag = "session", operation_id = "log_out",
    responses((status = 204)),
)]
pub(super) async fn logout(
    app: web::Data<App>,
    who: Caller<ReadFleet>,
) -> Result<HttpResponse, Problem> {
    // A later token of the same session may be about.
    let last = jsonwebtoken::get_current_timestamp().saturating_add(app.tokens.longest());
    app.revoke(&who.identity.token, who.identity.until.max(last)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Name and version of this service.
#[utoipa::path(
    get, path = "/v1/version", tag = "service", operation_id = "show_version",
    security(()), responses((status = 200, body = Version)),
)]
pub(super) async fn version() -> web::Json<Version> {
    web::Json(Version { name: "vmmgr", version: env!("CARGO_PKG_VERSION") })
}
