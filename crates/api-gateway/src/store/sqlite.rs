//! SQLite: one file, WAL, `synchronous=FULL`.

use std::collections::BTreeMap;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};
use vmmgr_common::error::Problem;

use super::{Store, Table, failed};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS record (
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
";

/// The file.
#[derive(Clone)]
pub(crate) struct Sqlite(Arc<Mutex<Connection>>);

impl Sqlite {
    /// Opens or makes `gateway.db` in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self, Problem> {
        fs_err::create_dir_all(dir).map_err(failed)?;
        let path = dir.join("gateway.db");
        private(&path).map_err(failed)?;
        Self::prepare(Connection::open(path).map_err(failed)?)
    }

    /// In memory, for tests.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self::prepare(Connection::open_in_memory().unwrap()).unwrap()
    }

    fn prepare(connection: Connection) -> Result<Self, Problem> {
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.execute_batch(SCHEMA).map_err(failed)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let shared = self.0.clone();
        let task = tokio::task::spawn_blocking(move || {
            work(&shared.lock().unwrap_or_else(PoisonError::into_inner))
        });
        task.await.map_err(failed)?.map_err(failed)
    }
}

/// Password hashes are in it: nobody else may read it, nor what SQLite puts beside it.
fn private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

#[async_trait]
impl Store for Sqlite {
    async fn get(&self, table: Table, key: &str) -> Result<Option<String>, Problem> {
        let key = key.to_owned();
        self.with(move |db| {
            db.query_row(
                "SELECT value FROM record WHERE kind = ?1 AND key = ?2",
                params![table.name(), key],
                |row| row.get(0),
            )
            .optional()
        })
        .await
    }

    async fn list(&self, table: Table) -> Result<Vec<(String, String)>, Problem> {
        self.with(move |db| {
            db.prepare_cached("SELECT key, value FROM record WHERE kind = ?1 ORDER BY key")?
                .query_map([table.name()], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .await
    }

    async fn page(
        &self,
        table: Table,
        prefix: &str,
        before: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, String)>, Problem> {
        // No key holds the last character of all, so this is above every key with the prefix.
        let above = format!("{prefix}\u{10ffff}");
        let before = before.map_or(above, str::to_owned);
        let prefix = prefix.to_owned();
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.with(move |db| {
            let sql = "SELECT key, value FROM record
                WHERE kind = ?1 AND key >= ?2 AND key < ?3 ORDER BY key DESC LIMIT ?4";
            db.prepare_cached(sql)?
                .query_map(params![table.name(), prefix, before, most], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .collect()
        })
        .await
    }

    async fn insert(&self, table: Table, key: &str, value: &str) -> Result<bool, Problem> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.with(move |db| {
            let sql = "INSERT OR IGNORE INTO record VALUES (?1, ?2, ?3)";
            db.execute(sql, params![table.name(), key, value]).map(|count| count == 1)
        })
        .await
    }

    async fn put(&self, table: Table, key: &str, value: &str) -> Result<(), Problem> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.with(move |db| {
            let sql = "INSERT OR REPLACE INTO record VALUES (?1, ?2, ?3)";
            db.execute(sql, params![table.name(), key, value]).map(drop)
        })
        .await
    }

    async fn delete(&self, table: Table, key: &str) -> Result<bool, Problem> {
        let key = key.to_owned();
        self.with(move |db| {
            let sql = "DELETE FROM record WHERE kind = ?1 AND key = ?2";
            db.execute(sql, params![table.name(), key]).map(|count| count == 1)
        })
        .await
    }

    async fn versions(&self) -> Result<BTreeMap<String, u64>, Problem> {
        Ok(BTreeMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_go_downwards_and_stay_below_their_prefix() {
        let store = Sqlite::in_memory();
        for key in ["a/1", "a/2", "a/3", "b/1"] {
            store.put(Table::OperationsOfVm, key, "").await.unwrap();
        }
        store.put(Table::Operations, "a/9", "").await.unwrap();
        let page = async |prefix: &str, before: Option<&str>, most| {
            let page = store.page(Table::OperationsOfVm, prefix, before, most).await.unwrap();
            page.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(page("a/", None, 2).await, ["a/3", "a/2"]);
        assert_eq!(page("a/", Some("a/2"), 2).await, ["a/1"]);
        assert_eq!(page("", None, 9).await, ["b/1", "a/3", "a/2", "a/1"]);
        assert!(page("c/", None, 9).await.is_empty());
        let plan: String = store
            .with(|db| {
                let sql = "EXPLAIN QUERY PLAN SELECT key, value FROM record
                    WHERE kind = 'x' AND key >= 'a' AND key < 'b' ORDER BY key DESC LIMIT 5";
                db.query_row(sql, [], |row| row.get(3))
            })
            .await
            .unwrap();
        assert!(plan.starts_with("SEARCH"), "{plan}");
    }

    #[tokio::test]
    async fn records_survive_a_reopening_and_are_inserted_once() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = Sqlite::open(dir.path()).unwrap();
            assert!(store.insert(Table::Hosts, "a", "1").await.unwrap());
            assert!(!store.insert(Table::Hosts, "a", "2").await.unwrap());
            store.put(Table::Users, "a", "3").await.unwrap();
        }
        let store = Sqlite::open(dir.path()).unwrap();
        let mode = fs_err::metadata(dir.path().join("gateway.db")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(store.get(Table::Hosts, "a").await.unwrap().as_deref(), Some("1"));
        assert_eq!(store.list(Table::Users).await.unwrap(), [("a".into(), "3".into())]);
        assert!(store.delete(Table::Hosts, "a").await.unwrap());
        assert!(!store.delete(Table::Hosts, "a").await.unwrap());
    }
}
