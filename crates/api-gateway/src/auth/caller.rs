//! The caller of a route, already judged by the policy in the handler's signature.

use std::future::{Ready, ready};
use std::marker::PhantomData;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::mtls::Role;
use vmmgr_common::server::Peer;

use super::policy::Policy;
use crate::app::Gateway;
use crate::store::UserRole;

/// How somebody proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Means {
    /// A session token.
    Token {
        /// Its id.
        jti: String,
        /// Its end, Unix seconds.
        exp: i64,
    },
    /// An operator's certificate on a direct connection.
    Certificate,
}

/// A proven caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authenticated {
    /// Account, or `operator/<name>` of the certificate.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: UserRole,
    /// How we know.
    pub(crate) means: Means,
}

/// A caller that fulfils `P`. A handler without one serves anybody.
#[derive(Debug)]
pub(crate) struct Caller<P> {
    /// Who.
    pub(crate) who: Authenticated,
    policy: PhantomData<fn() -> P>,
}

impl<P: Policy> FromRequest for Caller<P> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(authenticate(request).and_then(|who| judge::<P>(who)))
    }
}

fn judge<P: Policy>(who: Authenticated) -> Result<Caller<P>, Problem> {
    if who.role >= P::LEAST {
        return Ok(Caller { who, policy: PhantomData });
    }
    tracing::warn!(actor = %who.name, policy = P::NAME, "refused");
    Err(Problem::new(
        ErrorCode::Forbidden,
        format!("`{}` may not do this: {} is demanded", who.name, P::NAME),
    ))
}

fn authenticate(request: &HttpRequest) -> Result<Authenticated, Problem> {
    let gateway = request
        .app_data::<web::Data<Gateway>>()
        .ok_or_else(|| Problem::new(ErrorCode::Internal, "the gateway is not set up"))?;
    let mut given = request.headers().get_all(header::AUTHORIZATION);
    match (given.next(), given.next()) {
        (Some(value), None) => {
            let token = value.to_str().ok().and_then(bearer).ok_or_else(|| {
                Problem::new(ErrorCode::Unauthenticated, "expected `Authorization: Bearer <token>`")
            })?;
            gateway.auth.verify(token)
        }
        (Some(_), Some(_)) => {
            Err(Problem::new(ErrorCode::MalformedRequest, "two Authorization headers"))
        }
        (None, _) => certificate(request),
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn certificate(request: &HttpRequest) -> Result<Authenticated, Problem> {
    let peer = request.conn_data::<Peer>().filter(|peer| peer.0.role == Role::Operator);
    let Some(peer) = peer else {
        return Err(Problem::new(ErrorCode::Unauthenticated, "no session token")
            .hint("POST /v1/session, then send `Authorization: Bearer <token>`"));
    };
    // A browser sends a certificate for any page that asks; such requests carry these headers.
    let browser = ["origin", "sec-fetch-site", "sec-fetch-mode"];
    if browser.iter().any(|name| request.headers().contains_key(*name)) {
        return Err(Problem::new(
            ErrorCode::Unauthenticated,
            "a certificate alone does not authorise a browser",
        ));
    }
    Ok(Authenticated {
        name: format!("operator/{}", peer.0.instance),
        role: UserRole::Admin,
        means: Means::Certificate,
    })
}

/// Where a request comes from, for throttling: the address that nginx saw, or the peer's.
#[derive(Debug)]
pub(crate) struct Origin(pub(crate) String);

impl FromRequest for Origin {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // Only our own nginx is believed; it overwrites what the client sent.
        let behind_nginx =
            request.conn_data::<Peer>().is_some_and(|peer| peer.0.role == Role::Nginx);
        let told = request.headers().get("x-real-ip").and_then(|value| value.to_str().ok());
        let from = match told {
            Some(address) if behind_nginx => address.chars().take(64).collect(),
            Some(_) | None => request
                .peer_addr()
                .map_or_else(|| "unknown".to_owned(), |address| address.ip().to_string()),
        };
        ready(Ok(Self(from)))
    }
}
