//! The conversation with the server: RFC 4511 by `ldap3`, over TLS.
//!
//! With `bind_dn` one connection is bound as the person and asks for the groups itself. With
//! `search` a connection of the service account finds the person and asks for the groups, and a
//! second one only proves the password. Each login has connections of its own: a bind changes whose
//! a connection is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions};
use tokio::sync::Semaphore;
use url::Url;
use vmmgr_common::error::{Chain, Problem};
use vmmgr_common::mtls::{self, TlsError};
use vmmgr_common::secret::Secret;

use super::config::{LdapConfig, SearchConfig};
use super::{Ask, Verdict, names, unreachable};
use crate::auth::Role;

/// Logins at the directory at one time.
const AT_ONCE: usize = 16;

/// Result codes (RFC 4511, appendix A).
mod code {
    pub(super) const SUCCESS: u32 = 0;
    pub(super) const SIZE_LIMIT_EXCEEDED: u32 = 4;
    pub(super) const COMPARE_FALSE: u32 = 5;
    pub(super) const COMPARE_TRUE: u32 = 6;
    pub(super) const NO_SUCH_ATTRIBUTE: u32 = 16;
    pub(super) const CONSTRAINT_VIOLATION: u32 = 19;
    pub(super) const NO_SUCH_OBJECT: u32 = 32;
    pub(super) const INVALID_DN_SYNTAX: u32 = 34;
    pub(super) const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
    pub(super) const INVALID_CREDENTIALS: u32 = 49;
    pub(super) const INSUFFICIENT_ACCESS_RIGHTS: u32 = 50;
    pub(super) const UNWILLING_TO_PERFORM: u32 = 53;
}

