//! The extractor that every handler names.

use std::future::{Ready, ready};
use std::marker::PhantomData;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, web};
use vmmgr_common::error::{ErrorCode, Problem};

use super::token::Claims;
use super::{Policy, Role};
use crate::app::App;
use crate::app::api_tokens::PREFIX;
use crate::watch;

/// What stands before the id of a link where an account's name stands otherwise; no name of an
/// account has a colon.
pub(crate) const LINK: &str = "link:";

/// An authenticated account.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Account, or [`LINK`] and the id of a link.
    pub(crate) user: String,
    /// Its role.
    pub(crate) role: Role,
    /// Name of the session or the token; what the store knows a link by.
    pub(crate) token: String,
    /// Generation of the account that the token was given in.
    pub(crate) generation: u32,
    /// When the token ends, seconds since 1970.
    pub(crate) until: u64,
    /// How often the session was refreshed; none where there is no session.
    pub(crate) refreshes: Option<u32>,
}

impl From<Claims> for Identity {
    fn from(claims: Claims) -> Self {
        Self {
            user: claims.sub,
            role: claims.role,
            token: claims.jti,
            generation: claims.generation,
            until: claims.exp,
            refreshes: Some(claims.count),
        }
    }
}

/// A caller that may do what `P` names.
pub(crate) struct Caller<P> {
    /// Who it is.
    pub(crate) identity: Identity,
    policy: PhantomData<P>,
}

fn authenticate(request: &HttpRequest) -> Result<Identity, Problem> {
    let refuse = || {
        Problem::new(ErrorCode::Unauthenticated, "no bearer token was sent")
            .hint("log in (`vmmctl login`) and send `Authorization: Bearer <token>`")
    };
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let (Some(header), None) = (headers.next(), headers.next()) else { return Err(refuse()) };
    let token =
        header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).ok_or_else(refuse)?;
    let app = request
        .app_data::<web::Data<App>>()
        .ok_or_else(|| Problem::new(ErrorCode::Internal, "the application is not set up"))?;
    let identity = if token.starts_with(PREFIX) {
        app.api_tokens.identity(token, jsonwebtoken::get_current_timestamp())?
    } else {
        app.tokens.verify(token)?.into()
    };
    if app.is_revoked(&identity.token) {
        return Err(Problem::new(ErrorCode::Unauthenticated, "the token was revoked"));
    }
    if !app.accounts.has(&identity.user, identity.generation) {
        return Err(Problem::new(
            ErrorCode::Unauthenticated,
            "the account is gone, or its role or password was changed",
        )
        .hint("log in again (`vmmctl login`)"));
    }
    app.limits.account(&identity.user)?;
    Ok(identity)
}

impl<P: Policy> FromRequest for Caller<P> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(authenticate(request).and_then(|identity| {
            watch::is_of(request, identity.user.as_str(), P::LEAST > Role::Viewer);
            if identity.role < P::LEAST {
                tracing::warn!(user = identity.user, path = request.path(), "refused");
                let detail = format!("`{}` may not do this", identity.user);
                return Err(Problem::new(ErrorCode::Forbidden, detail));
            }
            Ok(Self { identity, policy: PhantomData })
        }))
    }
}
