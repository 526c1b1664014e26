//! Logging in and out.

use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use vmmgr_common::error::Problem;
use vmmgr_common::secret::Secret;

use crate::app::App;
use crate::auth::password::{self, User};
use crate::auth::{Caller, ReadFleet, Role};
use crate::watch;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    username: String,
    password: Secret<String>,
}

#[derive(Serialize)]
pub(super) struct Session {
    token: Secret<String>,
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
}

#[derive(Serialize)]
pub(super) struct Me {
    username: String,
    role: Role,
    /// Seconds since 1970.
    expires: u64,
}

/// `POST /v1/session`: name and password for a token.
pub(super) async fn login(
    app: web::Data<App>,
    request: HttpRequest,
    login: web::Json<Login>,
) -> Result<web::Json<Session>, Problem> {
    let Login { username, password } = login.into_inner();
    // The bucket's key is cut: a long name must not fill the memory.
    let name: String = username.chars().take(64).collect();
    watch::is_of(&request, name.as_str(), true);
    app.attempts.take(&name, Instant::now())?;
    let user = password::verify(app.store.as_ref(), &username, password).await?;
    // An account that was made beside this process is known from here on.
    app.accounts.know(&user.name, user.generation);
    tracing::info!(user = user.name, "logged in");
    Session::open(&app, &user).map(web::Json)
}

impl Session {
    /// A new token for an account.
    pub(super) fn open(app: &App, user: &User) -> Result<Self, Problem> {
        let token = app.tokens.sign(&user.name, user.role, user.generation)?;
        Ok(Self { token, token_type: "Bearer", expires_in: app.tokens.seconds() })
    }
}

/// `GET /v1/session`: who I am.
pub(super) async fn me(who: Caller<ReadFleet>) -> web::Json<Me> {
    let identity = who.identity;
    web::Json(Me { username: identity.user, role: identity.role, expires: identity.until })
}

/// `DELETE /v1/session`: the token is worth nothing from now on.
pub(super) async fn logout(
    app: web::Data<App>,
    who: Caller<ReadFleet>,
) -> Result<HttpResponse, Problem> {
    app.revoke(&who.identity.token, who.identity.until).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /v1/version`.
pub(super) async fn version() -> web::Json<serde_json::Value> {
    web::Json(serde_json::json!({ "name": "vmmgr", "version": env!("CARGO_PKG_VERSION") }))
}