/// Why the directory could not be asked; for the log.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot {what} at the directory")]
    Ldap {
        what: &'static str,
        #[source]
        source: Box<LdapError>,
    },
    #[error("the directory answers {what} with code {code} ({text})")]
    Code { what: &'static str, code: u32, text: String },
    #[error("cannot set up TLS to the directory")]
    Tls(#[source] TlsError),
    #[error("cannot use the service account of [ldap.search]")]
    Service(#[source] Problem),
    #[error("the directory does not take the password of the service account of [ldap.search]")]
    ServiceRefused,
    #[error("the directory did not answer in {0:?}")]
    Deadline(Duration),
    #[error("nobody serves logins any more")]
    Closed,
}

fn ldap(what: &'static str) -> impl FnOnce(LdapError) -> Failure {
    move |source| Failure::Ldap { what, source: Box::new(source) }
}

/// What is configured, and turns for it.
pub(super) struct Talk {
    config: LdapConfig,
    url: Url,
    groups: Vec<(Role, String)>,
    deadline: Duration,
    turns: Semaphore,
}

#[async_trait]
impl Ask for Talk {
    async fn ask(&self, name: &str, password: &Secret<String>) -> Result<Verdict, Problem> {
        let answered = tokio::time::timeout(self.deadline, self.talk(name, password)).await;
        answered.unwrap_or(Err(Failure::Deadline(self.deadline))).map_err(|failure| {
            tracing::warn!(error = %Chain(&failure), url = %self.url, "a login could not be judged");
            unreachable()
        })
    }
}

impl Talk {
    /// Checks what can be checked without the server.
    pub(super) fn open(config: &LdapConfig) -> Result<Self, Problem> {
        config.check()?;
        let url = config.server()?;
        let talk = Self {
            url,
            groups: config.groups.mapping(),
            deadline: Duration::from_secs(config.timeout_seconds.get()),
            turns: Semaphore::new(AT_ONCE),
            config: config.clone(),
        };
        // The file may change later; that it is one now is known before anybody logs in.
        talk.settings().map_err(|failure| {
            let said = format!("[ldap] ca: {}", Chain(&failure));
            Problem::new(vmmgr_common::error::ErrorCode::InvalidValue, said)
        })?;
        Ok(talk)
    }

    fn settings(&self) -> Result<LdapConnSettings, Failure> {
        let settings = LdapConnSettings::new();
        match self.config.ca.as_deref().filter(|_| self.config.encrypts(&self.url)) {
            None => Ok(settings),
            Some(ca) => {
                let trust = mtls::trusting(ca).map_err(Failure::Tls)?;
                Ok(settings.set_config(Arc::new(trust)).set_starttls(self.config.start_tls))
            }
        }
    }

    async fn connect(&self) -> Result<Ldap, Failure> {
        let opened = LdapConnAsync::from_url_with_settings(self.settings()?, &self.url).await;
        let (connection, handle) = opened.map_err(ldap("connect"))?;
        // It ends with the last handle, or when the server closes it.
        tokio::spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!(%error, "a connection to the directory ended");
            }
        });
        Ok(handle)
    }

    async fn talk(&self, name: &str, password: &Secret<String>) -> Result<Verdict, Failure> {
        let _turn = self.turns.acquire().await.map_err(|_| Failure::Closed)?;
        let found = match (&self.config.bind_dn, &self.config.search) {
            (Some(pattern), _) => {
                let dn = names::distinguished(pattern, name);
                Some((self.connect().await?, dn))
            }
            (None, Some(search)) => self.find(search, name).await?,
            (None, None) => None,
        };
        let Some((mut asker, dn)) = found else { return Ok(Verdict::Refused) };
        let proven = if self.config.search.is_some() {
            let mut own = self.connect().await?;
            let proven = bind(&mut own, &dn, password).await?;
            leave(own).await;
            proven
        } else {
            bind(&mut asker, &dn, password).await?
        };
        let verdict = if proven {
            let role = self.role(&mut asker, &dn, name).await?;
            role.map_or(Verdict::NoRole, Verdict::Person)
        } else {
            Verdict::Refused
        };
        leave(asker).await;
        Ok(verdict)
    }

    /// A connection of the service account, and the DN of the one person of that name.
    async fn find(
        &self,
        search: &SearchConfig,
        name: &str,
    ) -> Result<Option<(Ldap, String)>, Failure> {
        let secret = search.password().map_err(Failure::Service)?;
        let mut service = self.connect().await?;
        if !bind(&mut service, &search.bind_dn, &secret).await? {
            return Err(Failure::ServiceRefused);
        }
        let filter = names::filter(&search.attribute, name, &search.filter);
        let attributes = [search.attribute.as_str()];
        let found = service
            .with_search_options(SearchOptions::new().sizelimit(2))
            .search(&search.base, Scope::Subtree, &filter, attributes)
            .await
            .map_err(ldap("search"))?;
        if ![code::SUCCESS, code::SIZE_LIMIT_EXCEEDED].contains(&found.1.rc) {
            return Err(answered("a search", found.1.rc, found.1.text));
        }
        // Referrals to other servers are not followed.
        let entries = found.0.into_iter().filter(|entry| !entry.is_ref());
        let people: Vec<SearchEntry> = entries.map(SearchEntry::construct).collect();
        let [person] = people.as_slice() else {
            if people.len() > 1 {
                tracing::warn!(user = name, "several people of that name are in the directory");
            }
            leave(service).await;
            return Ok(None);
        };
        // Somebody with two names would be two accounts, and one of them not on a list.
        let named = |(key, values): (&String, &Vec<String>)| {
            key.eq_ignore_ascii_case(&search.attribute)
                && matches!(values.as_slice(), [only] if only.eq_ignore_ascii_case(name))
        };
        if person.dn.is_empty() || !person.attrs.iter().any(named) {
            tracing::warn!(user = name, dn = person.dn, "not the person's one and only login name");
            leave(service).await;
            return Ok(None);
        }
        Ok(Some((service, person.dn.clone())))
    }

    /// The greatest role of the groups that have the person as a member; the server compares.
    async fn role(&self, asker: &mut Ldap, dn: &str, name: &str) -> Result<Option<Role>, Failure> {
        let attribute = &self.config.groups.attribute;
        let member = if self.config.groups.by_dn() { dn } else { name };
        for (role, group) in &self.groups {
            let told = asker.compare(group, attribute, member).await.map_err(ldap("compare"))?.0;
            match told.rc {
                code::COMPARE_TRUE => return Ok(Some(*role)),
                code::COMPARE_FALSE | code::NO_SUCH_ATTRIBUTE => {}
                code::NO_SUCH_OBJECT | code::INSUFFICIENT_ACCESS_RIGHTS => {
                    tracing::warn!(
                        group,
                        code = told.rc,
                        "the group is not there, or may not be read"
                    );
                }
                other => return Err(answered("a comparison", other, told.text)),
            }
        }
        Ok(None)
    }
}

fn answered(what: &'static str, code: u32, text: String) -> Failure {
    Failure::Code { what, code, text }
}

/// True if the password is that of `dn`; the connection is then that person's.
async fn bind(ldap_: &mut Ldap, dn: &str, password: &Secret<String>) -> Result<bool, Failure> {
    // Without a password, or without a name, a bind succeeds as nobody.
    if dn.is_empty() || password.expose().is_empty() {
        return Ok(false);
    }
    let told = ldap_.simple_bind(dn, password.expose()).await.map_err(ldap("bind"))?;
    match told.rc {
        code::SUCCESS => Ok(true),
        code::CONSTRAINT_VIOLATION
        | code::NO_SUCH_OBJECT
        | code::INVALID_DN_SYNTAX
        | code::INAPPROPRIATE_AUTHENTICATION
        | code::INVALID_CREDENTIALS
        | code::INSUFFICIENT_ACCESS_RIGHTS
        | code::UNWILLING_TO_PERFORM => Ok(false),
        other => Err(answered("a bind", other, told.text)),
    }
}

/// Says so; that the server is gone already does no harm.
async fn leave(mut handle: Ldap) {
    if let Err(error) = handle.unbind().await {
        tracing::debug!(%error, "the directory was gone before the end");
    }
}
