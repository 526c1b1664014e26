//! Tenant links: their records, their uses and their end.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, VmId};

use super::App;
use crate::auth::link::{LegacyKey, LinkToken, LinkVerb, refused};
use crate::config::LinkConfig;
use crate::store::{Table, from_text, to_text};

/// Seconds after its end that a link is still told from one that never was.
const REMEMBERED: u64 = 90 * 24 * 3600;
/// Most uses that can be asked for; each takes a record.
const MOST_USES: u32 = 10_000;
/// Id of every link of the described system: none has a record.
const LEGACY: &str = "legacy";
/// Most links of one guest.
const MOST_LINKS: usize = 1000;

/// What makes and checks links.
pub(crate) struct Links {
    key: Vec<u8>,
    most_seconds: u64,
    legacy: Option<LegacyKey>,
}

impl Links {
    /// With the key in `dir`, made when it is not there.
    pub(crate) fn open(dir: &Path, config: &LinkConfig) -> Result<Self, Problem> {
        let legacy = config.legacy_key_file.as_deref().map(LegacyKey::open).transpose()?;
        if legacy.is_some() {
            tracing::warn!("links of the described system (MD5, not revocable) are accepted");
        }
        let key = crate::auth::key::open(dir, "link.key")?;
        Ok(Self { key, most_seconds: config.max_days.saturating_mul(86_400), legacy })
    }

    /// With given keys.
    #[cfg(test)]
    pub(crate) fn with_keys(legacy: Option<&str>) -> Self {
        let legacy = legacy.map(|key| LegacyKey::new(key).unwrap());
        Self { key: vec![3; 32], most_seconds: 90 * 86_400, legacy }
    }
}

/// A link as it is kept; the link itself is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkRecord {
    /// Its name, for people and for revoking it.
    pub(crate) id: String,
    /// Host.
    pub(crate) host: HostId,
    /// Guest.
    pub(crate) vm: VmId,
    /// What it allows.
    pub(crate) verbs: BTreeSet<LinkVerb>,
    /// For people.
    pub(crate) label: String,
    /// Seconds since 1970.
    pub(crate) expires: u64,
    /// How often it can change something or open a console; without end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uses: Option<u32>,
    /// Who made it.
    pub(crate) creator: String,
    /// RFC 3339, UTC.
    pub(crate) created: String,
}

/// A link as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LinkStatus {
    /// The record.
    #[serde(flatten)]
    pub(crate) record: LinkRecord,
    /// Uses so far, of a link that has a number of them.
    pub(crate) used: usize,
    /// Its time is over.
    pub(crate) expired: bool,
}

/// What a link is to be.
#[derive(Debug, Clone)]
pub(crate) struct LinkWish {
    /// What it allows; the usual when empty.
    pub(crate) verbs: BTreeSet<LinkVerb>,
    /// For people.
    pub(crate) label: String,
    /// Seconds since 1970.
    pub(crate) expires: u64,
    /// See [`LinkRecord::uses`].
    pub(crate) uses: Option<u32>,
}

fn refuse(field: &str, rule: impl std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("{field}: {rule}"))
}

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

impl App {
    /// Makes a link to a guest that exists. The link is shown here and never again.
    pub(crate) async fn create_link(
        &self,
        creator: &str,
        host: &HostId,
        vm: VmId,
        wish: LinkWish,
    ) -> Result<(LinkToken, LinkRecord), Problem> {
        let most = self.links.most_seconds;
        if wish.expires <= now() || wish.expires > now() + most {
            let days = most / 86_400;
            return Err(refuse("expires", format!("expected a time within {days} days from now")));
        }
        if wish.label.len() > 200 || wish.label.chars().any(char::is_control) {
            return Err(refuse("label", "up to 200 bytes, no control characters"));
        }
        if wish.uses.is_some_and(|uses| !(1..=MOST_USES).contains(&uses)) {
            return Err(refuse("uses", format!("expected 1 to {MOST_USES}")));
        }
        self.vm(host, vm).await?;
        if self.forget_old_links(host, vm).await? >= MOST_LINKS {
            return Err(Problem::new(
                ErrorCode::WrongState,
                format!("guest {vm} has {MOST_LINKS} links; revoke some"),
            ));
        }
        self.keep_link(creator, LinkToken::mint(host.clone(), vm, wish.expires), wish).await
    }

    /// Writes the record of a link.
    pub(crate) async fn keep_link(
        &self,
        creator: &str,
        token: LinkToken,
        wish: LinkWish,
    ) -> Result<(LinkToken, LinkRecord), Problem> {
        let digest = token.digest(&self.links.key);
        let usual = wish.verbs.is_empty();
        let record = LinkRecord {
            id: digest[..24].to_owned(),
            host: token.host.clone(),
            vm: token.vm,
            verbs: if usual { LinkVerb::USUAL.into_iter().collect() } else { wish.verbs },
            label: wish.label,
            expires: token.expires,
            uses: wish.uses,
            creator: creator.to_owned(),
            created: super::operations::now(),
        };
        self.store.put(Table::Links, &digest, &to_text(&record)?).await?;
        tracing::info!(link.id = record.id, vm.id = %record.vm, creator, "made a link");
        Ok((token, record))
    }

