//! The seed's envelope.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::ALLOW;
use actix_web::middleware::Next;
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde_json::{Map, Value, json};
use vmmgr_common::error::{ErrorCode, Problem};

use crate::query::Arguments;

/// The seed's code for everything that is not a libvirt error number.
const OTHER: i64 = 998;

/// A failure under the name of its route.
pub(super) fn error(name: &str, problem: &Problem) -> Value {
    json!({"result": "ERR", "code": code(problem), "name": name, "desc": problem.detail})
}

/// libvirt's own number where the failure is libvirt's (`… (code 55)`).
fn code(problem: &Problem) -> i64 {
    let number = problem.detail.rsplit_once("(code ").and_then(|(_, rest)| rest.strip_suffix(')'));
    number.and_then(|text| text.parse().ok()).unwrap_or(OTHER)
}

/// The answer to a failure.
pub(super) fn refuse(name: &str, problem: &Problem) -> HttpResponse {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponseBuilder::new(status).json(error(name, problem))
}

/// A success with more fields.
pub(super) fn ok(desc: impl Into<String>, more: Value) -> Value {
    let mut body = Map::new();
    body.insert("result".into(), "OK".into());
    body.insert("desc".into(), desc.into().into());
    if let Value::Object(more) = more {
        body.extend(more);
    }
    Value::Object(body)
}

/// Turns a handler's result into the seed's answer.
pub(super) fn answer(name: &str, result: Result<Value, Problem>) -> HttpResponse {
    match result {
        Ok(body) => HttpResponse::Ok().json(body),
        Err(problem) => refuse(name, &problem),
    }
}

/// Routes that take no arguments; the others read theirs themselves.
fn takes_none(face: &str, verb: &str) -> bool {
    face == "tpl" || (face == "vm" && ["list", "xml", "ipaddr", "create"].contains(&verb))
}

/// Puts every failure below the seed's paths into the envelope, also those of extractors and of
/// paths that lead nowhere. What is not the seed's goes by untouched.
pub(super) async fn everywhere<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let mut parts = request.path().split('/').skip(1).map(str::to_owned);
    let face = parts.next().unwrap_or_default();
    let seed = ["api", "tpl", "vm", "user", "domain", "conf"].contains(&face.as_str());
    let name = if face == "user" { parts.nth(1) } else { parts.next() }.unwrap_or(face.clone());
    if takes_none(&face, &name)
        && let Err(problem) = Arguments::for_account(request.query_string(), &[])
    {
        return Ok(request.into_response(refuse(&name, &problem)).map_into_right_body());
    }
    let response = next.call(request).await?;
    if seed && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let problem = Problem::new(ErrorCode::MethodNotAllowed, "this path takes another method");
        let mut answer = refuse(&name, &problem);
        if let Some(allow) = response.headers().get(ALLOW) {
            answer.headers_mut().insert(ALLOW, allow.clone());
        }
        return Ok(response.into_response(answer).map_into_right_body());
    }
    let problem = response.response().error().and_then(|error| error.as_error::<Problem>());
    match problem.cloned().filter(|_| seed) {
        None => Ok(response.map_into_left_body()),
        Some(problem) => Ok(response.into_response(refuse(&name, &problem)).map_into_right_body()),
    }
}
