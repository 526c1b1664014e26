//! Changes of the fleet for those who follow them: one bounded memory for all, a position for each.
//!
//! ```text
//! fleet, operations -> tell -> ring of frames, numbered -> reader (position, filter) -> stream
//!                                 |                          ^
//!                                 '-- oldest forgotten ------'-- `resync`: read the lists again
//! ```
//!
//! A reader that is slow costs nothing: what it has not taken in time is forgotten, and it is told.

mod reader;
mod ring;
#[cfg(test)]
mod tests;
mod topic;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use utoipa::ToSchema;
use uuid::Uuid;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::HostId;

pub(crate) use self::reader::Reader;
use self::ring::{News, Ring};
pub(crate) use self::topic::{Filter, Topic};
use crate::sse;

/// Events that are remembered: minutes of a busy fleet.
const MOST_EVENTS: usize = 16_384;
/// Bytes that are remembered.
const MOST_BYTES: usize = 16 << 20;
/// Streams at once; each holds a connection of nginx and one of its client.
const MOST_READERS: usize = 1000;

/// The events of this process.
#[derive(Clone)]
pub(crate) struct Feed(Arc<Shared>);

struct Shared {
    /// Another in each process: numbers of one mean nothing to the next.
    epoch: String,
    ring: Mutex<Ring>,
    latest: watch::Sender<u64>,
    places: Arc<Semaphore>,
}

/// Why a client has to read the lists again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The stream begins here.
    Start,
    /// `Last-Event-ID` is of another process, or of none.
    Restarted,
    /// Events were forgotten before they could be sent.
    Missed,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restarted => "restarted",
            Self::Missed => "missed",
        }
    }
}

/// Data of `resync`: lists that were read before this may be out of date.
#[derive(Serialize, ToSchema)]
pub(crate) struct Resync {
    /// Why.
    reason: Reason,
}

impl Default for Feed {
    fn default() -> Self {
        Self::with(MOST_EVENTS, MOST_BYTES, MOST_READERS)
    }
}

impl Feed {
    fn with(events: usize, bytes: usize, readers: usize) -> Self {
        Self(Arc::new(Shared {
            epoch: Uuid::new_v4().simple().to_string(),
            ring: Mutex::new(Ring::new(events, bytes)),
            latest: watch::Sender::new(0),
            places: Arc::new(Semaphore::new(readers)),
        }))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `epoch-number`, what a client gives back as `Last-Event-ID`.
    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.0.epoch)
    }

    /// The number in an id of this process.
    fn number(&self, id: &str) -> Option<u64> {
        let (epoch, number) = id.split_once('-')?;
        (epoch == self.0.epoch).then(|| number.parse().ok())?
    }

    /// Tells an event; `data` is JSON in one line.
    pub(crate) fn tell(&self, topic: Topic, event: &'static str, host: &HostId, data: &str) {
        let mut ring = self.ring();
        let number = ring.latest() + 1;
        let frame = sse::frame(event, &self.id(number), data);
        ring.push(News { topic, host: host.clone(), frame });
        // With the ring still locked: a number never goes back.
        self.0.latest.send_replace(number);
    }

    /// The same with what can be written as JSON.
    pub(crate) fn tell_json(
        &self,
        topic: Topic,
        event: &'static str,
        host: &HostId,
        data: &impl Serialize,
    ) {
        match serde_json::to_string(data) {
            Ok(data) => self.tell(topic, event, host, &data),
            Err(error) => tracing::error!(%error, event, "an event cannot be written as JSON"),
        }
    }

    /// A reader that goes on after `last`, an id; that begins now without one.
    ///
    /// # Errors
    /// [`ErrorCode::RateLimited`] when all places are taken.
    pub(crate) fn read(&self, last: Option<&str>, filter: Filter) -> Result<Reader, Problem> {
        let place = self.0.places.clone().try_acquire_owned().map_err(|_| {
            Problem::new(ErrorCode::RateLimited, "too many streams of events are open")
                .hint("read the lists until others have ended")
        })?;
        Ok(Reader::new(self.clone(), last, filter, place))
    }

    fn resync(&self, reason: Reason, number: u64) -> Bytes {
        metrics::counter!("vmmgr_event_resyncs_total", "reason" => reason.as_str()).increment(1);
        let data = serde_json::to_string(&Resync { reason }).unwrap_or_default();
        sse::frame("resync", &self.id(number), &data)
    }
}
