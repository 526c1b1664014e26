//! Operations as the gateway keeps them: on disk before the agent hears of them.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use vmmgr_common::api::operation::{Operation, OperationRequest, OperationState, Outcome, Work};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, OperationId, VmId};

use super::App;
use crate::auth::Identity;
use crate::store::{Table, from_text, to_text};

/// An operation and where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct OperationRecord {
    /// Host that runs it.
    pub(crate) host: HostId,
    /// Who asked.
    pub(crate) user: String,
    /// How far it is, as last heard.
    #[serde(flatten)]
    pub(crate) operation: Operation,
}

#[derive(Serialize, Deserialize)]
pub(super) struct KeyRecord {
    digest: String,
    operation: OperationId,
    /// Seconds since 1970.
    #[serde(default)]
    pub(super) at: u64,
}

/// An operation that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) host: HostId,
    /// Its work is on the way to the agent: that the agent does not know it yet means nothing.
    pub(super) on_the_way: bool,
    /// Guest concerned, once it is known.
    pub(super) vm: Option<VmId>,
    /// Lines of its progress that followers of the fleet were told.
    pub(super) lines: usize,
}

impl Open {
    pub(super) const fn of(host: HostId, on_the_way: bool) -> Self {
        Self { host, on_the_way, vm: None, lines: 0 }
    }
}

/// Work on its way to an agent; over when it is dropped, also with a caller who has gone.
struct OnTheWay<'a> {
    app: &'a App,
    id: OperationId,
}

impl<'a> OnTheWay<'a> {
    fn begin(app: &'a App, record: &OperationRecord) -> Self {
        let open = Open::of(record.host.clone(), true);
        let id = record.operation.id;
        app.opened(|all| all.insert(id, open));
        Self { app, id }
    }
}

impl Drop for OnTheWay<'_> {
    fn drop(&mut self) {
        self.app.opened(|all| all.get_mut(&self.id).map(|open| open.on_the_way = false));
    }
}

/// How long after its acceptance work may still arrive at an agent: a gateway that died with a
/// request on the wire is back before the request is.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// Now, RFC 3339 in UTC with milliseconds.
pub(crate) fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// What a caller adds to a change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Submission {
    /// `Idempotency-Key`.
    pub(crate) key: Option<String>,
    /// Digest of the request that the key stands for.
    pub(crate) digest: String,
    /// How long to wait for the end.
    pub(crate) wait: Duration,
    /// `If-Match`: versions, one of which the guest must have.
    pub(crate) versions: Option<Vec<String>>,
}

