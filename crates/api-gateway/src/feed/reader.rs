//! One who follows the events.

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use super::ring::Found;
use super::{Feed, Filter, Reason};
use crate::sse::{self, KEEP_ALIVE};

/// A position in the feed, and what is wanted from there on.
pub(crate) struct Reader {
    feed: Feed,
    filter: Filter,
    /// Number of the event that was looked at last.
    after: u64,
    /// To be told first.
    resync: Option<Reason>,
    latest: watch::Receiver<u64>,
    said: Instant,
    _place: OwnedSemaphorePermit,
}

impl Drop for Reader {
    fn drop(&mut self) {
        metrics::gauge!("vmmgr_event_streams").decrement(1);
    }
}

impl Reader {
    pub(super) fn new(
        feed: Feed,
        last: Option<&str>,
        filter: Filter,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let latest = feed.0.latest.subscribe();
        let number = last.and_then(|last| feed.number(last));
        let (after, resync) = {
            let ring = feed.ring();
            match (last, number) {
                (_, Some(number)) if ring.reaches(number) => (number, None),
                (_, Some(_)) => (ring.latest(), Some(Reason::Missed)),
                (Some(_), None) => (ring.latest(), Some(Reason::Restarted)),
                (None, None) => (ring.latest(), Some(Reason::Start)),
            }
        };
        metrics::gauge!("vmmgr_event_streams").increment(1);
        Self { feed, filter, after, resync, latest, said: Instant::now(), _place: place }
    }

    /// What is to be sent next; waits for it. A silent stream says that it lives, and where it is:
    /// events that its filter leaves out must not make it seem old.
    pub(crate) async fn next(&mut self) -> Bytes {
        loop {
            if let Some(out) = self.ready() {
                self.said = Instant::now();
                return out;
            }
            tokio::select! {
                // Its sender is in this very reader.
                _ = self.latest.changed() => {}
                () = sleep_until(self.said + KEEP_ALIVE) => {
                    self.said = Instant::now();
                    return sse::keep_alive(Some(&self.feed.id(self.after)));
                }
            }
        }
    }

    /// What can be sent without waiting.
    pub(crate) fn ready(&mut self) -> Option<Bytes> {
        if let Some(reason) = self.resync.take() {
            return Some(self.feed.resync(reason, self.after));
        }
        self.latest.mark_unchanged();
        let ring = self.feed.ring();
        match ring.read(&mut self.after, |news| self.filter.fits(news)) {
            Found::Frames(frames) => Some(frames),
            Found::Nothing => None,
            Found::Missed => {
                self.after = ring.latest();
                Some(self.feed.resync(Reason::Missed, self.after))
            }
        }
    }
}
