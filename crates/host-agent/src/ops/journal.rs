//! What this agent has accepted and how far it is, on disk before anything happens.
//!
//! SQLite, WAL, `synchronous=FULL`: when a method returns, the fact survives a crash. The journal
//! also owns the list of volumes that we made: files that are not in it are never touched; and that
//! of devices whose hook has to be told when they go.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use vmmgr_common::api::operation::{Operation, Work};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{OperationId, VmId};

use super::step::Step;
use crate::hooks::Hooked;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS operation (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    work TEXT NOT NULL,
    state TEXT NOT NULL,
    plan TEXT,
    final INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS operation_open ON operation (final) WHERE final = 0;
CREATE TABLE IF NOT EXISTS volume (
    path TEXT PRIMARY KEY,
    vm TEXT NOT NULL,
    operation TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS hooked (
    vm TEXT NOT NULL,
    device TEXT NOT NULL,
    device_hook TEXT NOT NULL,
    PRIMARY KEY (vm, device)
);
";

/// Where an operation's plan stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// All steps.
    pub(crate) steps: Vec<Step>,
    /// The step that runs next, or whose undo runs next when unwinding (counted from the end).
    pub(crate) position: usize,
    /// The step at `position` was begun once; it may have taken effect.
    pub(crate) begun: bool,
    /// Undoing because of this.
    pub(crate) unwinding: Option<Problem>,
    /// Undos that failed.
    #[serde(default)]
    pub(crate) left_behind: Vec<String>,
}

/// One accepted operation.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// What was asked.
    pub(crate) work: Work,
    /// How far it is, as callers see it.
    pub(crate) operation: Operation,
    /// Its plan, once made.
    pub(crate) progress: Option<Progress>,
}

/// The journal's file.
#[derive(Clone)]
pub(crate) struct Journal {
    db: Arc<Mutex<Connection>>,
    /// Where the agent dies in a test.
    #[cfg(test)]
    pub(super) crash: Arc<super::tests::CrashPoint>,
}

fn failed(error: impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "the journal failed");
    Problem::new(ErrorCode::StoreUnavailable, "the agent's journal cannot be used")
        .hint("look at the free space and the health of the agent's state_dir")
}

impl Journal {
    /// Opens or makes `operations.db` in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self, Problem> {
        fs_err::create_dir_all(dir).map_err(failed)?;
        Self::prepare(Connection::open(dir.join("operations.db")).map_err(failed)?)
    }

    fn prepare(connection: Connection) -> Result<Self, Problem> {
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.execute_batch(SCHEMA).map_err(failed)?;
        Ok(Self {
            db: Arc::new(Mutex::new(connection)),
            #[cfg(test)]
            crash: Arc::default(),
        })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let shared = self.db.clone();
        let task = tokio::task::spawn_blocking(move || {
            work(&shared.lock().unwrap_or_else(PoisonError::into_inner))
        });
        task.await.map_err(failed)?
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        #[cfg(test)]
        self.crash.pass().await;
        let done = self.with(work).await;
        #[cfg(test)]
        self.crash.pass().await;
        done
    }

    /// Accepts an operation; answers what is there when the id is known.
    pub(crate) async fn accept(&self, entry: &Entry) -> Result<Option<Entry>, Problem> {
        let entry = entry.clone();
        self.write(move |db| {
            let added = db
                .execute(
                    "INSERT OR IGNORE INTO operation (id, work, state) VALUES (?1, ?2, ?3)",
                    params![
                        entry.operation.id.to_string(),
                        json(&entry.work)?,
                        json(&entry.operation)?
                    ],
                )
                .map_err(failed)?;
            if added == 1 { Ok(None) } else { read(db, entry.operation.id) }
        })
        .await
    }

    /// One operation.
    pub(crate) async fn get(&self, id: OperationId) -> Result<Option<Entry>, Problem> {
        self.with(move |db| read(db, id)).await
    }

    /// Writes how far it is.
    pub(crate) async fn save(&self, entry: &Entry) -> Result<(), Problem> {
        let entry = entry.clone();
        self.write(move |db| {
            let plan = entry.progress.as_ref().map(json).transpose()?;
            db.execute(
                "UPDATE operation SET state = ?2, plan = ?3, final = ?4 WHERE id = ?1",
                params![
                    entry.operation.id.to_string(),
                    json(&entry.operation)?,
                    plan,
                    entry.operation.state.is_final()
                ],
            )
            .map_err(failed)
            .map(drop)
        })
        .await
    }

    /// Operations that a crash interrupted, oldest first. A record that does not read is left
    /// alone and reported; the others are not held up by it.
    pub(crate) async fn unfinished(&self) -> Result<Vec<Entry>, Problem> {
        self.with(|db| {
            let mut query = db
                .prepare("SELECT id FROM operation WHERE final = 0 ORDER BY number")
                .map_err(failed)?;
            let ids: Vec<String> = query
                .query_map([], |row| row.get(0))
                .and_then(Iterator::collect)
                .map_err(failed)?;
            let mut entries = Vec::new();
            for id in ids {
                let entry =
                    OperationId::parse(&id).map_err(Problem::from).and_then(|id| read(db, id));
                match entry {
                    Ok(Some(entry)) => entries.push(entry),
                    Ok(None) => {}
                    Err(problem) => {
                        tracing::error!(operation.id = %id, %problem, "left an operation alone")
                    }
                }
            }
            Ok(entries)
        })
        .await
    }

    /// Records a volume as ours, before it is made.
    pub(crate) async fn own_volume(
        &self,
        path: &str,
        vm: VmId,
        op: OperationId,
    ) -> Result<(), Problem> {
        let (path, vm, op) = (path.to_owned(), vm.to_string(), op.to_string());
        self.write(move |db| {
            db.execute("INSERT OR REPLACE INTO volume VALUES (?1, ?2, ?3)", params![path, vm, op])
                .map_err(failed)
                .map(drop)
        })
        .await
    }

    /// Forgets a volume, after it is gone.
    pub(crate) async fn disown_volume(&self, path: &str) -> Result<(), Problem> {
        let path = path.to_owned();
        self.write(move |db| {
            db.execute("DELETE FROM volume WHERE path = ?1", [path]).map_err(failed).map(drop)
        })
        .await
    }

    /// Volumes of a guest that we made.
    pub(crate) async fn volumes(&self, vm: VmId) -> Result<Vec<String>, Problem> {
        self.with(move |db| {
            let mut query = db
                .prepare("SELECT path FROM volume WHERE vm = ?1 ORDER BY path")
                .map_err(failed)?;
            query
                .query_map([vm.to_string()], |row| row.get(0))
                .and_then(Iterator::collect)
                .map_err(failed)
        })
        .await
    }
}

