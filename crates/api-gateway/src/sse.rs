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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_the_right_to_it_whether_it_is_silent_or_busy() {
        let silent = stream::pending().boxed_local();
        let busy = stream::repeat(Bytes::from_static(b"x")).then(|bytes| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            bytes
        });
        for frames in [silent, busy.boxed_local()] {
            let (begun, allowed) = (Instant::now(), Cell::new(5));
            let looked = || {
                allowed.set(allowed.get() - 1);
                allowed.get() > 0
            };
            while_allowed(frames, looked).for_each(|_| std::future::ready(())).await;
            let looks = begun.elapsed().as_millis() / LOOK_EVERY.as_millis();
            assert_eq!((looks, allowed.get()), (5, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_and_the_end_is_the_end() {
        let frames = stream::iter([0, 40]).then(|seconds| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            frame("progress", "1", "{}")
        });
        let all: Vec<Bytes> = kept_alive(frames).collect().await;
        let event = "event: progress\nid: 1\ndata: {}\n\n";
        assert_eq!(all, [event, ": keep-alive\n\n", ": keep-alive\n\n", event]);
    }
}
