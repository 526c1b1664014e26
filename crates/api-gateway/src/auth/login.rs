//! Logging in, and how often a name may try it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

use super::password::User;
use crate::app::App;
use crate::watch;

/// Tries at once.
const BURST: u32 = 10;
/// Then one more each.
const REFILL: Duration = Duration::from_secs(3);
/// Names that are remembered; beyond, the idle ones go.
const MOST_NAMES: usize = 10_000;

/// A bucket per name.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<HashMap<String, (u32, Instant)>>);

impl Attempts {
    /// Takes one try of `name` at `now`.
    pub(crate) fn take(&self, name: &str, now: Instant) -> Result<(), Problem> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MOST_NAMES {
            names.retain(|_, (_, since)| now.duration_since(*since) < REFILL * BURST);
        }
        let (used, since) = names.entry(name.to_owned()).or_insert((0, now));
        let refilled = now.duration_since(*since).as_secs() / REFILL.as_secs();
        if refilled > 0 {
            *used = used.saturating_sub(u32::try_from(refilled).unwrap_or(u32::MAX));
            *since = now;
        }
        if *used >= BURST {
            return Err(Problem::new(ErrorCode::RateLimited, "too many attempts to log in"));
        }
        *used += 1;
        Ok(())
    }
}

/// The account of a name and a password. Takes one of the name's attempts, and notes for the audit
/// log whose it is.
pub(crate) async fn enter(
    app: &App,
    request: &HttpRequest,
    username: &str,
    password: Secret<String>,
) -> Result<User, Problem> {
    // The bucket's key is cut: a long name must not fill the memory. A directory takes `Bob` for
    // `bob`: other spellings give no other attempts.
    let name: String = username.chars().take(64).collect();
    watch::is_of(request, name.as_str(), true);
    app.attempts.take(&name.to_lowercase(), Instant::now())?;
    let user = app.log_in(username, password).await?;
    tracing::info!(user = user.name, "logged in");
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_runs_out_of_tries_and_gets_them_back() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        for _ in 0..BURST {
            attempts.take("admin", start).unwrap();
        }
        assert_eq!(attempts.take("admin", start).unwrap_err().status, 429);
        attempts.take("other", start).unwrap();
        attempts.take("admin", start + REFILL).unwrap();
        assert!(attempts.take("admin", start + REFILL).is_err());
    }
}
