//! What every engine must mean, asked of each; and what only a server can do to us.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmmgr_common::error::ErrorCode;

use super::{Redis, Sqlite, Store, Table};
use crate::config::RedisConfig;

const PATIENCE: Duration = Duration::from_secs(20);

/// A real redis-server of our own, on a socket in a folder of its own.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    process: Mutex<Child>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    fn with(how: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let process = Mutex::new(run(dir.path(), how));
        Self { dir, process }
    }

    fn config(&self) -> RedisConfig {
        let file = self.dir.path().join("redis.url");
        fs_err::write(&file, format!("unix://{}\n", self.socket().display())).unwrap();
        RedisConfig { redis_url_file: file, ca: None, accept_loss: false }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// A connection of its own, as another gateway has.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        let start = Instant::now();
        loop {
            match Redis::open(&self.config()).await {
                Ok(store) => return Arc::new(store),
                Err(problem) => assert!(start.elapsed() < PATIENCE, "{problem}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// As if the power went.
    fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn restart(&self) {
        *self.process.lock().unwrap() =
            run(self.dir.path(), &["--appendonly", "yes", "--appendfsync", "always"]);
    }

    /// What an operator must never do.
    pub(crate) async fn empty(&self) {
        let client = redis::Client::open(format!("unix://{}", self.socket().display())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(dir: &std::path::Path, how: &[&str]) -> Child {
    Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock", "--dir"])
        .arg(dir)
        .args(how)
        .current_dir(dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is needed: `make setup` installs it")
}

async fn means_the_same(store: Arc<dyn Store>) {
    // Records.
    assert_eq!(store.get(Table::Hosts, "a").await.unwrap(), None);
    assert!(store.insert(Table::Hosts, "a", "1").await.unwrap());
    assert!(!store.insert(Table::Hosts, "a", "2").await.unwrap());
    assert_eq!(store.get(Table::Hosts, "a").await.unwrap().as_deref(), Some("1"));
    store.put(Table::Hosts, "a", "3").await.unwrap();
    assert_eq!(store.get(Table::Hosts, "a").await.unwrap().as_deref(), Some("3"));
    assert_eq!(store.get(Table::Users, "a").await.unwrap(), None, "tables are apart");
    assert!(store.delete(Table::Hosts, "a").await.unwrap());
    assert!(!store.delete(Table::Hosts, "a").await.unwrap());
    assert!(store.list(Table::Hosts).await.unwrap().is_empty());
    assert!(store.page(Table::Hosts, "", None, 9).await.unwrap().is_empty());

    // Any text is a key or a value.
    let odd = ["", " ", "a b\r\n", "名\u{10fffe}", "\0", "(a", "[a", "*", "'; --"];
    for key in odd {
        store.put(Table::Isos, key, key).await.unwrap();
        assert_eq!(store.get(Table::Isos, key).await.unwrap().as_deref(), Some(key));
    }
    let mut sorted: Vec<_> = odd.iter().map(|key| ((*key).to_owned(), (*key).to_owned())).collect();
    sorted.sort();
    assert_eq!(store.list(Table::Isos).await.unwrap(), sorted, "by the bytes of the key");
    sorted.reverse();
    assert_eq!(store.page(Table::Isos, "", None, 99).await.unwrap(), sorted);

    // Pages.
    for key in ["a/1", "a/2", "a/3", "b/1", "a"] {
        store.put(Table::OperationsOfVm, key, &format!("of {key}")).await.unwrap();
    }
    let page = async |prefix: &str, before: Option<&str>, most| {
        let page = store.page(Table::OperationsOfVm, prefix, before, most).await.unwrap();
        page.into_iter()
            .map(|(key, value)| (value == format!("of {key}")).then_some(key).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(page("a/", None, 2).await, ["a/3", "a/2"]);
    assert_eq!(page("a/", Some("a/2"), 2).await, ["a/1"]);
    assert_eq!(page("", None, 9).await, ["b/1", "a/3", "a/2", "a/1", "a"]);
    assert!(page("a/", None, 0).await.is_empty());
    assert!(page("c/", None, 9).await.is_empty());

    // One of many wins.
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..64 {
        let store = store.clone();
        writers.spawn(async move {
            store.insert(Table::Reservations, "10.0.0.2", &writer.to_string()).await.unwrap()
        });
    }
    let won = writers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn sqlite_conforms() {
    means_the_same(Arc::new(Sqlite::in_memory())).await;
}

#[tokio::test]
async fn redis_conforms() {
    let server = Server::start();
    means_the_same(server.store().await).await;
}

#[tokio::test]
async fn a_killed_redis_has_all_that_it_acknowledged_and_is_refused_for_while_it_is_away() {
    let server = Server::start();
    let store = server.store().await;
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            let mut acknowledged = 0_u32;
            while store.put(Table::Operations, &acknowledged.to_string(), "{}").await.is_ok() {
                acknowledged += 1;
            }
            acknowledged
        }
    });
    while store.list(Table::Operations).await.unwrap().len() < 200 {}
    server.kill();
    let acknowledged = writer.await.unwrap();
    assert!(acknowledged >= 200);
    let problem = store.put(Table::Operations, "later", "{}").await.unwrap_err();
    assert_eq!((problem.code, problem.status), (ErrorCode::StoreUnavailable, 503));

    server.restart();
    let start = Instant::now();
    let kept = loop {
        match store.list(Table::Operations).await {
            Ok(kept) => break kept.into_iter().map(|(key, _)| key).collect::<Vec<_>>(),
            Err(problem) => assert!(start.elapsed() < PATIENCE, "{problem}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    for number in 0..acknowledged {
        assert!(kept.contains(&number.to_string()), "record {number} of {acknowledged} is lost");
    }
}

#[tokio::test]
async fn a_redis_that_may_lose_records_is_refused_unless_that_is_wanted() {
    for (how, setting) in [
        (&["--appendonly", "no"][..], "appendonly"),
        (&["--appendonly", "yes", "--appendfsync", "everysec"], "appendfsync"),
        (
            &[
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--maxmemory-policy",
                "allkeys-lru",
            ],
            "maxmemory-policy",
        ),
    ] {
        let server = Server::with(how);
        let start = Instant::now();
        let problem = loop {
            let problem = Redis::open(&server.config()).await.err().unwrap();
            if problem.detail.contains(setting) {
                break problem;
            }
            assert!(start.elapsed() < PATIENCE, "{problem}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(problem.hint.as_deref().unwrap_or_default().contains("accept_loss"), "{problem}");
        let config = RedisConfig { accept_loss: true, ..server.config() };
        assert!(Redis::open(&config).await.is_ok());
    }
}

#[tokio::test]
async fn a_bad_address_is_told_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("redis.url");
    fs_err::write(&file, "http://user:swordfish@localhost").unwrap();
    let config = RedisConfig { redis_url_file: file, ca: None, accept_loss: false };
    let problem = Redis::open(&config).await.err().unwrap();
    assert_eq!(problem.code, ErrorCode::InvalidValue);
    assert!(!format!("{problem:?}").contains("swordfish"), "{problem:?}");
}
