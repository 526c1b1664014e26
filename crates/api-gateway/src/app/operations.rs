//! Operations as the gateway keeps them: on disk before the agent hears of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use vmmgr_common::api::operation::{Operation, OperationRequest, OperationState, Outcome, Work};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, OperationId, VmId};

use super::App;
use crate::auth::Identity;
use crate::store::{Table, from_text, to_text};

/// An operation and where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
struct KeyRecord {
    digest: String,
    operation: OperationId,
}

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
        self.save(&record).await?;
        match agent.submit(&request, how.wait).await {
            Ok(operation) => {
                record.operation = operation;
                self.save(&record).await?;
                Ok(record)
            }
            Err(problem) => self.unsure(record, problem).await,
        }
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
        let claim = KeyRecord { digest: how.digest.clone(), operation };
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
        if record.operation.state.is_final() { self.settled(record).await } else { Ok(()) }
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
        match self.agent(&record.host)?.operation(id).await {
            Ok(operation) => record.operation = operation,
            Err(problem) if problem.code == ErrorCode::NoSuchOperation => {
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

    /// The newest operations, of one guest if given, newest first.
    pub(crate) async fn operations(
        &self,
        vm: Option<VmId>,
        most: usize,
    ) -> Result<Vec<OperationRecord>, Problem> {
        let mut all = Vec::new();
        for (_, text) in self.store.list(Table::Operations).await?.iter().rev() {
            let record: OperationRecord = from_text(text)?;
            if vm.is_none() || record.operation.vm == vm {
                all.push(record);
            }
            if all.len() >= most {
                break;
            }
        }
        Ok(all)
    }
}
