//! Going down in order: what is under way ends, what would never end is ended.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpRequest};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::watch;

/// The last answer is on its way to the socket when it is no longer counted.
const LAST_BYTES: Duration = Duration::from_millis(200);

/// Answers that are under way, and whether the service is going down.
///
/// actix's own drain waits for connections, and those that callers keep for their next request do not
/// end by themselves; this one waits for answers.
#[derive(Clone)]
pub(super) struct Drain(Arc<State>);

struct State {
    begun: watch::Sender<bool>,
    answers: watch::Sender<usize>,
}

/// One answer, until its last byte was taken or its caller has gone.
struct Answer(Arc<State>);

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.answers.send_modify(|count| *count -= 1);
    }
}

impl Drain {
    pub(super) fn new() -> Self {
        Self(Arc::new(State { begun: watch::Sender::new(false), answers: watch::Sender::new(0) }))
    }

    /// Counts an answer, and lets its handler hear of the end.
    pub(super) async fn count(
        self,
        request: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        use actix_web::HttpMessage as _;
        self.0.answers.send_modify(|count| *count += 1);
        let answer = Answer(self.0.clone());
        request.extensions_mut().insert(Draining(Some(self.0.begun.subscribe())));
        let response = next.call(request).await?;
        Ok(response
            .map_body(|_, body| BoxBody::new(Counted { body: body.boxed(), _answer: answer })))
    }

    /// Tells what listens, and waits until nothing is under way, `most` at most.
    pub(super) async fn finish(&self, most: Duration) {
        self.0.begun.send_replace(true);
        let mut answers = self.0.answers.subscribe();
        let quiet = async {
            loop {
                // Its sender is in this very `self`.
                drop(answers.wait_for(|count| *count == 0).await);
                if tokio::time::timeout(LAST_BYTES, answers.wait_for(|count| *count > 0))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        };
        if tokio::time::timeout(most, quiet).await.is_err() {
            tracing::warn!(answers = *self.0.answers.borrow(), "what is still under way is cut");
        }
    }
}

struct Counted {
    body: BoxBody,
    _answer: Answer,
}

impl MessageBody for Counted {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

/// What a handler of an endless stream ends it by when the service goes down: its caller comes back
/// to the next process.
pub struct Draining(Option<watch::Receiver<bool>>);

impl Draining {
    /// The stream until then.
    pub fn cut<S: Stream>(self, stream: S) -> impl Stream<Item = S::Item> {
        stream.take_until(Box::pin(async move {
            match self.0 {
                Some(mut begun) => drop(begun.wait_for(|begun| *begun).await),
                None => std::future::pending().await,
            }
        }))
    }
}

impl FromRequest for Draining {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        use actix_web::HttpMessage as _;
        let known = request.extensions().get::<Self>().and_then(|draining| draining.0.clone());
        ready(Ok(Self(known)))
    }
}
