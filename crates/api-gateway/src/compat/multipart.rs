//! The one file of a `multipart/form-data` body.

use actix_multipart::Multipart;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, web};
use futures_util::TryStreamExt as _;
use vmmgr_common::error::{ErrorCode, Problem};

fn refuse(why: impl std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::MalformedRequest, format!("multipart body: {why}"))
}

/// The field `file`, up to `most` bytes; none when the request has no such body at all.
pub(super) async fn file(
    request: &HttpRequest,
    body: web::Payload,
    most: usize,
) -> Result<Option<Vec<u8>>, Problem> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !kind.unwrap_or_default().starts_with("multipart/form-data") {
        return Ok(None);
    }
    let mut form = Multipart::new(request.headers(), body);
    let mut found = None;
    while let Some(mut field) = form.try_next().await.map_err(refuse)? {
        if field.name() != Some("file") {
            return Err(refuse("expected one field, `file`"));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = field.try_next().await.map_err(refuse)? {
            if bytes.len() + chunk.len() > most {
                return Err(Problem::new(ErrorCode::TooLarge, format!("file: over {most} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        if found.replace(bytes).is_some() {
            return Err(refuse("`file` is given twice"));
        }
    }
    Ok(found)
}
