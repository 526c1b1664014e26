//! Tokens of a login: JWT, HS256 with a random 256-bit key of this gateway.
//!
//! The algorithm is pinned by us, never read from the token; every claim is required. One process
//! signs and verifies, so a shared key is enough and nothing can be confused with a public one.

use std::path::Path;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

use super::verified::Verified;
use super::{Identity, Role};
use crate::store::failed;

const ISSUER: &str = "vmmgr";
const AUDIENCE: &str = "vmmgr-api";
/// Clocks of several gateways differ by this much at most, seconds.
const LEEWAY: u64 = 30;

/// How often a session can be given a later end: with tokens of an hour it lasts a day.
pub(crate) const MOST_REFRESHES: u32 = 23;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    /// Issuer.
    iss: String,
    /// Audience.
    aud: String,
    /// Account.
    pub(crate) sub: String,
    /// Role at the time of the login.
    pub(crate) role: Role,
    /// Generation of the account then; see [`crate::app::users`].
    pub(crate) generation: u32,
    /// Seconds since 1970.
    iat: u64,
    /// Not before.
    nbf: u64,
    /// Not after.
    pub(crate) exp: u64,
    /// Name of the session, for revocation: a refreshed token has that of the one before.
    pub(crate) jti: String,
    /// How many tokens the session had before.
    #[serde(default)]
    pub(crate) count: u32,
}

/// Signs and verifies.
pub(crate) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    seconds: u64,
    verified: Verified,
}

impl Tokens {
    /// With the key in `dir`, made when it is not there.
    pub(crate) fn open(dir: &Path, seconds: u64) -> Result<Self, Problem> {
        Ok(Self::with_key(&super::key::open(dir, "token.key")?, seconds))
    }

    /// With a given key.
    pub(crate) fn with_key(key: &[u8], seconds: u64) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        let (encoding, decoding) = (EncodingKey::from_secret(key), DecodingKey::from_secret(key));
        Self { encoding, decoding, validation, seconds, verified: Verified::default() }
    }

    /// Life of a token, seconds.
    pub(crate) const fn seconds(&self) -> u64 {
        self.seconds
    }

    /// Longest that a session lasts after any of its tokens was given, seconds.
    pub(crate) const fn longest(&self) -> u64 {
        self.seconds.saturating_mul(MOST_REFRESHES as u64 + 1)
    }

    /// A token for an account: a new session.
    pub(crate) fn sign(
        &self,
        user: &str,
        role: Role,
        generation: u32,
    ) -> Result<Secret<String>, Problem> {
        let session = uuid::Uuid::new_v4().simple().to_string();
        self.sign_for(session, user, role, generation, 0)
    }

    /// A later end for the session of a caller, who was authenticated just now.
    pub(crate) fn refresh(&self, who: &Identity) -> Result<Secret<String>, Problem> {
        let Some(count) = who.refreshes else {
            return Err(Problem::new(ErrorCode::Forbidden, "a token makes no further tokens")
                .hint("log in (`vmmctl login`)"));
        };
        if count >= MOST_REFRESHES {
            let said = "the session was given a later end as often as can be";
            return Err(Problem::new(ErrorCode::Unauthenticated, said)
                .hint("log in again (`vmmctl login`)"));
        }
        self.sign_for(who.token.clone(), &who.user, who.role, who.generation, count + 1)
    }

    fn sign_for(
        &self,
        session: String,
        user: &str,
        role: Role,
        generation: u32,
        count: u32,
    ) -> Result<Secret<String>, Problem> {
        let now = jsonwebtoken::get_current_timestamp();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_owned(),
            role,
            generation,
            iat: now,
            nbf: now,
            exp: now + self.seconds,
            jti: session,
            count,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map(Secret::new)
            .map_err(failed)
    }

    /// What a token says, if it is ours and valid now.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, Problem> {
        let now = jsonwebtoken::get_current_timestamp();
        self.verified.claims(token, now, || self.judge(token))
    }

    fn judge(&self, token: &str) -> Result<Claims, Problem> {
        jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map(|data| data.claims)
            .map_err(|_| {
                Problem::new(ErrorCode::Unauthenticated, "the token is not valid or has expired")
                    .hint("log in again (`vmmctl login`)")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn forge(key: &[u8], algorithm: Algorithm, change: impl FnOnce(&mut Value)) -> String {
        let now = jsonwebtoken::get_current_timestamp();
        let mut claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "admin", "role": "admin",
            "generation": 0, "iat": now, "nbf": now, "exp": now + 60, "jti": "x"});
        change(&mut claims);
        let key = EncodingKey::from_secret(key);
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap()
    }

    #[test]
    fn only_our_own_valid_tokens_verify() {
        let key = [7; 32];
        let tokens = Tokens::with_key(&key, 60);
        let signed = tokens.sign("admin", Role::Admin, 0).unwrap();
        assert_eq!(tokens.verify(signed.expose()).unwrap().sub, "admin");
        assert!(tokens.verify(&forge(&key, Algorithm::HS256, |_| ())).is_ok());
        let now = jsonwebtoken::get_current_timestamp();
        let bad = [
            forge(&[8; 32], Algorithm::HS256, |_| ()),
            forge(&key, Algorithm::HS512, |_| ()),
            forge(&key, Algorithm::HS256, |c| c["exp"] = json!(now - 31)),
            forge(&key, Algorithm::HS256, |c| c["nbf"] = json!(now + 60)),
            forge(&key, Algorithm::HS256, |c| c["iss"] = json!("other")),
            forge(&key, Algorithm::HS256, |c| c["aud"] = json!("other")),
            forge(&key, Algorithm::HS256, |c| c["role"] = json!("root")),
            forge(&key, Algorithm::HS256, |c| c["tenant"] = json!("x")),
            "eyJhbGciOiJub25lIn0.e30.".to_owned(),
            String::new(),
        ];
        for token in bad {
            assert_eq!(tokens.verify(&token).expect_err(&token).status, 401);
        }
        for claim in ["iss", "aud", "sub", "role", "generation", "iat", "nbf", "exp", "jti"] {
            let token = forge(&key, Algorithm::HS256, |c| {
                c.as_object_mut().unwrap().remove(claim);
            });
            assert!(tokens.verify(&token).is_err(), "without {claim}");
        }
    }
}
