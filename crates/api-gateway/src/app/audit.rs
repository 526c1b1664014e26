//! The audit log: every change that was asked for and every refusal, in a chain.

use tokio::sync::Mutex;
use vmmgr_common::api::audit::AuditRecord;
use vmmgr_common::error::Problem;

use super::App;
use crate::store::{Table, from_text, to_text};

/// Refusals of callers who proved nothing that are written down each minute; they must not fill
/// the disk.
const REFUSALS_A_MINUTE: u32 = 120;

/// Where the log ends.
#[derive(Default)]
pub(crate) struct Audit(Mutex<End>);

#[derive(Default)]
struct End {
    last: Option<AuditRecord>,
    /// Minute since 1970 and refusals in it.
    refusals: (u64, u32),
    omitted: u64,
}

/// What was asked for, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// As [`AuditRecord`] has them.
    pub(crate) who: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) request_id: String,
}

/// Numbers sort as texts.
fn key(number: u64) -> String {
    format!("{number:020}")
}

impl App {
    /// Writes an event down, at `now`, seconds since 1970; durable when it returns.
    pub(crate) async fn audit(&self, event: Event, now: u64) -> Result<(), Problem> {
        let mut end = self.audit.0.lock().await;
        if event.status == 401 {
            let minute = now / 60;
            if end.refusals.0 != minute {
                end.refusals = (minute, 0);
            }
            end.refusals.1 += 1;
            if end.refusals.1 > REFUSALS_A_MINUTE {
                end.omitted += 1;
                return Ok(());
            }
        }
        if end.last.is_none() {
            end.last = self.last_audit().await?;
        }
        let Event { who, method, path, status, request_id } = event;
        let mut record = AuditRecord {
            number: 0,
            at: super::operations::now(),
            who,
            method,
            path,
            status,
            request_id,
            omitted: end.omitted,
            previous: String::new(),
            hash: String::new(),
        };
        loop {
            let (number, previous) =
                end.last.as_ref().map_or((0, ""), |last| (last.number, last.hash.as_str()));
            (record.number, record.previous) = (number + 1, previous.to_owned());
            record = record.sealed();
            if self.store.insert(Table::Audit, &key(record.number), &to_text(&record)?).await? {
                break;
            }
            // Another gateway was faster.
            end.last = self.last_audit().await?;
        }
        (end.last, end.omitted) = (Some(record), 0);
        Ok(())
    }

    async fn last_audit(&self) -> Result<Option<AuditRecord>, Problem> {
        Ok(self.audit_records(None, 1).await?.pop())
    }

    /// The newest records before `before`, newest first.
    pub(crate) async fn audit_records(
        &self,
        before: Option<u64>,
        most: usize,
    ) -> Result<Vec<AuditRecord>, Problem> {
        let before = before.map(key);
        let page = self.store.page(Table::Audit, "", before.as_deref(), most).await?;
        page.iter().map(|(_, text)| from_text(text)).collect()
    }
}
