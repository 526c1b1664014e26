//! What a guest fetched: the boot trace.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use vmmgr_common::api::seed::{BootTrace, SeedFetch};

/// Fetches kept of a guest; a boot is four or five.
const KEPT: usize = 64;
/// Characters kept of what a guest calls itself.
const LONGEST_AGENT: usize = 120;

/// The latest fetches of one guest, in memory: a log line each would let guests fill the disk.
#[derive(Debug, Default)]
pub(crate) struct Trace(Mutex<(VecDeque<Fetch>, u64)>);

/// One of them; put into words only when somebody looks.
#[derive(Debug)]
struct Fetch {
    at: DateTime<Utc>,
    file: &'static str,
    status: u16,
    user_agent: String,
    took: Duration,
}

impl Trace {
    /// Notes an answered request of who called itself `user_agent`, as [`cleaned`].
    pub(crate) fn note(&self, file: &'static str, status: u16, user_agent: String, took: Duration) {
        let fetch = Fetch { at: Utc::now(), file, status, user_agent, took };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0.len() == KEPT {
            kept.0.pop_front();
        }
        kept.0.push_back(fetch);
        kept.1 += 1;
    }

    /// As the API shows it.
    pub(crate) fn boot(&self) -> BootTrace {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        BootTrace { fetches: kept.0.iter().map(Fetch::shown).collect(), total: kept.1 }
    }
}

impl Fetch {
    fn shown(&self) -> SeedFetch {
        SeedFetch {
            at: self.at.to_rfc3339_opts(SecondsFormat::Millis, true),
            file: self.file.to_owned(),
            status: self.status,
            user_agent: self.user_agent.clone(),
            micros: u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// What a guest calls itself, cut and without control characters.
pub(crate) fn cleaned(user_agent: &str) -> String {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    user_agent.chars().map(shown).take(LONGEST_AGENT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_64_are_kept_and_all_are_counted() {
        let trace = Trace::default();
        for status in 100..200 {
            trace.note("meta-data", status, "Cloud-Init/22.4.2".into(), Duration::from_micros(7));
        }
        let boot = trace.boot();
        assert_eq!((boot.total, boot.fetches.len()), (100, 64));
        assert_eq!((boot.fetches[0].status, boot.fetches[63].status), (136, 199));
        assert_eq!(boot.fetches[0].micros, 7);
    }

    #[test]
    fn a_hostile_user_agent_is_cut_and_cleaned() {
        let trace = Trace::default();
        let hostile = format!("\u{1b}[2J{}", "x".repeat(500));
        trace.note("meta-data", 200, cleaned(&hostile), Duration::ZERO);
        let agent = &trace.boot().fetches[0].user_agent;
        assert_eq!(agent.chars().count(), 120);
        assert!(agent.starts_with("?[2J"), "{agent:?}");
    }
}
