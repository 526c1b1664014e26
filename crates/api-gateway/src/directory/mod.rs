//! People of an LDAP directory: whether name and password belong together there, and with which role.
//!
//! Knows nothing of accounts and sessions; [`crate::app::login`] makes an account of what is told
//! here. A name reaches the directory only when `[ldap]` lets it in, in lower case, escaped.

mod config;
mod names;
mod talk;
#[cfg(test)]
mod talk_tests;

use std::time::Duration;

use async_trait::async_trait;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

pub(crate) use self::config::LdapConfig;
use self::names::Names;
use self::talk::Talk;
use crate::auth::Role;

/// No refusal is told earlier than this after the question: a name that is not there, one that is
/// blocked and a wrong password take the same time.
const REFUSAL: Duration = Duration::from_secs(1);
/// Longest password that is sent on, bytes.
const LONGEST_PASSWORD: usize = 1024;
const DAY_SECONDS: u64 = 24 * 3600;

/// What the directory says of a name and a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They do not belong together, or nobody has that name.
    Refused,
    /// They do, and the person is in none of the groups.
    NoRole,
    /// They do; the greatest role of the person's groups.
    Person(Role),
}

/// Somebody who can be asked.
#[async_trait]
pub(crate) trait Ask: Send + Sync + 'static {
    /// `name` is plain and lower-case, `password` is not empty.
    async fn ask(&self, name: &str, password: &Secret<String>) -> Result<Verdict, Problem>;
}

/// The directory and who of it is let in.
pub(crate) struct Directory {
    names: Names,
    trust_seconds: u64,
    refusal: Duration,
    people: Box<dyn Ask>,
}

impl Directory {
    /// As `[ldap]` says; nobody is asked yet. What is wrong in it is refused, with its key.
    pub(crate) fn open(config: &LdapConfig) -> Result<Self, Problem> {
        let talk = Talk::open(config)?;
        let names = Names::new(&config.allow, &config.block)?;
        Ok(Self {
            names,
            trust_seconds: u64::from(config.trust_days.get()) * DAY_SECONDS,
            refusal: REFUSAL,
            people: Box::new(talk),
        })
    }

    /// One that others answer for.
    #[cfg(test)]
    pub(crate) fn faked(people: impl Ask, block: &[&str]) -> Self {
        let block: Vec<String> = block.iter().map(|name| (*name).to_owned()).collect();
        let names = Names::new(&[], &block).unwrap();
        let (trust_seconds, refusal) = (DAY_SECONDS, Duration::from_millis(300));
        Self { names, trust_seconds, refusal, people: Box::new(people) }
    }

    /// The name of the account of who calls himself `typed`; none if `[ldap]` keeps it out.
    pub(crate) fn account(&self, typed: &str) -> Option<String> {
        self.names.account(typed)
    }

    /// When a refusal may be told, after the question.
    pub(crate) const fn refusal(&self) -> Duration {
        self.refusal
    }

    /// Until when an account is good whose person was last seen at `seen`, seconds since 1970.
    pub(crate) fn trusts(&self, account: &str, seen: u64) -> u64 {
        match self.names.account(account) {
            Some(_) => seen.saturating_add(self.trust_seconds),
            None => 0,
        }
    }

    /// What the directory says; an error if it does not say anything.
    pub(crate) async fn ask(
        &self,
        account: &str,
        password: &Secret<String>,
    ) -> Result<Verdict, Problem> {
        // A bind with a name and no password succeeds at many servers, as nobody (RFC 4513, 5.1.2).
        let length = password.expose().len();
        if length == 0 || length > LONGEST_PASSWORD {
            return Ok(Verdict::Refused);
        }
        self.people.ask(account, password).await
    }
}

/// The directory does not do its part; its log line says why.
fn unreachable() -> Problem {
    Problem::new(ErrorCode::DirectoryUnreachable, "the directory of accounts cannot be asked")
        .hint("accounts of vmmgr's own can log in; look at the LDAP server that gateway.toml names")
}
