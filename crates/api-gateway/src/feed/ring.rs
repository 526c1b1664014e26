//! The newest events, as many as fit.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use vmmgr_common::ids::HostId;

use super::topic::Topic;

/// Bytes that a reader is given at once, and then up to the end of the event.
const PIECE: usize = 32 << 10;

/// One event.
pub(super) struct News {
    pub(super) topic: Topic,
    /// Host that it is about.
    pub(super) host: HostId,
    /// As it is sent, to all alike.
    pub(super) frame: Bytes,
}

/// What there is after a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// These frames.
    Frames(Bytes),
    /// Nothing that fits.
    Nothing,
    /// Something that is forgotten.
    Missed,
}

/// Events by number: the first is 1, each has the next.
pub(super) struct Ring {
    kept: VecDeque<News>,
    latest: u64,
    bytes: usize,
    most_events: usize,
    most_bytes: usize,
}

impl Ring {
    pub(super) const fn new(most_events: usize, most_bytes: usize) -> Self {
        Self { kept: VecDeque::new(), latest: 0, bytes: 0, most_events, most_bytes }
    }

    /// Number of the newest event; 0 when there was none.
    pub(super) const fn latest(&self) -> u64 {
        self.latest
    }

    #[cfg(test)]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number before the oldest event.
    fn before(&self) -> u64 {
        self.latest - self.kept.len() as u64
    }

    /// True if nothing after `number` is forgotten.
    pub(super) fn reaches(&self, number: u64) -> bool {
        (self.before()..=self.latest).contains(&number)
    }

    pub(super) fn push(&mut self, news: News) {
        self.latest += 1;
        self.bytes += news.frame.len();
        self.kept.push_back(news);
        while self.kept.len() > self.most_events || self.bytes > self.most_bytes {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.frame.len();
        }
    }

    /// What follows `after` and fits; `after` becomes the number that was looked at last.
    pub(super) fn read(&self, after: &mut u64, fits: impl Fn(&News) -> bool) -> Found {
        if !self.reaches(*after) {
            return Found::Missed;
        }
        let skip = usize::try_from(*after - self.before()).unwrap_or(usize::MAX);
        let mut out = BytesMut::new();
        for news in self.kept.iter().skip(skip) {
            *after += 1;
            if fits(news) {
                out.extend_from_slice(&news.frame);
            }
            if out.len() >= PIECE {
                break;
            }
        }
        if out.is_empty() { Found::Nothing } else { Found::Frames(out.freeze()) }
    }
}