impl Journal {
    /// Records that a device's hook knows of the device, before it is told.
    pub(crate) async fn keep_hooked(&self, hooked: &Hooked) -> Result<(), Problem> {
        let hooked = hooked.clone();
        self.write(move |db| {
            let row = params![hooked.vm.to_string(), hooked.device, json(&hooked)?];
            db.execute("INSERT OR REPLACE INTO hooked VALUES (?1, ?2, ?3)", row)
                .map_err(failed)
                .map(drop)
        })
        .await
    }

    /// Forgets it, after its hook was told that it has gone.
    pub(crate) async fn forget_hooked(&self, hooked: &Hooked) -> Result<(), Problem> {
        let (vm, device) = (hooked.vm.to_string(), hooked.device.clone());
        self.write(move |db| {
            db.execute("DELETE FROM hooked WHERE vm = ?1 AND device = ?2", [vm, device])
                .map_err(failed)
                .map(drop)
        })
        .await
    }

    /// Devices of a guest that have a hook.
    pub(crate) async fn hooked(&self, vm: VmId) -> Result<Vec<Hooked>, Problem> {
        self.with(move |db| {
            let mut query = db
                .prepare("SELECT device_hook FROM hooked WHERE vm = ?1 ORDER BY device")
                .map_err(failed)?;
            let rows: Vec<String> = query
                .query_map([vm.to_string()], |row| row.get(0))
                .and_then(Iterator::collect)
                .map_err(failed)?;
            rows.iter().map(|row| serde_json::from_str(row).map_err(failed)).collect()
        })
        .await
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(failed)
}

fn read(db: &Connection, id: OperationId) -> Result<Option<Entry>, Problem> {
    type Row = (String, String, Option<String>);
    let row: Option<Row> = db
        .query_row(
            "SELECT work, state, plan FROM operation WHERE id = ?1",
            [id.to_string()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()
        .map_err(failed)?;
    let Some((work, state, plan)) = row else { return Ok(None) };
    Ok(Some(Entry {
        work: serde_json::from_str(&work).map_err(failed)?,
        operation: serde_json::from_str(&state).map_err(failed)?,
        progress: plan.map(|text| serde_json::from_str(&text)).transpose().map_err(failed)?,
    }))
}
