//! Server-sent events (the `text/event-stream` of WHATWG HTML), written by hand: frames of the feed
//! are made once for all who follow it, and a keep-alive has an id.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};
use vmmgr_common::server::Draining;

use crate::app::App;
use crate::auth::Identity;

/// A silent stream says this often that it lives; nginx cuts one that is silent for four of these.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Whether the caller may still listen is asked this often: well within the second that is promised.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// An event; `data` in one line.
pub(crate) fn frame(event: &str, id: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {event}\nid: {id}\ndata: {data}\n\n"))
}

/// A comment; with an id it tells a client as well where it is, and no event is seen.
pub(crate) fn keep_alive(id: Option<&str>) -> Bytes {
    match id {
        Some(id) => Bytes::from(format!(": keep-alive\nid: {id}\n\n")),
        None => Bytes::from_static(b": keep-alive\n\n"),
    }
}

/// Answers with frames until they end, the service goes down, or the caller may not listen any more.
pub(crate) fn answer(
    app: actix_web::web::Data<App>,
    who: Identity,
    draining: Draining,
    frames: impl Stream<Item = Bytes> + 'static,
) -> HttpResponse {
    let allowed = while_allowed(frames, move || app.is_good(&who));
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(draining.cut(allowed.map(Ok::<_, Infallible>)))
}

/// The frames as long as `allowed` says so, however many or few they are.
fn while_allowed(
    frames: impl Stream<Item = Bytes>,
    allowed: impl Fn() -> bool,
) -> impl Stream<Item = Bytes> {
    let start = (Box::pin(frames), allowed, Instant::now() + LOOK_EVERY);
    stream::unfold(start, |(mut frames, allowed, mut look)| async move {
        loop {
            if Instant::now() >= look {
                if !allowed() {
                    return None;
                }
                look = Instant::now() + LOOK_EVERY;
            }
            tokio::select! {
                frame = frames.next() => return frame.map(|frame| (frame, (frames, allowed, look))),
                () = sleep_until(look) => {}
            }
        }
    })
}

/// The frames, with a comment wherever they are silent.
pub(crate) fn kept_alive(frames: impl Stream<Item = Bytes>) -> impl Stream<Item = Bytes> {
    stream::unfold(Box::pin(frames), |mut frames| async move {
        match tokio::time::timeout(KEEP_ALIVE, frames.next()).await {
            Ok(frame) => frame.map(|frame| (frame, frames)),
            Err(_) => Some((keep_alive(None), frames)),
        }
    })
}
