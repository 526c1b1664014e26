//! Lists of guests over HTTP: rows are joined, not serialised, and a list that the caller has is 304.

use actix_web::http::header::{ETAG, EntityTag, Header as _, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse};

use vmmgr_common::ids::HostId;

use crate::app::vms::Listing;
use crate::fleet::{self, Guest, HostView};

/// Answers with `listing` as a JSON array. `start` writes what precedes each row of a host, up to
/// and with the row's opening brace, and `row` gives the row.
pub(crate) fn answer<'a>(
    request: &HttpRequest,
    listing: &'a Listing,
    start: impl Fn(&HostId, &HostView) -> String,
    row: impl Fn(&'a HostId, &'a Guest) -> &'a str,
) -> HttpResponse {
    let tag = EntityTag::new_strong(listing.version());
    if has(request, &tag) {
        return HttpResponse::NotModified().insert_header((ETAG, tag)).finish();
    }
    let mut out = Vec::with_capacity(room(listing));
    out.push(b'[');
    for (host, view) in listing.hosts() {
        let start = start(host, view);
        for guest in view.guests() {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(start.as_bytes());
            // The row's own brace is in `start`.
            let row = row(host, guest);
            out.extend_from_slice(row.strip_prefix('{').unwrap_or(row).as_bytes());
        }
    }
    out.push(b']');
    HttpResponse::Ok().insert_header((ETAG, tag)).content_type("application/json").body(out)
}

/// Whether the caller has what `tag` stands for.
fn has(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key("if-none-match"),
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    }
}

/// About how long the list is: rows are alike.
fn room(listing: &Listing) -> usize {
    /// A guest with two disks and two interfaces.
    const ROW: usize = 1024;
    listing.hosts().map(|(_, view)| view.guests().count()).sum::<usize>() * ROW + 2
}

/// A `/v1` list.
pub(crate) fn v1(request: &HttpRequest, listing: &Listing) -> HttpResponse {
    answer(request, listing, fleet::start, |_, guest| fleet::row(guest))
}

#[cfg(test)]
mod tests;
