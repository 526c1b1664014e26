//! Operations under faults: every step of every verb fails, the agent dies at every point.
//!
//! The oracle is the whole host ([`lab::Lab::host`]): domains, volumes, what the journal calls ours,
//! seeds. After a failure it is to the letter what it was before.

mod ceph;
mod crashes;
mod faults;
mod hooks;
mod lab;
mod media;
mod rules;
mod seeds;

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A point between two writes of the journal at which the agent dies: whoever comes there stays
/// there for ever, as its process would.
pub(super) struct CrashPoint {
    passed: AtomicUsize,
    at: AtomicUsize,
    reached: Notify,
}

impl Default for CrashPoint {
    fn default() -> Self {
        Self {
            passed: AtomicUsize::new(0),
            at: AtomicUsize::new(usize::MAX),
            reached: Notify::new(),
        }
    }
}

impl CrashPoint {
    /// Dies at the point that is `further` points from here.
    fn arm(&self, further: usize) {
        self.at.store(self.passed.load(Ordering::SeqCst) + further, Ordering::SeqCst);
    }

    pub(super) async fn pass(&self) {
        if self.passed.fetch_add(1, Ordering::SeqCst) >= self.at.load(Ordering::SeqCst) {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }
}
