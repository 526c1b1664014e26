//! argon2id off the request threads, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

/// Each hash takes 19 MiB and some 20 ms of a core; more at once would starve the API.
const AT_ONCE: usize = 2;
/// Longest wait for a turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer input is refused before it is hashed.
const LONGEST_PASSWORD: usize = 1024;

/// Why hashing failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// Parameters.
    #[error("argon2 refused its parameters")]
    Parameters(argon2::Error),
    /// Hash or its text form.
    #[error("argon2 failed: {0}")]
    Hash(argon2::password_hash::Error),
}

/// Hashes and verifies.
pub(crate) struct Hasher {
    argon2: Argon2<'static>,
    turns: Arc<Semaphore>,
    /// What an unknown user's password is compared with.
    decoy: Secret<String>,
}

impl Hasher {
    pub(crate) fn new() -> Result<Self, PasswordError> {
        // OWASP's second choice: 19 MiB, two passes, one lane.
        let params = Params::new(19 * 1024, 2, 1, None).map_err(PasswordError::Parameters)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy = hash(&argon2, &uuid::Uuid::new_v4().to_string())?;
        Ok(Self { argon2, turns: Arc::new(Semaphore::new(AT_ONCE)), decoy: Secret::new(decoy) })
    }

    /// The PHC string of a password.
    pub(crate) async fn hash(&self, password: &str) -> Result<Secret<String>, Problem> {
        if !(10..=LONGEST_PASSWORD).contains(&password.len()) {
            return Err(Problem::new(
                ErrorCode::InvalidValue,
                format!("password: expected 10 to {LONGEST_PASSWORD} bytes"),
            ));
        }
        let (argon2, password) = (self.argon2.clone(), Secret::new(password.to_owned()));
        let hash = self.turn(move || hash(&argon2, password.expose())).await?;
        hash.map(Secret::new).map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))
    }

    /// Whether the password fits; without a hash, as long as with one, and false.
    pub(crate) async fn verify(
        &self,
        hash: Option<Secret<String>>,
        password: &str,
    ) -> Result<bool, Problem> {
        if password.len() > LONGEST_PASSWORD {
            return Ok(false);
        }
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let (argon2, password) = (self.argon2.clone(), Secret::new(password.to_owned()));
        let fits = self
            .turn(move || {
                PasswordHash::new(hash.expose()).is_ok_and(|parsed| {
                    argon2.verify_password(password.expose().as_bytes(), &parsed).is_ok()
                })
            })
            .await?;
        Ok(fits && known)
    }

    async fn turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Problem::new(ErrorCode::RateLimited, "too many logins at once"));
        };
        // The turn ends with the work, also when the caller has gone.
        let work = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        work.await.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))
    }
}

fn hash(argon2: &Argon2<'_>, password: &str) -> Result<String, PasswordError> {
    let hash = argon2.hash_password(password.as_bytes()).map_err(PasswordError::Hash)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_argon2id_and_fits_its_password_only() {
        let hasher = Hasher::new().unwrap();
        let hash = hasher.hash("correct horse").await.unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(hasher.verify(Some(hash.clone()), "correct horse").await.unwrap());
        assert!(!hasher.verify(Some(hash), "correct hors").await.unwrap());
        assert!(!hasher.verify(None, "correct horse").await.unwrap());
        assert!(hasher.hash("short").await.is_err());
    }
}