    /// The record behind a link: 403 without one, 410 when its time is over.
    pub(crate) async fn link(&self, token: &LinkToken) -> Result<LinkRecord, Problem> {
        let record = if token.is_legacy() {
            self.legacy_link(token)?
        } else {
            let digest = token.digest(&self.links.key);
            let text = self.store.get(Table::Links, &digest).await?;
            from_text(&text.ok_or_else(refused)?)?
        };
        if record.expires <= now() {
            return Err(Problem::new(ErrorCode::Gone, "the time of this link is over"));
        }
        Ok(record)
    }

    /// What the store knows a link by. An MD5 link has no record; its name is no digest.
    pub(crate) fn link_name(&self, token: &LinkToken) -> String {
        if token.is_legacy() { LEGACY.to_owned() } else { token.digest(&self.links.key) }
    }

    /// False once a link was revoked. Its time is not looked at; where the store does not answer,
    /// nothing is known, and what was allowed stays so.
    pub(crate) async fn link_is_kept(&self, name: &str) -> bool {
        if name == LEGACY {
            return self.links.legacy.is_some();
        }
        !matches!(self.store.get(Table::Links, name).await, Ok(None))
    }

    fn legacy_link(&self, token: &LinkToken) -> Result<LinkRecord, Problem> {
        let fits = self.links.legacy.as_ref().is_some_and(|key| key.fits(token));
        if !fits || token.expires > now() + self.links.most_seconds {
            return Err(refused());
        }
        Ok(LinkRecord {
            id: LEGACY.to_owned(),
            host: token.host.clone(),
            vm: token.vm,
            verbs: LinkVerb::USUAL.into_iter().collect(),
            label: String::new(),
            expires: token.expires,
            uses: None,
            creator: String::new(),
            created: String::new(),
        })
    }

    /// Takes one use. Each use is a record that can be written once, so that
    /// callers at the same time cannot share one.
    pub(crate) async fn use_link(&self, link: &LinkRecord) -> Result<(), Problem> {
        let Some(most) = link.uses else { return Ok(()) };
        for slot in self.link_uses(&link.id).await?.len()..most as usize {
            let key = format!("{}/{slot:05}", link.id);
            if self.store.insert(Table::LinkUses, &key, &super::operations::now()).await? {
                return Ok(());
            }
        }
        Err(Problem::new(ErrorCode::Gone, "this link was used as often as it can be"))
    }

    async fn link_uses(&self, id: &str) -> Result<Vec<String>, Problem> {
        let start = format!("{id}/");
        let all = self.store.list(Table::LinkUses).await?.into_iter().map(|(key, _)| key);
        Ok(all.filter(|key| key.starts_with(&start)).collect())
    }

    async fn links_of(
        &self,
        host: &HostId,
        vm: VmId,
    ) -> Result<Vec<(String, LinkRecord)>, Problem> {
        let mut found = Vec::new();
        for (digest, text) in self.store.list(Table::Links).await? {
            let record: LinkRecord = from_text(&text)?;
            if record.host == *host && record.vm == vm {
                found.push((digest, record));
            }
        }
        Ok(found)
    }

    async fn drop_link(&self, digest: &str, record: &LinkRecord) -> Result<(), Problem> {
        self.store.delete(Table::Links, digest).await?;
        for key in self.link_uses(&record.id).await? {
            self.store.delete(Table::LinkUses, &key).await?;
        }
        Ok(())
    }

    /// Drops the records of links that ended long ago; how many are left.
    async fn forget_old_links(&self, host: &HostId, vm: VmId) -> Result<usize, Problem> {
        let mut left = 0;
        for (digest, record) in self.links_of(host, vm).await? {
            if record.expires + REMEMBERED < now() {
                self.drop_link(&digest, &record).await?;
            } else {
                left += 1;
            }
        }
        Ok(left)
    }

    /// All links of a guest.
    pub(crate) async fn links(&self, host: &HostId, vm: VmId) -> Result<Vec<LinkStatus>, Problem> {
        let mut shown = Vec::new();
        for (_, record) in self.links_of(host, vm).await? {
            let used =
                if record.uses.is_some() { self.link_uses(&record.id).await?.len() } else { 0 };
            shown.push(LinkStatus { used, expired: record.expires <= now(), record });
        }
        shown.sort_by(|a, b| a.record.created.cmp(&b.record.created));
        Ok(shown)
    }

    /// Ends a link at once.
    pub(crate) async fn revoke_link(
        &self,
        host: &HostId,
        vm: VmId,
        id: &str,
    ) -> Result<(), Problem> {
        let all = self.links_of(host, vm).await?;
        let Some((digest, record)) = all.into_iter().find(|(_, record)| record.id == id) else {
            let shown = id.escape_debug();
            return Err(Problem::new(ErrorCode::NoSuchRecord, format!("no link `{shown}`")));
        };
        self.drop_link(&digest, &record).await
    }

    /// Ends all links of a guest that is gone.
    pub(super) async fn drop_links(&self, host: &HostId, vm: VmId) -> Result<(), Problem> {
        for (digest, record) in self.links_of(host, vm).await? {
            self.drop_link(&digest, &record).await?;
        }
        Ok(())
    }
}
