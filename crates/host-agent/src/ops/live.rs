//! Operations under way: their progress so far and who listens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use vmmgr_common::api::operation::Operation;
use vmmgr_common::ids::{OperationId, VmId};

/// Progress lines that are kept; a conversion prints a hundred.
const MOST_LINES: usize = 1000;

/// What a listener sees: all lines so far, and how far it is.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Lines for people, oldest first.
    pub(crate) lines: Vec<String>,
    /// As `GET` answers.
    pub(crate) operation: Operation,
}

/// Operations in memory.
#[derive(Debug, Default)]
pub(super) struct Live {
    views: Mutex<HashMap<OperationId, watch::Sender<View>>>,
    guests: Mutex<HashMap<VmId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Live {
    pub(super) fn begin(&self, operation: &Operation) {
        let (sender, _) = watch::channel(View { lines: Vec::new(), operation: operation.clone() });
        self.views.lock().unwrap_or_else(PoisonError::into_inner).insert(operation.id, sender);
    }

    pub(super) fn watch(&self, id: OperationId) -> Option<watch::Receiver<View>> {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.get(&id).map(watch::Sender::subscribe)
    }

    fn change(&self, id: OperationId, change: impl FnOnce(&mut View)) {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get(&id) {
            view.send_modify(change);
        }
    }

    pub(super) fn line(&self, id: OperationId, line: String) {
        self.change(id, |view| {
            if view.lines.len() < MOST_LINES {
                view.lines.push(line);
            }
        });
    }

    pub(super) fn state(&self, operation: &Operation) {
        self.change(operation.id, |view| view.operation = operation.clone());
    }

    /// Listeners keep their last view; the journal answers from here on.
    pub(super) fn end(&self, operation: &Operation) {
        self.state(operation);
        self.views.lock().unwrap_or_else(PoisonError::into_inner).remove(&operation.id);
    }

    /// The guest's turn-taking lock; those of guests at rest are dropped on the way.
    pub(super) fn guest(&self, vm: VmId) -> Arc<tokio::sync::Mutex<()>> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        guests.retain(|id, lock| *id == vm || Arc::strong_count(lock) > 1);
        guests.entry(vm).or_default().clone()
    }
}
