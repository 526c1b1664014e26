//! Operations that take a while, for those who follow the fleet: what their hosts say of them is
//! told as it comes, and their end is known when it is there.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::task::JoinSet;
use utoipa::ToSchema;
use vmmgr_common::api::operation::{OperationEvent, OperationState};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::{HostId, OperationId, VmId};

use super::App;
use super::operations::{Open, OperationRecord};
use crate::feed::Topic;
use crate::fleet::HostState;

/// Between two looks. What is over by the second look, as most operations are, is not followed.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Operations that are followed at once, each by a stream of its host; beyond, the next look tries.
const MOST: usize = 256;

/// Operations of a shared store that are looked at when some have changed there.
const NEWEST: usize = 128;
/// Operations whose state is remembered as told.
const REMEMBERED: usize = 4096;

/// The states that were told last, of the newest operations: several hear of the same state, and it
/// is told once.
#[derive(Default)]
pub(super) struct Told(Mutex<BTreeMap<OperationId, OperationState>>);

impl Told {
    /// Tells a state unless it was told; nothing comes after a final one.
    fn once(&self, id: OperationId, state: OperationState, tell: impl FnOnce()) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&id).is_some_and(|known| *known == state || known.is_final()) {
            return;
        }
        told.insert(id, state);
        // Ids begin with their time.
        if told.len() > REMEMBERED {
            told.pop_first();
        }
        // With the lock held: one state after the other.
        tell();
    }
}

/// Data of `operation_progress`: a line for people.
#[derive(Serialize, ToSchema)]
pub(crate) struct OperationProgress<'a> {
    /// Operation.
    id: OperationId,
    /// Host that runs it.
    #[schema(value_type = HostId)]
    host: &'a HostId,
    /// Guest concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    vm: Option<VmId>,
    /// Text without newline.
    #[schema(value_type = String)]
    line: &'a str,
}

/// Follows operations until the application is gone.
pub(crate) fn keep(app: &Arc<App>) {
    let app: Weak<App> = Arc::downgrade(app);
    tokio::spawn(async move {
        let (mut seen, mut followed) = (HashSet::new(), HashSet::new());
        let mut tasks = JoinSet::new();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(app) = app.upgrade() else { return };
            while let Some(done) = tasks.try_join_next() {
                if let Ok(id) = done {
                    followed.remove(&id);
                }
            }
            let open: Vec<(OperationId, Open)> =
                app.opened(|all| all.iter().map(|(id, open)| (*id, open.clone())).collect());
            for (id, open) in &open {
                let old = seen.contains(id) && tasks.len() < MOST && app.hears(&open.host);
                if old && followed.insert(*id) {
                    tasks.spawn(follow(app.clone(), *id, open.host.clone()));
                }
            }
            seen = open.into_iter().map(|(id, _)| id).collect();
        }
    });
}

async fn follow(app: Arc<App>, id: OperationId, host: HostId) -> OperationId {
    // Whatever fails here is tried again at the next look.
    let Ok(agent) = app.agent(&host) else { return id };
    let Ok(events) = agent.operation_events(id).await else { return id };
    let mut events = std::pin::pin!(events);
    let mut count = 0;
    while let Some(Ok(event)) = events.next().await {
        match event {
            OperationEvent::Progress { line } => {
                count += 1;
                app.tell_progress(id, &host, count, &line);
            }
            OperationEvent::Done { .. } => {
                // While its submission is on the way, that one writes the end down.
                let mine = app.opened(|all| all.get(&id).is_some_and(|open| !open.on_the_way));
                if mine && let Err(problem) = app.operation(id).await {
                    tracing::warn!(%problem, operation.id = %id, "its end is written down later");
                }
            }
        }
    }
    id
}

impl App {
    fn hears(&self, host: &HostId) -> bool {
        self.fleet.host(host).is_some_and(|view| view.state == HostState::Reachable)
    }

    /// Tells how an operation is, unless that was told.
    pub(super) fn tell_operation(&self, record: &OperationRecord) {
        let (id, state) = (record.operation.id, record.operation.state);
        self.opened(|all| {
            if state.is_final() {
                all.remove(&id);
            } else if let Some(open) = all.get_mut(&id) {
                open.vm = record.operation.vm;
            }
        });
        self.told.once(id, state, || {
            self.fleet.feed().tell_json(Topic::Operation, "operation", &record.host, record);
        });
    }

    /// Tells how operations are that other gateways were asked for; what is there at the first look
    /// is no news.
    pub(super) async fn tell_others(&self, first: bool) -> Result<(), Problem> {
        for record in self.operations(None, None, NEWEST).await?.iter().rev() {
            if first {
                self.told.once(record.operation.id, record.operation.state, || ());
            } else {
                self.tell_operation(record);
            }
        }
        Ok(())
    }

    /// Tells the line `count` of an operation, unless that was told: a host says all of them again.
    fn tell_progress(&self, id: OperationId, host: &HostId, count: usize, line: &str) {
        let vm = self.opened(|all| {
            let open = all.get_mut(&id).filter(|open| open.lines < count)?;
            open.lines = count;
            Some(open.vm)
        });
        if let Some(vm) = vm {
            let data = OperationProgress { id, host, vm, line };
            self.fleet.feed().tell_json(Topic::Operation, "operation_progress", host, &data);
        }
    }
}
