//! `/api/login` and `/api/refresh`: the described system's service for tokens.
//!
//! It took its token from a cookie as well, which every site could make a browser send; here only
//! the header counts. It put whatever else the body had into the token; here that is left out.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};
use vmmgr_common::secret::Secret;
use vmmgr_common::strict::Strict;

use super::envelope::{answer, ok};
use crate::app::App;
use crate::auth::{Caller, ReadFleet, login};
use crate::query::Arguments;

/// Further fields are not read.
#[derive(Deserialize)]
pub(super) struct Login {
    username: String,
    password: Secret<String>,
}

fn token(app: &App, desc: &str, token: &Secret<String>) -> Value {
    ok(desc, json!({"token": token, "expires": app.tokens.seconds()}))
}

/// `POST /api/login`: name and password for a token.
pub(super) async fn log_in(
    app: web::Data<App>,
    request: HttpRequest,
    body: web::Json<Strict<Login>>,
) -> HttpResponse {
    let Login { username, password } = body.into_inner().0;
    let run = async {
        Arguments::of(&request, &[])?;
        let user = login::enter(&app, &request, &username, password).await?;
        let signed = app.tokens.sign(&user.name, user.role, user.generation)?;
        Ok(token(&app, "login OK", &signed))
    };
    answer("login", run.await)
}

/// `GET /api/refresh`: a later end for a session.
pub(super) async fn refresh(
    app: web::Data<App>,
    who: Caller<ReadFleet>,
    request: HttpRequest,
) -> HttpResponse {
    let run = || {
        Arguments::of(&request, &[])?;
        let signed = app.tokens.refresh(&who.identity)?;
        Ok(token(&app, "token refresh", &signed))
    };
    answer("refresh", run())
}
