//! All records in one file, for a backup or another engine.
//!
//! ```text
//!  {"vmmgr_backup": 1, "made": "2026-11-25T10:00:00Z"}
//!  {"key_file": "token.key", "hex": "…"}
//!  {"table": "users", "key": "admin", "value": "…"}           a line a record
//!  {"records": 42, "sha256": "…"}                              of all lines before
//! ```
//!
//! Password digests and the keys of sessions and links are in it: it is as secret as `state_dir`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use vmmgr_common::error::{ErrorCode, Problem};

use super::{Store, Table, failed};
use crate::private;

/// Keys that links and sessions hang on; in `state_dir`.
const KEY_FILES: [&str; 2] = ["token.key", "link.key"];
/// Worth nothing a minute later.
const PASSING: [Table; 1] = [Table::ConsoleTickets];

#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Head { vmmgr_backup: u32, made: String },
    Key { key_file: String, hex: String },
    Record { table: String, key: String, value: String },
    End { records: usize, sha256: String },
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

fn kept() -> impl Iterator<Item = Table> {
    Table::ALL.iter().copied().filter(|table| !PASSING.contains(table))
}

fn push(text: &mut String, line: &Line) -> Result<(), Problem> {
    text.push_str(&serde_json::to_string(line).map_err(failed)?);
    text.push('\n');
    Ok(())
}

