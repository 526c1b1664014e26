//! Accepting, running, resuming and unwinding operations.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use vmmgr_common::api::operation::{Operation, OperationRequest, OperationState, Outcome};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::OperationId;
use vmmgr_common::request_id;

use super::journal::{Entry, Progress};
use super::live::{Live, View};
use super::step::Step;
use super::{Context, plan};

/// How long libvirt, metadata-srv or the journal may be away before it is tried again.
const PAUSE: Duration = Duration::from_secs(2);
/// How often a step that must be done is tried before its failure is reported with the operation's.
const MOST_TRIES: u32 = 15;

/// Runs operations; clones share everything.
#[derive(Clone)]
pub(crate) struct Engine {
    context: Arc<Context>,
    live: Arc<Live>,
    pause: Duration,
}

/// Which way a step goes that must be done.
#[derive(Clone, Copy)]
enum Way {
    Forward { again: bool },
    Back,
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

impl Engine {
    /// An engine with nothing under way.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, live: Arc::default(), pause: PAUSE }
    }

    /// One that tries again at once.
    #[cfg(test)]
    pub(crate) fn impatient(context: Arc<Context>) -> Self {
        Self { pause: Duration::from_millis(1), ..Self::new(context) }
    }

    /// What operations work with.
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Goes on with what a crash interrupted; call once, before the first `submit`.
    pub(crate) async fn resume(&self) -> Result<(), Problem> {
        for entry in self.context.journal.unfinished().await? {
            tracing::warn!(operation.id = %entry.operation.id, verb = entry.operation.verb, "goes on after a restart");
            self.live.begin(&entry.operation);
            self.spawn(entry);
        }
        Ok(())
    }

    /// Accepts work durably and begins it. The same id with the same work is the same operation.
    pub(crate) async fn submit(&self, request: OperationRequest) -> Result<Operation, Problem> {
        let operation = Operation {
            id: request.id,
            verb: request.work.verb().to_owned(),
            vm: request.work.vm(),
            state: OperationState::Pending,
            accepted_at: now(),
            ended_at: None,
            problem: None,
            outcome: Outcome::default(),
        };
        let entry = Entry { work: request.work, operation, progress: None };
        if let Some(known) = self.context.journal.accept(&entry).await? {
            if known.work == entry.work {
                return Ok(known.operation);
            }
            return Err(Problem::new(
                ErrorCode::KeyReuse,
                format!("operation {} was accepted with other work", request.id),
            ));
        }
        let accepted = entry.operation.clone();
        self.live.begin(&accepted);
        self.spawn(entry);
        Ok(accepted)
    }

    /// How far an operation is.
    pub(crate) async fn operation(&self, id: OperationId) -> Result<Operation, Problem> {
        if let Some(view) = self.live.watch(id) {
            return Ok(view.borrow().operation.clone());
        }
        match self.context.journal.get(id).await? {
            Some(entry) => Ok(entry.operation),
            None => Err(no_such(id)),
        }
    }

    /// Waits until it ends, at most `wait`; answers how far it is then.
    pub(crate) async fn wait(&self, id: OperationId, wait: Duration) -> Result<Operation, Problem> {
        if let Some(mut view) = self.live.watch(id) {
            let ended = view.wait_for(|view| view.operation.state.is_final());
            if let Ok(Ok(view)) = tokio::time::timeout(wait, ended).await {
                return Ok(view.operation.clone());
            }
        }
        self.operation(id).await
    }

    /// Follows it; none when it has ended.
    pub(crate) fn watch(&self, id: OperationId) -> Option<watch::Receiver<View>> {
        self.live.watch(id)
    }

    /// The work outlives the request that asked for it.
    fn spawn(&self, entry: Entry) {
        let engine = self.clone();
        let id = request_id::current().unwrap_or_else(|| request_id::accept(None));
        tokio::spawn(request_id::scope(id, async move { engine.run(entry).await }));
    }

    async fn run(&self, mut entry: Entry) {
        let guest = entry.work.vm().map(|vm| self.live.guest(vm));
        let _turn = match &guest {
            Some(guest) => Some(guest.lock().await),
            None => None,
        };
        let started = std::time::Instant::now();
        let result = self.drive(&mut entry).await;
        if let Some(vm) = entry.work.vm() {
            self.context.inventory.refresh(vm).await;
        }
        self.finish(&mut entry, result).await;
        let (operation, took_ms) = (&entry.operation, started.elapsed().as_millis() as u64);
        let vm = operation.vm.map(|vm| vm.to_string()).unwrap_or_default();
        let request_id = request_id::current().unwrap_or_default();
        match &operation.problem {
            None => {
                tracing::info!(request_id, operation.id = %operation.id, vm.id = vm, took_ms, "{} succeeded", operation.verb)
            }
            Some(problem) => {
                tracing::warn!(request_id, operation.id = %operation.id, vm.id = vm, took_ms, code = problem.code.as_str(), "{} failed: {problem}", operation.verb)
            }
        }
    }

