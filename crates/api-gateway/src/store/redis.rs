//! Redis, for several gateways behind one nginx.
//!
//! A table is a hash `vmmgr:<table>` (key -> JSON text) and a sorted set `vmmgr:<table>:keys` whose
//! members all score 0, which Redis keeps in the order of their bytes (ZRANGEBYLEX). The hash
//! `vmmgr:versions` counts the changes of each table. Every change is one script, so it is whole.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo as _, RedisResult, Script, TlsCertificates};
use vmmgr_common::error::{ErrorCode, Problem};

use super::{Store, Table};
use crate::config::RedisConfig;

/// A Redis that is away is told within twice this.
const PATIENCE: Duration = Duration::from_secs(1);
const VERSIONS: &str = "vmmgr:versions";

/// `insert`, `put` and `delete`: answers whether anything was changed.
const CHANGE: &str = "
local old = redis.call('HGET', KEYS[1], ARGV[2])
if ARGV[1] == 'insert' and old then return 0 end
if ARGV[1] == 'delete' then
    if not old then return 0 end
    redis.call('HDEL', KEYS[1], ARGV[2])
    redis.call('ZREM', KEYS[2], ARGV[2])
else
    redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
    redis.call('ZADD', KEYS[2], 0, ARGV[2])
end
redis.call('HINCRBY', KEYS[3], ARGV[4], 1)
return 1
";

const PAGE: &str = "
local keys = redis.call('ZREVRANGEBYLEX', KEYS[2], ARGV[2], ARGV[1], 'LIMIT', 0, ARGV[3])
local page = {}
for _, key in ipairs(keys) do
    table.insert(page, key)
    table.insert(page, redis.call('HGET', KEYS[1], key))
end
return page
";

/// A connection that comes back by itself.
#[derive(Clone)]
pub(crate) struct Redis {
    connection: ConnectionManager,
    change: Script,
    page: Script,
}

/// Redis did not answer, or refused.
fn failed(error: redis::RedisError) -> Problem {
    tracing::error!(%error, "Redis failed");
    Problem::new(ErrorCode::StoreUnavailable, "the gateway's records cannot be used")
        .hint("look at the Redis server that gateway.toml names, and at its free memory and disk")
}

/// Records may be lost with what Redis is told to do.
fn unfit(setting: &str, is: &str, needed: &str) -> Problem {
    let said = format!("Redis has `{setting} {is}`: records that were acknowledged could be lost");
    Problem::new(ErrorCode::StoreUnavailable, said)
        .hint(format!("set `{setting} {needed}` in redis.conf, or `accept_loss = true` in [store]"))
}

impl Redis {
    /// Connects, and refuses a server that may lose what it has acknowledged.
    pub(crate) async fn open(config: &RedisConfig) -> Result<Self, Problem> {
        let invalid = |what: String| {
            let file = config.redis_url_file.display();
            Problem::new(ErrorCode::InvalidValue, format!("{file}: {what}"))
        };
        let url = fs_err::read_to_string(&config.redis_url_file).map_err(super::failed)?;
        // The parser's own words could repeat the password.
        let info = url.trim().into_connection_info().map_err(|_| {
            invalid("not an address such as redis://user:password@host:6379/0".into())
        })?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = match &config.ca {
            None => Client::open(info),
            Some(ca) => {
                let pem = fs_err::read(ca).map_err(super::failed)?;
                let trusted = TlsCertificates { client_tls: None, root_cert: Some(pem) };
                Client::build_with_tls(info, trusted)
            }
        };
        let client = client.map_err(|error| invalid(error.to_string()))?;
        let manner = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection =
            ConnectionManager::new_with_config(client, manner).await.map_err(failed)?;
        let (change, page) = (Script::new(CHANGE), Script::new(PAGE));
        let store = Self { connection, change, page };
        if !config.accept_loss {
            store.judge().await?;
        }
        Ok(store)
    }

    async fn judge(&self) -> Result<(), Problem> {
        let needed =
            [("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")];
        for (setting, needed) in needed {
            let mut command = redis::cmd("CONFIG");
            let found: Vec<String> = self.ask(command.arg("GET").arg(setting)).await?;
            let is = found.get(1).map_or("(unknown)", String::as_str);
            if is != needed {
                return Err(unfit(setting, is, needed));
            }
        }
        Ok(())
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, Problem> {
        let answer: RedisResult<T> = command.query_async(&mut self.connection.clone()).await;
        answer.map_err(failed)
    }

    async fn change(
        &self,
        how: &str,
        table: Table,
        key: &str,
        value: &str,
    ) -> Result<bool, Problem> {
        let mut change = self.change.key(hash(table));
        change.key(keys(table)).key(VERSIONS).arg(how).arg(key).arg(value).arg(table.name());
        let done: RedisResult<bool> = change.invoke_async(&mut self.connection.clone()).await;
        done.map_err(failed)
    }
}

fn hash(table: Table) -> String {
    format!("vmmgr:{}", table.name())
}

fn keys(table: Table) -> String {
    format!("vmmgr:{}:keys", table.name())
}

#[async_trait]
impl Store for Redis {
    async fn get(&self, table: Table, key: &str) -> Result<Option<String>, Problem> {
        self.ask(redis::cmd("HGET").arg(hash(table)).arg(key)).await
    }

    async fn list(&self, table: Table) -> Result<Vec<(String, String)>, Problem> {
        let all: BTreeMap<String, String> =
            self.ask(redis::cmd("HGETALL").arg(hash(table))).await?;
        Ok(all.into_iter().collect())
    }

    async fn page(
        &self,
        table: Table,
        prefix: &str,
        before: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, String)>, Problem> {
        // No key holds the last character of all, so this is above every key with the prefix.
        let above = before.map_or_else(|| format!("({prefix}\u{10ffff}"), |key| format!("({key}"));
        let mut page = self.page.key(hash(table));
        page.key(keys(table)).arg(format!("[{prefix}")).arg(above).arg(most);
        let page: RedisResult<Vec<(String, String)>> =
            page.invoke_async(&mut self.connection.clone()).await;
        page.map_err(failed)
    }

    async fn insert(&self, table: Table, key: &str, value: &str) -> Result<bool, Problem> {
        self.change("insert", table, key, value).await
    }

    async fn put(&self, table: Table, key: &str, value: &str) -> Result<(), Problem> {
        self.change("put", table, key, value).await.map(drop)
    }

    async fn delete(&self, table: Table, key: &str) -> Result<bool, Problem> {
        self.change("delete", table, key, "").await
    }

    async fn versions(&self) -> Result<BTreeMap<String, u64>, Problem> {
        self.ask(redis::cmd("HGETALL").arg(VERSIONS)).await
    }
}