/// A digest of what was asked, for [`Submission::digest`].
pub(crate) fn digest(parts: &[&[u8]]) -> String {
    let mut sum = Sha256::new();
    for part in parts {
        sum.update((part.len() as u64).to_be_bytes());
        sum.update(part);
    }
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl App {
    /// Hands work to a host's agent, durably and once per idempotency key.
    pub(crate) async fn submit(
        &self,
        who: &Identity,
        host: &HostId,
        work: Work,
        how: Submission,
    ) -> Result<OperationRecord, Problem> {
        let agent = self.agent(host)?;
        let work = match how.versions.clone() {
            Some(versions) => Work::IfUnchanged { versions, work: Box::new(work) },
            None => work,
        };
        let request = OperationRequest { id: OperationId::new(), work };
        if let Some(known) = self.claim_key(who, &how, request.id).await? {
            return self.operation(known).await;
        }
        let mut record = OperationRecord {
            host: host.clone(),
            user: who.user.clone(),
            operation: Operation {
                id: request.id,
                verb: request.work.verb().to_owned(),
                vm: request.work.vm(),
                state: OperationState::Pending,
                accepted_at: now(),
                ended_at: None,
                problem: None,
                outcome: Outcome::default(),
            },
        };
        let _way = OnTheWay::begin(self, &record);
        self.accept(&record).await?;
        // The agent looks again in the guest's turn; this tells those who do not wait for it.
        if let Err(problem) = self.unchanged(host, &request.work).await {
            return self.fail(record, problem).await;
        }
        // After the record: a reservation without an operation would never be given back.
        if let Err(problem) = self.reserve_for(host, &request).await {
            return self.fail(record, problem).await;
        }
        match agent.submit(&request, how.wait).await {
            Ok(operation) => {
                record.operation = operation;
                self.save(&record).await?;
                Ok(record)
            }
            Err(problem) => self.unsure(record, problem).await,
        }
    }

    async fn unchanged(&self, host: &HostId, work: &Work) -> Result<(), Problem> {
        match (work, work.vm()) {
            (Work::IfUnchanged { versions, .. }, Some(vm)) => {
                self.agent(host)?.domain(vm).await?.unchanged(versions)
            }
            _ => Ok(()),
        }
    }

    async fn accept(&self, record: &OperationRecord) -> Result<(), Problem> {
        let id = record.operation.id;
        if let Some(vm) = record.operation.vm {
            self.store.put(Table::OperationsOfVm, &format!("{vm}/{id}"), "").await?;
        }
        self.save(record).await
    }

    pub(super) fn opened<T>(&self, change: impl FnOnce(&mut HashMap<OperationId, Open>) -> T) -> T {
        change(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The agent did not take the work, or its answer was lost: ask it once more which of the two.
    async fn unsure(
        &self,
        mut record: OperationRecord,
        problem: Problem,
    ) -> Result<OperationRecord, Problem> {
        let id = record.operation.id;
        match self.agent(&record.host)?.operation(id).await {
            Ok(operation) => {
                record.operation = operation;
                self.save(&record).await?;
                return Ok(record);
            }
            // Nobody knows: it stays pending and is settled when the host is back.
            Err(doubt) if doubt.code != ErrorCode::NoSuchOperation && problem.status >= 503 => {
                return Err(problem.hint(format!(
                    "whether it was done is told by operation {id} when the host is back"
                )));
            }
            Err(_) => {}
        }
        self.fail(record, problem).await
    }

    async fn fail(
        &self,
        mut record: OperationRecord,
        problem: Problem,
    ) -> Result<OperationRecord, Problem> {
        record.operation.state = OperationState::Failed;
        record.operation.ended_at = Some(now());
        record.operation.problem = Some(problem.clone());
        self.save(&record).await?;
        Err(problem)
    }

    async fn claim_key(
        &self,
        who: &Identity,
        how: &Submission,
        operation: OperationId,
    ) -> Result<Option<OperationId>, Problem> {
        let Some(key) = &how.key else { return Ok(None) };
        let key = format!("{}/{key}", who.user);
        let at = jsonwebtoken::get_current_timestamp();
        let claim = KeyRecord { digest: how.digest.clone(), operation, at };
        if self.store.insert(Table::IdempotencyKeys, &key, &to_text(&claim)?).await? {
            return Ok(None);
        }
        let known = self.store.get(Table::IdempotencyKeys, &key).await?;
        match known.map(|text| from_text::<KeyRecord>(&text)).transpose()? {
            Some(known) if known.digest == how.digest => Ok(Some(known.operation)),
            _ => Err(Problem::new(
                ErrorCode::KeyReuse,
                "this Idempotency-Key was used for another request",
            )),
        }
    }

    async fn save(&self, record: &OperationRecord) -> Result<(), Problem> {
        let key = record.operation.id.to_string();
        self.store.put(Table::Operations, &key, &to_text(record)?).await?;
        if record.operation.state.is_final() {
            self.settled(record).await?;
        }
        self.tell_operation(record);
        Ok(())
    }

    async fn stored(&self, id: OperationId) -> Result<OperationRecord, Problem> {
        match self.store.get(Table::Operations, &id.to_string()).await? {
            Some(text) => from_text(&text),
            None => Err(Problem::new(ErrorCode::NoSuchOperation, format!("no operation {id}"))),
        }
    }

    /// How far an operation is; asks its host while it is not final.
    pub(crate) async fn operation(&self, id: OperationId) -> Result<OperationRecord, Problem> {
        let mut record = self.stored(id).await?;
        if record.operation.state.is_final() {
            return Ok(record);
        }
        // A host that was removed says nothing any more: what was last heard stands.
        let Ok(agent) = self.agent(&record.host) else { return Ok(record) };
        match agent.operation(id).await {
            Ok(operation) => record.operation = operation,
            Err(problem) if problem.code == ErrorCode::NoSuchOperation => {
                if self.may_arrive(&record) {
                    return Ok(record);
                }
                record.operation.state = OperationState::Failed;
                record.operation.ended_at = Some(now());
                record.operation.problem = Some(Problem::new(
                    ErrorCode::HostUnreachable,
                    format!("the work never reached host `{}`", record.host),
                ));
            }
            // The host is away: what was last heard stands.
            Err(_) => return Ok(record),
        }
        self.save(&record).await?;
        Ok(record)
    }

    /// True while work that the agent does not know can still reach it.
    fn may_arrive(&self, record: &OperationRecord) -> bool {
        let id = record.operation.id;
        let on_the_way = self.opened(|open| open.get(&id).is_some_and(|open| open.on_the_way));
        let accepted = chrono::DateTime::parse_from_rfc3339(&record.operation.accepted_at);
        let age = accepted.map(|at| chrono::Utc::now().signed_duration_since(at).to_std());
        on_the_way || matches!(age, Ok(Ok(age)) if age < ARRIVES_WITHIN)
    }

    /// The newest operations before `before`, of one guest if given, newest first.
    pub(crate) async fn operations(
        &self,
        vm: Option<VmId>,
        before: Option<OperationId>,
        most: usize,
    ) -> Result<Vec<OperationRecord>, Problem> {
        let Some(vm) = vm else {
            let before = before.map(|id| id.to_string());
            let page = self.store.page(Table::Operations, "", before.as_deref(), most).await?;
            return page.iter().map(|(_, text)| from_text(text)).collect();
        };
        let prefix = format!("{vm}/");
        let before = before.map(|id| format!("{prefix}{id}"));
        let page = self.store.page(Table::OperationsOfVm, &prefix, before.as_deref(), most).await?;
        let mut all = Vec::new();
        for (key, _) in page {
            // An entry without its record was cut off by a crash: the work was never accepted.
            if let Some(text) = self.store.get(Table::Operations, &key[prefix.len()..]).await? {
                all.push(from_text(&text)?);
            }
        }
        Ok(all)
    }
}
