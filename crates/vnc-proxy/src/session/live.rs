//! The sessions that live.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{oneshot, watch};
use vmmgr_common::api::console::{ConsoleKind, ConsoleSession, close};
use vmmgr_common::ids::ConsoleSessionId;

use crate::relay::{Ending, Tally};

#[derive(Debug, Default)]
struct Entries {
    sessions: HashMap<ConsoleSessionId, (ConsoleSession, Option<oneshot::Sender<Ending>>)>,
    /// No more sessions: the process goes down.
    closed: bool,
}

/// All sessions of this process.
#[derive(Debug, Default)]
pub(crate) struct Live {
    entries: Mutex<Entries>,
    /// Sessions that began or ended: time for a report.
    changed: watch::Sender<u64>,
}

impl Live {
    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session; what is returned tells it to end. None while the process goes down.
    pub(crate) fn enter(&self, session: ConsoleSession) -> Option<oneshot::Receiver<Ending>> {
        let (order, obey) = oneshot::channel();
        let kind = session.kind.as_str();
        let mut entries = self.entries();
        if entries.closed {
            return None;
        }
        entries.sessions.insert(session.id, (session, Some(order)));
        drop(entries);
        metrics::counter!("vmmgr_console_sessions_total", "kind" => kind).increment(1);
        metrics::gauge!("vmmgr_console_sessions", "kind" => kind).increment(1.0);
        self.change();
        Some(obey)
    }

    /// Removes a session that is over.
    pub(crate) fn leave(
        &self,
        id: ConsoleSessionId,
        kind: &'static str,
        cause: &'static str,
        tally: Tally,
    ) {
        self.entries().sessions.remove(&id);
        metrics::gauge!("vmmgr_console_sessions", "kind" => kind).decrement(1.0);
        metrics::counter!("vmmgr_console_ends_total", "cause" => cause).increment(1);
        for (from, bytes) in [("browser", tally.from_browser), ("guest", tally.from_guest)] {
            metrics::counter!("vmmgr_console_bytes_total", "from" => from).increment(bytes);
        }
        self.change();
    }

    /// Ends one; false if there is no such session, or it ends already.
    pub(crate) fn end(&self, id: ConsoleSessionId, reason: String) -> bool {
        let order = self.entries().sessions.get_mut(&id).and_then(|(_, order)| order.take());
        let ending = Ending::new("ordered", close::ENDED, reason);
        order.is_some_and(|order| order.send(ending).is_ok())
    }

    /// Tells that sessions began or ended.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Ends all, and lets none begin.
    pub(crate) fn drain(&self) {
        let mut entries = self.entries();
        entries.closed = true;
        for (_, order) in entries.sessions.values_mut() {
            let reason = "the console service restarts, come back";
            if let Some(order) = order.take()
                && order.send(Ending::new("drain", close::RESTART, reason)).is_err()
            {
                tracing::debug!("a session ended by itself while the service goes down");
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.entries().sessions.len()
    }

    /// For a report.
    pub(crate) fn list(&self) -> Vec<ConsoleSession> {
        self.entries().sessions.values().map(|(session, _)| session.clone()).collect()
    }
}

/// Shows all series from the start, so that a rate is right from the first session on.
pub(crate) fn describe() {
    for kind in [ConsoleKind::Vnc, ConsoleKind::Spice, ConsoleKind::Serial] {
        metrics::gauge!("vmmgr_console_sessions", "kind" => kind.as_str()).set(0.0);
    }
}
