//! The application: what the two faces of the API share. Knows no HTTP.

pub(crate) mod addresses;
pub(crate) mod api_tokens;
pub(crate) mod archive;
pub(crate) mod audit;
pub(crate) mod consoles;
pub(crate) mod follow;
pub(crate) mod hooks;
pub(crate) mod hosts;
pub(crate) mod housekeeping;
pub(crate) mod links;
pub(crate) mod login;
pub(crate) mod operations;
pub(crate) mod progress;
pub(crate) mod records;
mod settled;
pub(crate) mod transfer;
pub(crate) mod users;
pub(crate) mod vms;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use vmmgr_common::client::AgentClient;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, OperationId};
use vmmgr_common::mtls::TlsFiles;

use self::api_tokens::ApiTokens;
use self::links::Links;
use self::operations::Open;
use self::users::Accounts;
use crate::auth::Identity;
use crate::auth::login::Attempts;
use crate::auth::token::Tokens;
use crate::directory::Directory;
use crate::fleet::Fleet;
use crate::limits::Limits;
use crate::store::{Store, Table};

/// State of the gateway; everything in it is shared.
pub(crate) struct App {
    /// Records.
    pub(crate) store: Arc<dyn Store>,
    /// Logins.
    pub(crate) tokens: Tokens,
    /// Login attempts.
    pub(crate) attempts: Attempts,
    /// Tenant links.
    pub(crate) links: Links,
    /// How much each caller may ask.
    pub(crate) limits: Limits,
    /// Generations of accounts.
    pub(crate) accounts: Accounts,
    /// Whose people may log in as well.
    pub(crate) directory: Option<Arc<Directory>>,
    /// Tokens for scripts.
    pub(crate) api_tokens: ApiTokens,
    /// The audit log.
    pub(crate) audit: audit::Audit,
    /// Guests.
    pub(crate) fleet: Fleet,
    /// Who looks at them.
    pub(crate) consoles: consoles::Consoles,
    tls: TlsFiles,
    /// Operations that have not ended, as far as this gateway knows.
    open: Mutex<HashMap<OperationId, Open>>,
    /// What followers of the fleet know of operations.
    told: progress::Told,
    /// Agents and their addresses.
    agents: RwLock<HashMap<HostId, (String, AgentClient)>>,
    /// One change of the hosts at a time.
    hosts_turn: tokio::sync::Mutex<()>,
    revoked: RwLock<HashSet<String>>,
}

impl App {
    /// Reads the records and begins to follow the hosts.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        tokens: Tokens,
        links: Links,
        limits: Limits,
        directory: Option<Directory>,
        tls: TlsFiles,
    ) -> Result<Self, Problem> {
        let directory = directory.map(Arc::new);
        let app = Self {
            consoles: consoles::Consoles::new(store.clone()),
            store,
            tokens,
            attempts: Attempts::default(),
            links,
            limits,
            accounts: Accounts::new(directory.clone()),
            directory,
            api_tokens: ApiTokens::default(),
            audit: audit::Audit::default(),
            fleet: Fleet::default(),
            tls,
            open: Mutex::default(),
            told: progress::Told::default(),
            agents: RwLock::default(),
            hosts_turn: tokio::sync::Mutex::default(),
            revoked: RwLock::default(),
        };
        app.accounts.read(app.store.as_ref()).await?;
        app.api_tokens.read(app.store.as_ref()).await?;
        app.read_revoked().await?;
        app.read_open().await?;
        app.read_hosts().await?;
        Ok(app)
    }

    async fn read_revoked(&self) -> Result<(), Problem> {
        for (token, _) in self.store.list(Table::RevokedTokens).await? {
            self.revoked.write().unwrap_or_else(PoisonError::into_inner).insert(token);
        }
        Ok(())
    }

    /// Forgets revoked tokens that have ended by themselves.
    async fn prune_revoked(&self, now: u64) -> Result<(), Problem> {
        for (token, until) in self.store.list(Table::RevokedTokens).await? {
            if until.parse::<u64>().is_ok_and(|until| until + 60 < now) {
                self.store.delete(Table::RevokedTokens, &token).await?;
                self.revoked.write().unwrap_or_else(PoisonError::into_inner).remove(&token);
            }
        }
        Ok(())
    }

    /// True while a login is good: not revoked, not over, its account unchanged.
    pub(crate) fn is_good(&self, who: &Identity) -> bool {
        !self.is_revoked(&who.token)
            && who.until > jsonwebtoken::get_current_timestamp()
            && self.accounts.has(&who.user, who.generation)
    }

    /// True for a token that was logged out.
    pub(crate) fn is_revoked(&self, token: &str) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains(token)
    }

    /// Ends a token before its time.
    pub(crate) async fn revoke(&self, token: &str, until: u64) -> Result<(), Problem> {
        self.store.put(Table::RevokedTokens, token, &until.to_string()).await?;
        self.revoked.write().unwrap_or_else(PoisonError::into_inner).insert(token.to_owned());
        Ok(())
    }

    /// The client of a host's agent.
    pub(crate) fn agent(&self, host: &HostId) -> Result<AgentClient, Problem> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        agents.get(host).map(|(_, agent)| agent.clone()).ok_or_else(|| no_such_host(host))
    }
}

/// The host is not registered.
pub(crate) fn no_such_host(host: &HostId) -> Problem {
    Problem::new(ErrorCode::NoSuchHost, format!("no host `{host}`"))
        .hint("`vmmctl host list` shows what is registered")
}
