//! Named tokens for scripts: made by an account, worth at most what it is worth, until their end.
//!
//! The store has a digest, not the token. All are in memory as well: a request asks no store.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;
use vmmgr_common::text::check_line;

use super::App;
use crate::auth::{Identity, Role};
use crate::store::{Store, Table, from_text, to_text};

/// What every token begins with, so that people and secret scanners know it.
pub(crate) const PREFIX: &str = "vmmgr_";
/// Longest life, seconds.
const LONGEST: u64 = 366 * 24 * 3600;
/// Tokens of one account.
const MOST: usize = 100;

/// A token as the store has it, by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ApiToken {
    /// Names it; not secret.
    pub(crate) id: Uuid,
    /// Account that made it.
    pub(crate) user: String,
    /// For people.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Role,
    /// RFC 3339, UTC.
    pub(crate) created: String,
    /// When it ends, seconds since 1970.
    pub(crate) expires: u64,
    /// Generation of the account: with its password or role, or the account, its tokens end.
    generation: u32,
}

/// A token as it is listed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiTokenView {
    /// Names it; not secret.
    id: Uuid,
    /// Account that made it.
    user: String,
    /// For people.
    name: String,
    /// What it may do.
    role: Role,
    /// RFC 3339, UTC.
    created: String,
    /// When it ends, seconds since 1970.
    expires: u64,
}

impl From<ApiToken> for ApiTokenView {
    fn from(token: ApiToken) -> Self {
        let ApiToken { id, user, name, role, created, expires, generation: _ } = token;
        Self { id, user, name, role, created, expires }
    }
}

/// What a token is to be.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiTokenWish {
    /// For people, a line.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// The account's own when absent.
    role: Option<Role>,
    /// Life, seconds; 90 days when absent, 366 at most.
    #[serde(default = "ninety_days")]
    #[schema(minimum = 1, maximum = 31622400)]
    expires_in_seconds: u64,
}

const fn ninety_days() -> u64 {
    90 * 24 * 3600
}

/// All tokens, by digest.
#[derive(Default)]
pub(crate) struct ApiTokens(RwLock<HashMap<String, ApiToken>>);

fn digest(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token))
}

impl ApiTokens {
    /// As the records have them.
    pub(crate) async fn read(&self, store: &dyn Store) -> Result<(), Problem> {
        let mut all = HashMap::new();
        for (digest, text) in store.list(Table::ApiTokens).await? {
            all.insert(digest, from_text(&text)?);
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
        Ok(())
    }

    /// Who a token that has not ended at `now`, seconds since 1970, speaks for.
    pub(crate) fn identity(&self, token: &str, now: u64) -> Result<Identity, Problem> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known =
            all.get(&digest(token)).filter(|known| now < known.expires).ok_or_else(|| {
                Problem::new(
                    ErrorCode::Unauthenticated,
                    "the token is unknown, revoked or has ended",
                )
                .hint("`vmmctl token list` shows which there are")
            })?;
        Ok(Identity {
            user: known.user.clone(),
            role: known.role,
            token: known.id.to_string(),
            generation: known.generation,
            until: known.expires,
            refreshes: None,
        })
    }

    fn find(&self, fits: impl Fn(&ApiToken) -> bool) -> Vec<(String, ApiToken)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(_, token)| fits(token)).map(|(d, t)| (d.clone(), t.clone())).collect()
    }

    fn has(&self, id: &str) -> bool {
        !self.find(|token| token.id.to_string() == id).is_empty()
    }
}

impl App {
    /// A new token of the caller; shown this one time.
    pub(crate) async fn create_api_token(
        &self,
        who: &Identity,
        wish: ApiTokenWish,
        now: u64,
    ) -> Result<(Secret<String>, ApiTokenView), Problem> {
        let refuse = |said: String| Err(Problem::new(ErrorCode::InvalidValue, said));
        if self.api_tokens.has(&who.token) {
            // One that was stolen must not outlive its end.
            return Err(Problem::new(ErrorCode::Forbidden, "a token makes no further tokens")
                .hint("log in (`vmmctl login`) and make it with that session"));
        }
        check_line("name", &wish.name, 100)?;
        if wish.name.is_empty() {
            return refuse("name: may not be empty".into());
        }
        let role = wish.role.unwrap_or(who.role);
        if role > who.role {
            return refuse("role: above the account's own".into());
        }
        if !(1..=LONGEST).contains(&wish.expires_in_seconds) {
            return refuse(format!("expires_in_seconds: 1 to {LONGEST}"));
        }
        if self.api_tokens.find(|token| token.user == who.user).len() >= MOST {
            return Err(Problem::new(
                ErrorCode::WrongState,
                format!("`{}` has {MOST} tokens", who.user),
            )
            .hint("revoke some first"));
        }
        let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let secret = format!("{PREFIX}{secret}");
        let token = ApiToken {
            id: Uuid::new_v4(),
            user: who.user.clone(),
            name: wish.name,
            role,
            created: super::operations::now(),
            expires: now.saturating_add(wish.expires_in_seconds),
            generation: who.generation,
        };
        let digest = digest(&secret);
        self.store.put(Table::ApiTokens, &digest, &to_text(&token)?).await?;
        let mut all = self.api_tokens.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(digest, token.clone());
        Ok((Secret::new(secret), token.into()))
    }

    /// Tokens that are still good: the caller's own, all for an admin.
    pub(crate) fn list_api_tokens(&self, who: &Identity, now: u64) -> Vec<ApiTokenView> {
        let shown = |token: &ApiToken| {
            (token.user == who.user || who.role == Role::Admin)
                && now < token.expires
                && self.accounts.has(&token.user, token.generation)
        };
        let mut all: Vec<ApiTokenView> =
            self.api_tokens.find(shown).into_iter().map(|(_, token)| token.into()).collect();
        all.sort_by(|a, b| (&a.user, &a.created, a.id).cmp(&(&b.user, &b.created, b.id)));
        all
    }

    /// Ends a token of the caller's own, or of anybody for an admin.
    pub(crate) async fn revoke_api_token(&self, who: &Identity, id: &str) -> Result<(), Problem> {
        let theirs = |token: &ApiToken| {
            token.id.to_string() == id && (token.user == who.user || who.role == Role::Admin)
        };
        let Some((digest, token)) = self.api_tokens.find(theirs).pop() else {
            return Err(Problem::new(ErrorCode::NoSuchRecord, "no such token"));
        };
        // Consoles that were opened with it end as those of a session do.
        self.revoke(id, token.expires).await?;
        self.store.delete(Table::ApiTokens, &digest).await?;
        self.api_tokens.0.write().unwrap_or_else(PoisonError::into_inner).remove(&digest);
        Ok(())
    }

    /// Forgets tokens that have ended, by themselves or with their account.
    pub(super) async fn prune_api_tokens(&self, now: u64) -> Result<(), Problem> {
        let over = |token: &ApiToken| {
            token.expires < now || !self.accounts.has(&token.user, token.generation)
        };
        for (digest, _) in self.api_tokens.find(over) {
            self.store.delete(Table::ApiTokens, &digest).await?;
            self.api_tokens.0.write().unwrap_or_else(PoisonError::into_inner).remove(&digest);
        }
        Ok(())
    }
}
