//! Who calls, and what they may do.
//!
//! ```text
//! POST /v1/session --throttle--> argon2id --> token (HS256, 1 h)
//! Authorization: Bearer --verify, revoked?, account still there?--> Caller<Policy>
//! operator certificate, direct connection -----------------------> Caller<Policy>
//! ```
//!
//! nginx is not a boundary: its certificate carries a request here and grants nothing.

mod accounts;
mod caller;
mod password;
mod policy;
mod throttle;
mod token;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use vmmgr_common::error::{ErrorCode, Problem};

use crate::config::SessionConfig;
use crate::store::{self, RevokedToken, Store, StoreError, User, UserRole};

pub(crate) use accounts::{NewUser, create_user, init_admin};
pub(crate) use caller::{Authenticated, Caller, Means, Origin};
pub(crate) use password::{Hasher, PasswordError};
pub(crate) use policy::{ManageRecords, ManageSystem, ManageVm, OwnSession, Policy, PowerVm, ReadFleet};
pub(crate) use token::{KeyError, Session, Tokens};

/// Accounts, sessions and what guards them.
pub(crate) struct Auth {
    store: Arc<dyn Store>,
    tokens: Tokens,
    hasher: Hasher,
    throttle: throttle::Throttle,
    users: RwLock<HashMap<String, UserRole>>,
    revoked: RwLock<HashMap<String, i64>>,
}

/// Why authentication could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    /// Records.
    #[error("cannot read the accounts")]
    Store(#[from] StoreError),
    /// Key file.
    #[error("cannot use the session key")]
    Key(#[from] KeyError),
    /// Hashing.
    #[error("cannot hash passwords")]
    Password(#[from] PasswordError),
}

impl Auth {
    /// Reads accounts and given-back tokens; makes the signing key below `state_dir` at first.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        config: &SessionConfig,
        state_dir: &Path,
    ) -> Result<Self, AuthError> {
        let tokens = Tokens::open(config, &state_dir.join("token.key"))?;
        let users: Vec<User> = store::all(&*store).await?;
        let revoked: Vec<RevokedToken> = store::all(&*store).await?;
        let now = chrono::Utc::now().timestamp();
        let (kept, gone): (Vec<_>, Vec<_>) =
            revoked.into_iter().partition(|token| token.exp + token::LEEWAY_SECONDS >= now);
        for token in gone {
            store.delete(<RevokedToken as store::Record>::KIND, &token.jti).await?;
        }
        Ok(Self {
            tokens,
            hasher: Hasher::new()?,
            throttle: throttle::Throttle::default(),
            users: RwLock::new(users.into_iter().map(|u| (u.name.to_string(), u.role)).collect()),
            revoked: RwLock::new(kept.into_iter().map(|t| (t.jti, t.exp)).collect()),
            store,
        })
    }

    /// Checks a password and opens a session. An unknown name costs as much as a wrong password
    /// and answers the same.
    pub(crate) async fn login(
        &self,
        name: &str,
        password: &str,
        from: &str,
    ) -> Result<(Session, UserRole), Problem> {
        let refuse = || Problem::new(ErrorCode::Unauthenticated, "wrong user name or password");
        let bucket = format!("{}\n{from}", name.chars().take(64).collect::<String>());
        if !self.throttle.take(&bucket) {
            return Err(Problem::new(
                ErrorCode::RateLimited,
                "too many attempts to log in; wait a few seconds",
            ));
        }
        // From the store: `init-admin` may have added it while the gateway runs.
        let user = store::one::<User>(&*self.store, name).await?;
        let hash = user.as_ref().map(|user| user.password.clone());
        let fits = self.hasher.verify(hash, password).await?;
        match user {
            Some(user) if fits => {
                self.throttle.give_back(&bucket);
                self.remember(&user);
                Ok((self.tokens.mint(user.name.as_str())?, user.role))
            }
            Some(_) | None => {
                tracing::warn!(user = %name.escape_debug(), from, "login refused");
                Err(refuse())
            }
        }
    }

    /// Who holds this token.
    pub(crate) fn verify(&self, token: &str) -> Result<Authenticated, Problem> {
        let refuse = |why| Err(Problem::new(ErrorCode::Unauthenticated, why));
        let Some(claims) = self.tokens.verify(token) else {
            return refuse("the token does not verify or has expired; log in again");
        };
        if self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains_key(&claims.jti) {
            return refuse("the session was ended; log in again");
        }
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let Some(role) = users.get(&claims.sub).copied() else {
            return refuse("the account does not exist any more");
        };
        Ok(Authenticated {
            name: claims.sub,
            role,
            means: Means::Token { jti: claims.jti, exp: claims.exp },
        })
    }

    /// Ends a session for good.
    pub(crate) async fn revoke(&self, jti: &str, exp: i64) -> Result<(), Problem> {
        let record = RevokedToken { jti: jti.to_owned(), exp };
        match store::add(&*self.store, &record).await {
            Err(problem) if problem.code != ErrorCode::AlreadyExists => return Err(problem),
            Ok(()) | Err(_) => {}
        }
        let now = chrono::Utc::now().timestamp();
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.retain(|_, exp| *exp + token::LEEWAY_SECONDS >= now);
        revoked.insert(record.jti, exp);
        Ok(())
    }

    /// The hasher, for new accounts.
    pub(crate) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// An account is there from now on.
    pub(crate) fn remember(&self, user: &User) {
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        users.insert(user.name.to_string(), user.role);
    }

    /// An account is gone; its sessions are worth nothing from now on.
    pub(crate) fn forget(&self, name: &str) {
        self.users.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The signer, for tests that forge.
    #[cfg(test)]
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }
}