/// Everything, and how many records that are.
pub(crate) async fn dump(store: &dyn Store, state_dir: &Path) -> Result<(String, usize), Problem> {
    let (mut text, mut records) = (String::new(), 0);
    let made = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    push(&mut text, &Line::Head { vmmgr_backup: 1, made })?;
    for name in KEY_FILES {
        match fs_err::read(state_dir.join(name)) {
            Ok(key) => push(&mut text, &Line::Key { key_file: name.to_owned(), hex: hex(&key) })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    for table in kept() {
        for (key, value) in store.list(table).await? {
            push(&mut text, &Line::Record { table: table.name().to_owned(), key, value })?;
            records += 1;
        }
    }
    let sha256 = hex(&Sha256::digest(&text));
    push(&mut text, &Line::End { records, sha256 })?;
    Ok((text, records))
}

/// What a dump says; nothing is believed of one that is not whole.
struct Dump {
    keys: Vec<(&'static str, Vec<u8>)>,
    records: Vec<(Table, String, String)>,
}

fn read(text: &str) -> Result<Dump, Problem> {
    let bad = |why: String| {
        Problem::new(ErrorCode::InvalidValue, format!("the backup cannot be used: {why}"))
    };
    let cut = || bad("its end is missing, or it was changed".to_owned());
    let body = text.strip_suffix('\n').ok_or_else(cut)?;
    let last = body.rfind('\n').map_or(0, |at| at + 1);
    let Ok(Line::End { records: count, sha256 }) = serde_json::from_str(&body[last..]) else {
        return Err(cut());
    };
    if hex(&Sha256::digest(&body[..last])) != sha256 {
        return Err(cut());
    }
    let mut dump = Dump { keys: Vec::new(), records: Vec::new() };
    for (number, line) in body[..last].lines().enumerate() {
        let odd = |why: &str| bad(format!("line {}: {why}", number + 1));
        match (number, serde_json::from_str(line)) {
            (0, Ok(Line::Head { vmmgr_backup: 1, .. })) => {}
            (0, _) => return Err(odd("it is no backup of this program's format 1")),
            (_, Ok(Line::Key { key_file, hex })) => {
                let name = KEY_FILES.into_iter().find(|name| *name == key_file);
                match (name, unhex(&hex)) {
                    (Some(name), Some(key)) => dump.keys.push((name, key)),
                    _ => return Err(odd("an unknown key file")),
                }
            }
            (_, Ok(Line::Record { table, key, value })) => {
                let known = Table::ALL.iter().find(|known| known.name() == table);
                let table = *known.ok_or_else(|| odd("a table of a newer version"))?;
                dump.records.push((table, key, value));
            }
            _ => return Err(odd("neither a record nor a key")),
        }
    }
    if dump.records.len() == count { Ok(dump) } else { Err(cut()) }
}

/// Writes a dump into an empty store, and its keys into `state_dir`; gives how many records that are.
pub(crate) async fn load(
    store: &dyn Store,
    state_dir: &Path,
    text: &str,
) -> Result<usize, Problem> {
    let dump = read(text)?;
    let wrong = |why: String, hint: &str| {
        Err(Problem::new(ErrorCode::WrongState, why).hint(hint.to_owned()))
    };
    for table in kept() {
        if !store.page(table, "", None, 1).await?.is_empty() {
            let why =
                format!("the store is not empty (table `{}`); nothing was changed", table.name());
            return wrong(why, "restore into a new state_dir or a new Redis, before `init-admin`");
        }
    }
    for (name, key) in &dump.keys {
        if fs_err::read(state_dir.join(name)).is_ok_and(|there| there != *key) {
            let why = format!("{} has another {name}; nothing was changed", state_dir.display());
            return wrong(why, "move it away: links and sessions of the backup need their own key");
        }
    }
    for (name, key) in &dump.keys {
        let path = state_dir.join(name);
        if !path.exists() {
            private::write_new(&path, key).map_err(failed)?;
        }
    }
    for (table, key, value) in &dump.records {
        store.put(*table, key, value).await?;
    }
    Ok(dump.records.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Sqlite;
    use crate::store::conformance::Server;

    async fn filled(dir: &Path) -> Sqlite {
        fs_err::write(dir.join("token.key"), [7; 32]).unwrap();
        let store = Sqlite::in_memory();
        for table in Table::ALL {
            for number in 0..3 {
                let key = format!("key {number}\n\u{e4}");
                store.put(*table, &key, &format!("{} {number} \"x\"", table.name())).await.unwrap();
            }
        }
        store
    }

    #[tokio::test]
    async fn what_is_backed_up_is_what_is_restored_in_either_engine() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = filled(from.path()).await;
        let (text, records) = dump(&store, from.path()).await.unwrap();
        assert_eq!(records, 3 * (Table::ALL.len() - PASSING.len()));
        assert!(!text.contains("console_tickets"));
        let server = Server::start();
        let shared = server.store().await;
        assert_eq!(load(shared.as_ref(), to.path(), &text).await.unwrap(), records);
        for table in kept() {
            assert_eq!(shared.list(table).await.unwrap(), store.list(table).await.unwrap());
        }
        assert_eq!(fs_err::read(to.path().join("token.key")).unwrap(), [7; 32]);
        // And back: from several gateways to one.
        let (again, _) = dump(shared.as_ref(), to.path()).await.unwrap();
        let one = Sqlite::in_memory();
        assert_eq!(load(&one, from.path(), &again).await.unwrap(), records);
    }

    #[tokio::test]
    async fn a_backup_that_is_not_whole_or_a_store_that_is_not_empty_changes_nothing() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (text, _) = dump(&filled(from.path()).await, from.path()).await.unwrap();
        let store = Sqlite::in_memory();
        let half = &text[..text.len() / 2];
        let line = half.rfind('\n').unwrap();
        for bad in [
            "",
            "\n",
            "{}\n",
            half,
            &half[..=line],
            text.trim_end(),
            &text.replace("users 1", "users 9"),
            &text.replace("vmmgr_backup\":1", "vmmgr_backup\":2"),
        ] {
            let problem = load(&store, to.path(), bad).await.unwrap_err();
            assert_eq!(problem.status, 422, "{problem}");
        }
        assert!(store.list(Table::Users).await.unwrap().is_empty());
        fs_err::write(to.path().join("token.key"), [8; 32]).unwrap();
        let problem = load(&store, to.path(), &text).await.unwrap_err();
        assert!(problem.detail.contains("another token.key"), "{problem}");
        fs_err::remove_file(to.path().join("token.key")).unwrap();
        store.put(Table::Hosts, "host01", "{}").await.unwrap();
        let problem = load(&store, to.path(), &text).await.unwrap_err();
        assert!(problem.detail.contains("not empty (table `hosts`)"), "{problem}");
        assert!(store.list(Table::Users).await.unwrap().is_empty());
        assert!(!to.path().join("token.key").exists());
    }

    #[test]
    fn digits_are_read_as_they_are_written() {
        assert_eq!(unhex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("é"), None);
    }
}
