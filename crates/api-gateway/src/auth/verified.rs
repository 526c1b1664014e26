//! Tokens that were verified lately: a signature is checked once, the end of the token each time.
//!
//! Whether a token was revoked is not a matter of this memory: the caller asks that at each request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use vmmgr_common::error::Problem;

use super::token::Claims;

/// Tokens that are remembered; beyond, all are verified anew. About a megabyte.
const MOST: usize = 4096;

/// Claims by the SHA-256 of their token: the tokens themselves are not kept.
#[derive(Default)]
pub(super) struct Verified(Mutex<HashMap<[u8; 32], Claims>>);

impl Verified {
    /// What a token says: remembered if it has not ended at `now`, seconds since 1970; by `judge`
    /// otherwise. Refusals are not remembered.
    pub(super) fn claims(
        &self,
        token: &str,
        now: u64,
        judge: impl FnOnce() -> Result<Claims, Problem>,
    ) -> Result<Claims, Problem> {
        let key = Sha256::digest(token).into();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(claims) = known.filter(|claims| now < claims.exp) {
            return Ok(claims);
        }
        let claims = judge()?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(key, claims.clone());
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use vmmgr_common::error::ErrorCode;

    use super::*;
    use crate::auth::Role;
    use crate::auth::token::Tokens;

    #[test]
    fn a_token_is_judged_once_until_it_ends_and_a_bad_one_each_time() {
        let (verified, asked) = (Verified::default(), Cell::new(0));
        let tokens = Tokens::with_key(&[7; 32], 60);
        let signed = tokens.sign("admin", Role::Admin, 0).unwrap();
        let claims = tokens.verify(signed.expose()).unwrap();
        let ask = |token: &str, now| {
            verified.claims(token, now, || {
                asked.set(asked.get() + 1);
                Ok(claims.clone())
            })
        };
        for _ in 0..3 {
            assert_eq!(ask("t", claims.exp - 1).unwrap(), claims);
        }
        assert_eq!(asked.get(), 1);
        ask("t", claims.exp).unwrap();
        ask("another", 0).unwrap();
        assert_eq!(asked.get(), 3);
        let refuse = || Err(Problem::new(ErrorCode::Unauthenticated, "no"));
        assert!(verified.claims("bad", 0, refuse).is_err());
        assert!(verified.claims("bad", 0, refuse).is_err());
        assert!(verified.claims("t", claims.exp, refuse).is_err(), "an ended token is not known");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let verified = Verified::default();
        let tokens = Tokens::with_key(&[7; 32], 60);
        let claims = tokens.verify(tokens.sign("a", Role::Viewer, 0).unwrap().expose()).unwrap();
        for number in 0..3 * MOST {
            verified.claims(&number.to_string(), 0, || Ok(claims.clone())).unwrap();
            assert!(verified.0.lock().unwrap().len() <= MOST);
        }
    }
}
