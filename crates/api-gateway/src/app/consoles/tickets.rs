//! Tickets and resume secrets, in the store: any gateway takes what another one gave, and a restart
//! forgets none. The store knows digests only.
//!
//! ```text
//!  secret   <chain, 36 characters><256 random bits, 43 characters of base64url>
//!  key      <chain>/t/<digest>  a ticket        <chain>/r/<digest>  a resume secret
//! ```
//!
//! Whoever deletes the record has used the secret up: the store lets one do that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use vmmgr_common::api::console::{ConsoleMode, TICKET_SECONDS};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::ConsoleSessionId;
use vmmgr_common::secret::Secret;

use super::registry::{Chain, refused};
use crate::store::{Store, Table, from_text, to_text};

/// Secrets that may be out at a time: callers who only ask must not fill the store.
const MOST: usize = 20_000;
/// Characters of a chain's id at the beginning of a secret.
const CHAIN_CHARS: usize = 36;
/// Records read at once.
const PAGE: usize = 200;

/// What a secret is worth.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Worth {
    chain: Chain,
    /// Run of the guest that a ticket is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    until: DateTime<Utc>,
}

/// All that are out.
pub(crate) struct Tickets {
    store: Arc<dyn Store>,
    most: usize,
    /// Out when they were last counted, and given by this gateway since.
    out: AtomicUsize,
}

fn key(chain: &str, kind: char, secret: &str) -> String {
    let digest = Sha256::digest(secret.as_bytes());
    format!("{chain}/{kind}/{}", URL_SAFE_NO_PAD.encode(digest))
}

/// The record that a secret would have.
fn key_of(kind: char, secret: &Secret<String>) -> Option<String> {
    let secret = secret.expose();
    let chain = secret.get(..CHAIN_CHARS)?;
    Some(key(chain, kind, secret))
}

impl Tickets {
    /// Those of a store.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, most: MOST, out: AtomicUsize::new(0) }
    }

    #[cfg(test)]
    pub(super) fn at_most(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    async fn give(
        &self,
        kind: char,
        worth: &Worth,
        now: DateTime<Utc>,
    ) -> Result<Secret<String>, Problem> {
        if self.out.load(Ordering::Relaxed) >= self.most {
            self.forget_old(now).await?;
        }
        if self.out.fetch_add(1, Ordering::Relaxed) >= self.most {
            return Err(Problem::new(ErrorCode::RateLimited, "too many console tickets are out"));
        }
        let chain = worth.chain.id.to_string();
        let random = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let secret = format!("{chain}{random}");
        let key = key(&chain, kind, &secret);
        self.store.put(Table::ConsoleTickets, &key, &to_text(worth)?).await?;
        Ok(Secret::new(secret))
    }

    async fn look(
        &self,
        kind: char,
        secret: &Secret<String>,
        now: DateTime<Utc>,
    ) -> Result<Option<(String, Worth)>, Problem> {
        let Some(key) = key_of(kind, secret) else { return Ok(None) };
        let Some(text) = self.store.get(Table::ConsoleTickets, &key).await? else {
            return Ok(None);
        };
        let worth: Worth = from_text(&text)?;
        Ok((worth.until > now).then_some((key, worth)))
    }

    /// A ticket of `chain` for `run`, and when it ends.
    pub(crate) async fn issue(
        &self,
        chain: Chain,
        run: String,
        now: DateTime<Utc>,
    ) -> Result<(Secret<String>, DateTime<Utc>), Problem> {
        let until = (now + TimeDelta::seconds(TICKET_SECONDS.cast_signed())).min(chain.ends());
        let worth = Worth { chain, run: Some(run), until };
        Ok((self.give('t', &worth, now).await?, until))
    }

    /// A secret that is worth the next ticket of `chain`. The others were ended by the first one
    /// that took over; a page that comes back does not do it again.
    pub(crate) async fn resume_secret(
        &self,
        chain: &Chain,
        now: DateTime<Utc>,
    ) -> Result<Secret<String>, Problem> {
        let mut chain = chain.clone();
        if chain.mode == ConsoleMode::TakeOver {
            chain.mode = ConsoleMode::Share;
        }
        let until = chain.ends();
        self.give('r', &Worth { chain, run: None, until }, now).await
    }

    /// Uses a ticket up.
    pub(crate) async fn use_ticket(
        &self,
        ticket: &Secret<String>,
        now: DateTime<Utc>,
    ) -> Result<(Chain, String), Problem> {
        let (key, worth) = self.look('t', ticket, now).await?.ok_or_else(refused)?;
        if !self.store.delete(Table::ConsoleTickets, &key).await? {
            return Err(refused());
        }
        Ok((worth.chain, worth.run.unwrap_or_default()))
    }

    /// The chain of a resume secret, which stays good.
    pub(crate) async fn look_up(
        &self,
        secret: &Secret<String>,
        now: DateTime<Utc>,
    ) -> Result<Option<Chain>, Problem> {
        Ok(self.look('r', secret, now).await?.map(|(_, worth)| worth.chain))
    }

    /// Uses a resume secret up; false if somebody else just did.
    pub(crate) async fn use_resume(&self, secret: &Secret<String>) -> Result<bool, Problem> {
        let Some(key) = key_of('r', secret) else { return Ok(false) };
        self.store.delete(Table::ConsoleTickets, &key).await
    }

    /// Makes all secrets of a chain worthless.
    pub(crate) async fn break_chain(&self, chain: ConsoleSessionId) -> Result<(), Problem> {
        let prefix = format!("{chain}/");
        loop {
            let page = self.store.page(Table::ConsoleTickets, &prefix, None, PAGE).await?;
            for (key, _) in &page {
                self.store.delete(Table::ConsoleTickets, key).await?;
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Forgets what is over, and counts what is out.
    pub(crate) async fn forget_old(&self, now: DateTime<Utc>) -> Result<(), Problem> {
        let mut out = 0;
        for (key, text) in self.store.list(Table::ConsoleTickets).await? {
            if from_text::<Worth>(&text).is_ok_and(|worth| worth.until > now) {
                out += 1;
            } else {
                self.store.delete(Table::ConsoleTickets, &key).await?;
            }
        }
        self.out.store(out, Ordering::Relaxed);
        Ok(())
    }
}
