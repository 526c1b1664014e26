//! Who calls, and under which request id.

use std::any::Any;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Extensions, Payload, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::rt::net::TcpStream;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, ResponseError as _};

use super::failure;
use crate::error::{ErrorCode, Problem};
use crate::mtls::{Identity, Role};
use crate::request_id;

/// The mTLS caller of a request.
#[derive(Debug, Clone)]
pub struct Peer(pub Identity);

/// The request's id; also in the `x-request-id` of the answer.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Reads the caller's certificate once a connection.
pub(super) fn on_connect(connection: &dyn Any, data: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else {
        return;
    };
    let (_, session) = stream.get_ref();
    if let Some(leaf) = session.peer_certificates().and_then(|chain| chain.first()) {
        match Identity::of_certificate(leaf) {
            Ok(identity) => {
                data.insert(Peer(identity));
            }
            Err(error) => tracing::warn!(%error, "a caller's certificate names nobody"),
        }
    }
}

/// What of a path may be written down: a tenant link can be a part of the path, and then all that
/// follows the verb stays out.
pub fn loggable(path: &str) -> &str {
    if !path.starts_with("/user/") {
        return path;
    }
    path.match_indices('/').nth(3).map_or(path, |(at, _)| &path[..=at])
}

/// Lets only `accept` in, and tells the doors who it is.
pub(super) fn admit(request: &ServiceRequest, accept: &[Role]) -> Result<(), Problem> {
    match request.conn_data::<Peer>() {
        Some(peer) if accept.contains(&peer.0.role) => {
            request.extensions_mut().insert(peer.clone());
            Ok(())
        }
        Some(peer) => {
            tracing::warn!(caller = %peer.0, "refused a certificate of another role");
            Err(Problem::new(ErrorCode::Forbidden, format!("{} may not call this service", peer.0)))
        }
        None => Err(Problem::new(ErrorCode::Forbidden, "the certificate names no vmmgr role")),
    }
}

/// Role check, request id and access log around every handler.
pub(super) async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
    accept: Arc<[Role]>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let given = request.headers().get(request_id::HEADER).and_then(|v| v.to_str().ok());
    let id = request_id::accept(given);
    request.extensions_mut().insert(RequestId(id.clone()));
    request_id::scope(id.clone(), async move {
        let started = std::time::Instant::now();
        let (method, path) = (request.method().clone(), loggable(request.path()).to_owned());
        let mut response = match admit(&request, &accept) {
            Ok(()) => match next.call(request).await {
                // Bare: a handler of ours always says more.
                Ok(response)
                    if response.status() == StatusCode::METHOD_NOT_ALLOWED
                        && !response.headers().contains_key(CONTENT_TYPE) =>
                {
                    let answer = failure::method_not_allowed(&method, response.response().head());
                    response.into_response(answer).map_into_right_body()
                }
                Ok(response) => response.map_into_left_body(),
                Err(error) => return Err(error),
            },
            Err(problem) => request.into_response(problem.error_response()).map_into_right_body(),
        };
        if let Ok(value) = HeaderValue::from_str(&id) {
            let name = HeaderName::from_static(request_id::HEADER);
            response.headers_mut().insert(name, value);
        }
        let (status, took) = (response.status().as_u16(), started.elapsed());
        metrics::histogram!("vmmgr_http_request_seconds", "status" => status.to_string())
            .record(took.as_secs_f64());
        // The path only: a query may carry a link's key.
        tracing::info!(request_id = %id, %method, path, status, took_us = took.as_micros() as u64, "answered");
        Ok(response)
    })
    .await
}

impl FromRequest for Peer {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.conn_data::<Self>().cloned().ok_or_else(|| {
            Problem::new(ErrorCode::Unauthenticated, "no client certificate of vmmgr")
        }))
    }
}

impl FromRequest for RequestId {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let known = request.extensions().get::<Self>().cloned();
        ready(Ok(known.unwrap_or_else(|| Self(request_id::accept(None)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_a_path_is_not_written_down() {
        assert_eq!(loggable("/user/vm/list/aG9zdDAx"), "/user/vm/list/");
        assert_eq!(loggable("/user/vm/list/host01/uuid"), "/user/vm/list/");
        assert_eq!(loggable("/user/vm"), "/user/vm");
        assert_eq!(loggable("/vm/list/host01"), "/vm/list/host01");
    }
}
