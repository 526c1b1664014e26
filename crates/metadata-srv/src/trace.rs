//! What a guest fetched: the boot trace.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use vmmgr_common::api::seed::{BootTrace, SeedFetch};

/// Fetches kept of a guest; a boot is four or five.
const KEPT: usize = 64;
/// Characters kept of what a guest calls itself.
const LONGEST_AGENT: usize = 120;

/// The latest fetches of one guest, in memory: a log line each would let guests fill the disk.
#[derive(Debug, Default)]
pub(crate) struct Trace(Mutex<(VecDeque<SeedFetch>, u64)>);

impl Trace {
    /// Notes an answered request.
    pub(crate) fn note(&self, file: &str, status: u16, user_agent: &str, took: Duration) {
        let fetch = SeedFetch {
            at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            file: file.to_owned(),
            status,
            user_agent: user_agent
                .chars()
                .map(|c| if c.is_control() { '?' } else { c })
                .take(LONGEST_AGENT)
                .collect(),
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        };
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
        BootTrace { fetches: kept.0.iter().cloned().collect(), total: kept.1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_64_are_kept_and_all_are_counted() {
        let trace = Trace::default();
        for status in 100..200 {
            trace.note("meta-data", status, "Cloud-Init/22.4.2", Duration::from_micros(7));
        }
        let boot = trace.boot();
        assert_eq!((boot.total, boot.fetches.len()), (100, 64));
        assert_eq!((boot.fetches[0].status, boot.fetches[63].status), (136, 199));
        assert_eq!(boot.fetches[0].micros, 7);
    }

    #[test]
    fn a_hostile_user_agent_is_cut_and_cleaned() {
        let trace = Trace::default();
        trace.note("meta-data", 200, &format!("\u{1b}[2J{}", "x".repeat(500)), Duration::ZERO);
        let agent = &trace.boot().fetches[0].user_agent;
        assert_eq!(agent.chars().count(), 120);
        assert!(agent.starts_with("?[2J"), "{agent:?}");
    }
}
