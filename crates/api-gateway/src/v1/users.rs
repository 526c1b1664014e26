//! Accounts.

use std::time::Instant;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;
use vmmgr_common::error::Problem;
use vmmgr_common::ids::ResourceName;
use vmmgr_common::secret::Secret;

use super::body::Json;
use super::session::Session;
use crate::app::App;
use crate::app::users::{UserChange, UserView};
use crate::auth::{Caller, ManageAccounts, ReadFleet, Role};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// Login name.
    name: ResourceName,
    /// What it may do.
    role: Role,
    /// 10 characters at least, 1024 bytes at most.
    #[schema(value_type = String, format = Password, min_length = 10, max_length = 1024)]
    password: Secret<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    /// The present one.
    #[schema(value_type = String, format = Password)]
    old: Secret<String>,
    /// 10 characters at least, 1024 bytes at most; all sessions of the account end.
    #[schema(value_type = String, format = Password, min_length = 10, max_length = 1024)]
    new: Secret<String>,
}

/// All accounts.
#[utoipa::path(
    get, path = "/v1/users", tag = "users", operation_id = "list_users",
    responses((status = 200, body = Vec<UserView>)),
)]
pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ManageAccounts>,
) -> Result<web::Json<Vec<UserView>>, Problem> {
    Ok(web::Json(app.users().await?))
}

/// Adds an account.
#[utoipa::path(
    post, path = "/v1/users", tag = "users", operation_id = "add_user",
    responses((status = 201, body = UserView)),
)]
pub(super) async fn add(
    app: web::Data<App>,
    who: Caller<ManageAccounts>,
    user: Json<NewUser>,
) -> Result<HttpResponse, Problem> {
    let NewUser { name, role, password } = user.into_inner();
    let added = app.add_user(&name, role, password).await?;
    tracing::info!(by = who.identity.user, user = %name, ?role, "account added");
    Ok(HttpResponse::Created().json(added))
}

/// Changes role, password or both; all sessions of the account end.
#[utoipa::path(
    patch, path = "/v1/users/{name}", tag = "users", operation_id = "change_user",
    responses((status = 200, body = UserView)),
)]
pub(super) async fn change(
    app: web::Data<App>,
    who: Caller<ManageAccounts>,
    name: web::Path<String>,
    change: Json<UserChange>,
) -> Result<web::Json<UserView>, Problem> {
    let name = ResourceName::parse(&name)?;
    let changed = app.change_user(name.as_str(), change.into_inner()).await?;
    tracing::info!(by = who.identity.user, user = %name, "account changed");
    Ok(web::Json(changed))
}

/// Removes an account with its sessions and tokens.
#[utoipa::path(
    delete, path = "/v1/users/{name}", tag = "users", operation_id = "remove_user",
    responses((status = 204)),
)]
pub(super) async fn remove(
    app: web::Data<App>,
    who: Caller<ManageAccounts>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let name = ResourceName::parse(&name)?;
    app.remove_user(name.as_str()).await?;
    tracing::info!(by = who.identity.user, user = %name, "account removed");
    Ok(HttpResponse::NoContent().finish())
}

/// Changes one's own password; answers a new session, all others end.
#[utoipa::path(
    put, path = "/v1/session/password", tag = "session", operation_id = "change_password",
    responses((status = 200, body = Session)),
)]
pub(super) async fn change_password(
    app: web::Data<App>,
    who: Caller<ReadFleet>,
    password: Json<NewPassword>,
) -> Result<web::Json<Session>, Problem> {
    let NewPassword { old, new } = password.into_inner();
    app.attempts.take(&who.identity.user, Instant::now())?;
    let user = app.change_password(&who.identity.user, old, new).await?;
    tracing::info!(user = user.name, "changed the password");
    Session::open(&app, &user).map(web::Json)
}
