//! Session tokens: JWT, HS256 and nothing else. One gateway signs and verifies, so a shared key
//! of 256 random bits is enough, and no public key can be mistaken for it.

use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use vmmgr_common::error::{ErrorCode, Problem};

use crate::config::SessionConfig;

/// Clocks may differ by this much.
pub(super) const LEEWAY_SECONDS: i64 = 30;
/// Verified tokens kept in memory.
const CACHED: usize = 4096;
/// Ours are some 300 bytes.
const LONGEST: usize = 2048;

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The file.
    #[error("cannot use {0}")]
    File(PathBuf, #[source] std::io::Error),
    /// What is in it.
    #[error("{0} does not hold 32 bytes; remove it to get a new key")]
    Length(PathBuf),
}

/// What a token says; all of it is required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    /// Account.
    pub(crate) sub: String,
    pub(crate) exp: i64,
    pub(crate) nbf: i64,
    pub(crate) iat: i64,
    /// Names this token, for logout.
    pub(crate) jti: String,
}

/// A fresh session.
pub(crate) struct Session {
    /// The token.
    pub(crate) token: String,
    /// Its life, seconds.
    pub(crate) expires_in: i64,
}

/// Signs and verifies.
pub(crate) struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    config: SessionConfig,
    /// By digest, so that the cache holds nothing that opens a session.
    seen: Mutex<HashMap<[u8; 32], Claims>>,
}

impl Tokens {
    /// Reads the key, or makes one (0600).
    pub(super) fn open(config: &SessionConfig, path: &Path) -> Result<Self, KeyError> {
        let key = read_or_make(path)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS.unsigned_abs();
        Ok(Self {
            signing: EncodingKey::from_secret(&key),
            verifying: DecodingKey::from_secret(&key),
            validation,
            config: config.clone(),
            seen: Mutex::default(),
        })
    }

    /// A token for `user`, from now.
    pub(super) fn mint(&self, user: &str) -> Result<Session, Problem> {
        let now = chrono::Utc::now().timestamp();
        let expires_in = i64::from(self.config.lifetime_seconds);
        let claims = Claims {
            iss: self.config.issuer.clone(),
            aud: self.config.audience.clone(),
            sub: user.to_owned(),
            exp: now + expires_in,
            nbf: now,
            iat: now,
            jti: uuid::Uuid::new_v4().to_string(),
        };
        Ok(Session { token: self.sign(&claims)?, expires_in })
    }

    /// Signs any claims.
    pub(crate) fn sign<T: Serialize>(&self, claims: &T) -> Result<String, Problem> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.signing)
            .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))
    }

    /// The claims of a valid token.
    pub(super) fn verify(&self, token: &str) -> Option<Claims> {
        if token.len() > LONGEST {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let now = chrono::Utc::now().timestamp();
        if let Some(claims) = self.cached(&digest) {
            return (claims.exp + LEEWAY_SECONDS > now).then_some(claims);
        }
        let claims =
            jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation).ok()?.claims;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= CACHED {
            seen.clear();
        }
        seen.insert(digest, claims.clone());
        Some(claims)
    }

    fn cached(&self, digest: &[u8; 32]) -> Option<Claims> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }
}

fn read_or_make(path: &Path) -> Result<[u8; 32], KeyError> {
    let refuse = |error| KeyError::File(path.to_owned(), error);
    match fs_err::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|_| KeyError::Length(path.to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key: [u8; 32] = rand::random();
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .map_err(refuse)?;
            std::io::Write::write_all(&mut file, &key).map_err(refuse)?;
            file.sync_all().map_err(refuse)?;
            Ok(key)
        }
        Err(error) => Err(refuse(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    fn tokens() -> (tempfile::TempDir, Tokens) {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&SessionConfig::default(), &dir.path().join("k")).unwrap();
        (dir, tokens)
    }

    fn claims() -> Value {
        let now = chrono::Utc::now().timestamp();
        json!({ "iss": "vmmgr", "aud": "vmmgr-api", "sub": "ada", "exp": now + 60, "nbf": now,
                "iat": now, "jti": "j" })
    }

    #[test]
    fn a_minted_token_verifies_also_after_a_restart() {
        let (dir, tokens) = tokens();
        let session = tokens.mint("ada").unwrap();
        assert_eq!(tokens.verify(&session.token).unwrap().sub, "ada");
        let again = Tokens::open(&SessionConfig::default(), &dir.path().join("k")).unwrap();
        assert!(again.verify(&session.token).is_some());
    }

    #[test]
    fn every_claim_is_required_and_checked() {
        let (_dir, tokens) = tokens();
        assert!(tokens.verify(&tokens.sign(&claims()).unwrap()).is_some());
        for name in ["iss", "aud", "sub", "exp", "nbf", "iat", "jti"] {
            let mut lacking = claims();
            lacking.as_object_mut().unwrap().remove(name);
            assert!(tokens.verify(&tokens.sign(&lacking).unwrap()).is_none(), "without {name}");
        }
        let now = chrono::Utc::now().timestamp();
        for (name, value) in [
            ("iss", json!("other")),
            ("aud", json!("other")),
            ("exp", json!(now - 31)),
            ("nbf", json!(now + 60)),
            ("role", json!("admin")),
        ] {
            let mut wrong = claims();
            wrong[name] = value;
            assert!(tokens.verify(&tokens.sign(&wrong).unwrap()).is_none(), "{name}");
        }
    }

    #[test]
    fn only_our_key_and_our_algorithm_count() {
        let ((_one, ours), (_two, theirs)) = (tokens(), tokens());
        assert!(ours.verify(&theirs.sign(&claims()).unwrap()).is_none());
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let none = format!("{}.{}.", part(&json!({"alg":"none","typ":"JWT"})), part(&claims()));
        assert!(ours.verify(&none).is_none());
        let other = Header::new(Algorithm::HS512);
        let token = jsonwebtoken::encode(&other, &claims(), &ours.signing).unwrap();
        assert!(ours.verify(&token).is_none());
    }

    #[test]
    fn a_cached_token_expires_all_the_same() {
        let (_dir, tokens) = tokens();
        let mut old: Claims = serde_json::from_value(claims()).unwrap();
        let token = tokens.sign(&old).unwrap();
        assert!(tokens.verify(&token).is_some());
        old.exp = chrono::Utc::now().timestamp() - 60;
        let digest: [u8; 32] = Sha256::digest(&token).into();
        tokens.seen.lock().unwrap().insert(digest, old);
        assert!(tokens.verify(&token).is_none());
    }
}
