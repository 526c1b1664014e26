//! What all changes share: `Idempotency-Key`, `If-Match`, `?wait_ms=`, and the answer.

use std::time::Duration;

use actix_web::http::header::{IF_MATCH, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, IntoResponses};
use vmmgr_common::api::operation::{OperationState, Work};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::HostId;

use crate::app::App;
use crate::app::operations::{OperationRecord, Submission, digest};
use crate::auth::Identity;

/// Longest time that an answer is held back, milliseconds.
const LONGEST_WAIT_MS: u64 = 30_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// How long to hold the answer back for the end, milliseconds; 30000 at most.
    #[serde(default)]
    wait_ms: u64,
}

/// What a change answers.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes what `submit` answers")]
pub(super) enum Submitted {
    /// It has ended well within `wait_ms`.
    #[response(status = 200, headers(("location" = String, description = "Path of the operation")))]
    Ended(OperationRecord),
    /// It is under way.
    #[response(status = 202, headers(("location" = String, description = "Path of the operation")))]
    Accepted(OperationRecord),
}

/// Reads what a change was asked with; `body` is what an idempotency key stands for.
pub(super) fn submission<B: Serialize>(
    request: &HttpRequest,
    body: &B,
) -> Result<Submission, Problem> {
    let wait = web::Query::<Wait>::from_query(request.query_string())
        .map_err(|error| Problem::new(ErrorCode::MalformedRequest, format!("query: {error}")))?;
    let key = match request.headers().get("idempotency-key") {
        None => None,
        Some(value) => {
            let text = value.to_str().unwrap_or_default();
            let fits =
                (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
            if !fits {
                return Err(Problem::new(
                    ErrorCode::MalformedRequest,
                    "Idempotency-Key: 1 to 128 printable characters",
                ));
            }
            Some(text.to_owned())
        }
    };
    let body = crate::store::to_text(body)?;
    let asked = [request.method().as_str().as_bytes(), request.path().as_bytes(), body.as_bytes()];
    let wait = Duration::from_millis(wait.wait_ms.min(LONGEST_WAIT_MS));
    Ok(Submission { key, digest: digest(&asked), wait, versions: versions(request)? })
}

/// `If-Match`; none when there is no such header, or when it takes any version. Weak tags match
/// nothing (RFC 9110, 13.1.1); what is no tag is refused, or a caller who forgot the quotes would read
/// the guest again for ever.
fn versions(request: &HttpRequest) -> Result<Option<Vec<String>>, Problem> {
    let mut found = Vec::new();
    for line in request.headers().get_all(IF_MATCH) {
        let line = line.to_str().unwrap_or_default().trim();
        if line == "*" {
            return Ok(None);
        }
        found.extend(tags(line).ok_or_else(|| {
            let detail = "If-Match: expected `*` or tags in quotes";
            Problem::new(ErrorCode::MalformedRequest, detail)
        })?);
    }
    let strong = found.into_iter().filter(|(weak, _)| !weak).map(|(_, tag)| tag.to_owned());
    Ok(request.headers().contains_key(IF_MATCH).then(|| strong.collect()))
}

/// `"a", W/"b"`: whether each tag is weak, and what is between its quotes.
fn tags(line: &str) -> Option<Vec<(bool, &str)>> {
    let (mut rest, mut found) = (line, Vec::new());
    loop {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (tag, behind) = quoted.strip_prefix('"')?.split_once('"')?;
        if !tag.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        found.push((weak, tag));
        match behind.trim_start() {
            "" => return Some(found),
            more => rest = more.strip_prefix(',')?.trim_start(),
        }
    }
}

/// Hands the work in: 202 with the operation's place, 200 when it has ended, its problem if it failed.
pub(super) async fn submit(
    app: &App,
    who: &Identity,
    host: &HostId,
    work: Work,
    how: Submission,
) -> Result<HttpResponse, Problem> {
    answer(app.submit(who, host, work, how).await?)
}

fn answer(record: OperationRecord) -> Result<HttpResponse, Problem> {
    match (record.operation.state, &record.operation.problem) {
        (OperationState::Failed, Some(problem)) => Err(problem.clone()),
        (state, _) => {
            let mut answer =
                if state.is_final() { HttpResponse::Ok() } else { HttpResponse::Accepted() };
            let place = format!("/v1/operations/{}", record.operation.id);
            Ok(answer.insert_header((LOCATION, place)).json(record))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tags;

    #[test]
    fn tags_are_read_as_the_standard_has_them() {
        assert_eq!(tags("\"a\""), Some(vec![(false, "a")]));
        assert_eq!(tags("\"\""), Some(vec![(false, "")]));
        let several = tags("\"a,b\" , W/\"c\",\"d\"");
        assert_eq!(several, Some(vec![(false, "a,b"), (true, "c"), (false, "d")]));
        for bad in
            ["", "a", "\"a", "a\"", "\"a\" \"b\"", "\"a\",", "\"a b\"", "w/\"a\"", "*, \"a\""]
        {
            assert_eq!(tags(bad), None, "{bad}");
        }
    }
}
