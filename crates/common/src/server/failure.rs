//! Failures as HTTP: the one body, from handlers and from the framework's own checks.

use actix_web::dev::ResponseHead as HttpResponseHead;
use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};

use crate::error::{ErrorCode, Problem};
use crate::request_id;
use crate::text::shown;

/// Largest JSON body; a seed's user-data is at most 256 KiB, doubled by escapes.
const LARGEST_BODY: usize = 1 << 20;
/// When a caller of a temporarily absent thing should come back, seconds.
const RETRY_AFTER: &str = "2";

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut body = self.clone();
        body.request_id = request_id::current().or(body.request_id);
        let mut answer = HttpResponse::build(self.status_code());
        answer.content_type("application/problem+json");
        match self.status {
            401 => answer.insert_header((header::WWW_AUTHENTICATE, "Bearer")),
            429 | 503 => answer.insert_header((header::RETRY_AFTER, RETRY_AFTER)),
            _ => &mut answer,
        };
        answer.json(body)
    }
}

/// Turns the framework's refusals of bodies, queries and paths into problems.
pub(super) fn extractors(config: &mut web::ServiceConfig) {
    let json = web::JsonConfig::default()
        .limit(LARGEST_BODY)
        .error_handler(|error, _| json_problem(&error).into());
    let query = web::QueryConfig::default().error_handler(|error, _| {
        let QueryPayloadError::Deserialize(reason) = &error else {
            return Problem::new(ErrorCode::MalformedRequest, error.to_string()).into();
        };
        Problem::new(ErrorCode::MalformedRequest, format!("query: {}", shown(&reason.to_string())))
            .into()
    });
    let path = web::PathConfig::default().error_handler(|error, _| {
        let PathError::Deserialize(reason) = &error else {
            return Problem::new(ErrorCode::MalformedRequest, error.to_string()).into();
        };
        Problem::new(ErrorCode::MalformedRequest, format!("path: {}", shown(&reason.to_string())))
            .into()
    });
    config
        .app_data(json)
        .app_data(query)
        .app_data(path)
        .app_data(web::PayloadConfig::new(LARGEST_BODY))
        .default_service(web::to(no_such_route));
}

async fn no_such_route(request: HttpRequest) -> HttpResponse {
    Problem::new(ErrorCode::NoSuchRoute, format!("no route {}", shown(request.path())))
        .error_response()
}

/// The framework's refusal of a method, with its `Allow`, as a problem.
pub(super) fn method_not_allowed(method: &Method, bare: &HttpResponseHead) -> HttpResponse {
    let problem = Problem::new(ErrorCode::MethodNotAllowed, format!("no {method} on this path"));
    let mut answer = problem.error_response();
    if let Some(allow) = bare.headers().get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, allow.clone());
    }
    answer
}

fn json_problem(error: &JsonPayloadError) -> Problem {
    match error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            Problem::new(ErrorCode::TooLarge, format!("the body is over {LARGEST_BODY} bytes"))
        }
        JsonPayloadError::ContentType => {
            Problem::new(ErrorCode::MalformedRequest, "the body must be application/json")
        }
        JsonPayloadError::Deserialize(reason) if reason.is_data() => {
            Problem::new(ErrorCode::InvalidValue, format!("body: {}", shown(&reason.to_string())))
        }
        other => Problem::new(
            ErrorCode::MalformedRequest,
            format!("body: {}", shown(&other.to_string())),
        ),
    }
}