    async fn finish(&self, entry: &mut Entry, result: Result<(), Problem>) {
        entry.operation.state =
            if result.is_ok() { OperationState::Succeeded } else { OperationState::Failed };
        entry.operation.problem = result.err();
        entry.operation.ended_at = Some(now());
        // The plan holds seeds; a finished operation has no use for it.
        entry.progress = None;
        self.record(entry).await;
        self.live.end(&entry.operation);
    }

    /// Writes how far it is. Without its journal an operation stands still: going on could give it
    /// two ends, one before a crash and one after.
    async fn record(&self, entry: &Entry) {
        while let Err(problem) = self.context.journal.save(entry).await {
            tracing::error!(operation.id = %entry.operation.id, %problem, "an operation waits for the journal");
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn drive(&self, entry: &mut Entry) -> Result<(), Problem> {
        if entry.progress.is_none() {
            let planned = plan::make(&self.context, &entry.work).await?;
            entry.operation.outcome = planned.outcome;
            entry.progress = Some(Progress {
                steps: planned.steps,
                position: 0,
                begun: false,
                unwinding: None,
                left_behind: Vec::new(),
            });
        }
        entry.operation.state = OperationState::Running;
        self.live.state(&entry.operation);
        let resumed_unwinding =
            entry.progress.as_ref().and_then(|progress| progress.unwinding.clone());
        let problem = match resumed_unwinding {
            Some(problem) => problem,
            None => match self.forward(entry).await {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            },
        };
        Err(self.backward(entry, problem).await)
    }

    async fn forward(&self, entry: &mut Entry) -> Result<(), Problem> {
        let id = entry.operation.id;
        loop {
            let Some(progress) = &mut entry.progress else { return Ok(()) };
            let Some(step) = progress.steps.get(progress.position).cloned() else { return Ok(()) };
            let again = std::mem::replace(&mut progress.begun, true);
            let no_way_back = progress.steps[..progress.position].iter().any(Step::is_irrevocable);
            self.record(entry).await;
            self.live.line(id, step.line());
            let way = Way::Forward { again };
            let done = if no_way_back {
                self.patiently(id, &step, way).await.map_err(unfinished)
            } else {
                self.go(id, &step, way).await
            };
            let Some(progress) = &mut entry.progress else { return done };
            if let Err(problem) = done {
                progress.begun = !step.left_untouched(&problem, again);
                return Err(problem);
            }
            progress.position += 1;
            progress.begun = false;
        }
    }

    /// Undoes the steps that were begun, last first; gives the operation's problem. A failed undo is
    /// tried for a while, then named in it: nothing is left behind silently.
    async fn backward(&self, entry: &mut Entry, problem: Problem) -> Problem {
        let id = entry.operation.id;
        entry.operation.state = OperationState::Unwinding;
        self.live.state(&entry.operation);
        while let Some(progress) = &mut entry.progress {
            if progress.unwinding.is_none() {
                progress.unwinding = Some(problem.clone());
                // The step at `position` may have had an effect if it was begun.
                progress.position += usize::from(progress.begun);
                progress.begun = false;
            }
            if progress.position == 0 {
                break;
            }
            let step = progress.steps[progress.position - 1].clone();
            self.record(entry).await;
            self.live.line(id, format!("undoing: {}", step.line()));
            let undone = self.patiently(id, &step, Way::Back).await;
            if let Some(progress) = &mut entry.progress {
                progress.position -= 1;
                progress
                    .left_behind
                    .extend(undone.err().map(|failure| format!("{}: {failure}", step.line())));
            }
        }
        let left_behind = entry.progress.as_ref().map(|p| p.left_behind.join("; "));
        match left_behind.filter(|text| !text.is_empty()) {
            None => problem,
            Some(text) => Problem {
                detail: format!("{}; could not be undone: {text}", problem.detail),
                ..problem
            },
        }
    }

    async fn go(&self, id: OperationId, step: &Step, way: Way) -> Result<(), Problem> {
        let tell = |line: String| self.live.line(id, line);
        match way {
            Way::Forward { again } => step.run(&self.context, id, again, &tell).await,
            Way::Back => step.undo(&self.context, &tell).await,
        }
    }

    /// A step that must be done waits for what it needs.
    async fn patiently(&self, id: OperationId, step: &Step, way: Way) -> Result<(), Problem> {
        let (mut way, mut tries) = (way, 1);
        loop {
            match self.go(id, step, way).await {
                Err(problem) if [503, 504].contains(&problem.status) && tries < MOST_TRIES => {
                    tries += 1;
                    tokio::time::sleep(self.pause).await;
                }
                result => return result,
            }
            if let Way::Forward { again } = &mut way {
                *again = true;
            }
        }
    }
}

/// A plan that can only go forward, and did not come to its end.
fn unfinished(problem: Problem) -> Problem {
    let hint = "what was done cannot be undone; ask again, and it goes on where it stopped";
    Problem { hint: Some(hint.to_owned()), ..problem }
}

/// The problem of an id that was never accepted here.
pub(crate) fn no_such(id: OperationId) -> Problem {
    Problem::new(ErrorCode::NoSuchOperation, format!("operation {id} is not known on this host"))
}
