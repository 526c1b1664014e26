//! What only the gateway knows: users, hosts, images, ISOs, operations, revoked tokens.
//!
//! A small key-value shape, so that every engine behind it means the same: a record is a key and
//! a JSON text in a [`Table`]. Writes are durable when they return.

#[cfg(test)]
pub(crate) mod conformance;
pub(crate) mod dump;
mod redis;
mod sqlite;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vmmgr_common::error::{ErrorCode, Problem};

use self::redis::Redis;
pub(crate) use self::sqlite::Sqlite;
use crate::config::Config;

macro_rules! tables {
    ($($(#[$about:meta])* $table:ident = $name:literal,)*) => {
        /// Kinds of records; the names are the keys of every engine.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Table { $($(#[$about])* $table,)* }

        impl Table {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$table,)*];

            /// Name in the engine.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$table => $name,)* }
            }
        }
    };
}

tables! {
    /// Accounts, by name.
    Users = "users",
    /// Hosts, by name.
    Hosts = "hosts",
    /// Gold images, by `name/arch`.
    Images = "images",
    /// ISOs, by name.
    Isos = "isos",
    /// Operations, by id; ids grow with time.
    Operations = "operations",
    /// Ids of a guest's operations, by `guest/id`.
    OperationsOfVm = "operations_of_vm",
    /// Idempotency keys, by `user/key`.
    IdempotencyKeys = "idempotency_keys",
    /// Revoked tokens, by `jti`.
    RevokedTokens = "revoked_tokens",
    /// Tenant links, by a keyed digest of the link.
    Links = "links",
    /// Uses of links, by `link/number`.
    LinkUses = "link_uses",
    /// Ranges of the address pool, by name.
    Addresses = "addresses",
    /// Reserved addresses, by address.
    Reservations = "reservations",
    /// Reports of libvirt hooks, by `sender/guest`.
    HookReports = "hook_reports",
    /// Tokens for scripts, by their digest.
    ApiTokens = "api_tokens",
    /// Console tickets and resume secrets, by `chain/kind/digest`.
    ConsoleTickets = "console_tickets",
    /// The audit log, by number.
    Audit = "audit",
    /// Help texts of template variables, by name.
    Variables = "variables",
}

/// An engine.
#[async_trait]
pub(crate) trait Store: Send + Sync + 'static {
    /// One record.
    async fn get(&self, table: Table, key: &str) -> Result<Option<String>, Problem>;
    /// All records of a table, by key.
    async fn list(&self, table: Table) -> Result<Vec<(String, String)>, Problem>;
    /// At most `most` records whose keys begin with `prefix`, the greatest key below `before` first.
    async fn page(
        &self,
        table: Table,
        prefix: &str,
        before: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, String)>, Problem>;
    /// Writes a record that must not be there yet; false if it is.
    async fn insert(&self, table: Table, key: &str, value: &str) -> Result<bool, Problem>;
    /// Writes a record.
    async fn put(&self, table: Table, key: &str, value: &str) -> Result<(), Problem>;
    /// Removes a record; false if there was none.
    async fn delete(&self, table: Table, key: &str) -> Result<bool, Problem>;
    /// How often each table has changed, by its name, where other gateways write as well; empty
    /// where this process is the only writer.
    async fn versions(&self) -> Result<BTreeMap<String, u64>, Problem>;
}

/// The engine that `gateway.toml` names.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Store>, Problem> {
    Ok(match &config.store {
        Some(redis) => Arc::new(Redis::open(redis).await?),
        None => Arc::new(Sqlite::open(&config.state_dir)?),
    })
}

/// The engine failed.
pub(crate) fn failed(error: impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "the record store failed");
    Problem::new(ErrorCode::StoreUnavailable, "the gateway's records cannot be used")
        .hint("look at the free space and the health of the gateway's state_dir")
}

/// A record as JSON.
pub(crate) fn to_text<T: Serialize>(value: &T) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(failed)
}

/// JSON as a record.
pub(crate) fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(failed)
}
