//! Who a name and a password are: an account of vmmgr's own, or a person of the directory.
//!
//! A person of the directory gets an account at the first login: it has no password, and the role
//! that the groups gave at the newest login. What works with accounts works with it (sessions, named
//! tokens, the audit log, `disabled`), as long as the person logs in now and then.

use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

use super::App;
use crate::auth::Role;
use crate::auth::password::{self, Source, User, refused};
use crate::directory::{Directory, Verdict};

/// How old the note of the newest login may be, seconds: not every login is a write.
const NOTE_EVERY: u64 = 3600;

impl App {
    /// The account; the same failure for every reason, and with a directory not before its time.
    pub(crate) async fn log_in(
        &self,
        username: &str,
        password: Secret<String>,
    ) -> Result<User, Problem> {
        let start = tokio::time::Instant::now();
        let told = self.who(username, password).await;
        let refused = told.as_ref().is_err_and(|error| error.code == ErrorCode::Unauthenticated);
        if let Some(directory) = self.directory.as_deref().filter(|_| refused) {
            tokio::time::sleep_until(start + directory.refusal()).await;
        }
        told
    }

    async fn who(&self, username: &str, password: Secret<String>) -> Result<User, Problem> {
        let known = password::find(self.store.as_ref(), username).await?;
        let own = known.is_some_and(|user| user.source == Source::Local);
        if let (false, Some(directory)) = (own, self.directory.as_deref()) {
            return self.person(directory, username, &password).await;
        }
        let user = password::verify(self.store.as_ref(), username, password).await?;
        // An account that was made beside this process is known from here on.
        self.accounts.learn(&user);
        Ok(user)
    }

    async fn person(
        &self,
        directory: &Directory,
        username: &str,
        password: &Secret<String>,
    ) -> Result<User, Problem> {
        let name = directory.account(username).ok_or_else(refused)?;
        let known = password::find(self.store.as_ref(), &name).await?;
        if known.as_ref().is_some_and(|user| user.disabled || user.source == Source::Local) {
            return Err(refused());
        }
        match directory.ask(&name, password).await? {
            Verdict::Refused => Err(refused()),
            Verdict::NoRole => {
                tracing::warn!(user = name, "in none of the groups of [ldap.groups]");
                self.lost_role(&name).await?;
                Err(refused())
            }
            Verdict::Person(role) => self.admit(&name, role).await,
        }
    }

    /// The account of a person with this role. With another role the sessions and tokens of before
    /// end; they say the old one.
    async fn admit(&self, name: &str, role: Role) -> Result<User, Problem> {
        let _turn = self.accounts.turn().await;
        let now = jsonwebtoken::get_current_timestamp();
        let store = self.store.as_ref();
        let (user, write) = match password::find(store, name).await? {
            None => (User::of_directory(name, role, now), true),
            // Things may have changed while the directory thought.
            Some(known) if known.disabled || known.source == Source::Local => return Err(refused()),
            Some(known) if known.role != role => {
                (User { role, seen: now, ..known }.renewed(), true)
            }
            Some(known) => {
                let write = now.saturating_sub(known.seen) >= NOTE_EVERY;
                (if write { User { seen: now, ..known } } else { known }, write)
            }
        };
        if write {
            self.keep(&user).await?;
        } else {
            self.accounts.learn(&user);
        }
        Ok(user)
    }

    /// The person is real and may do nothing any more: what the account had opened ends.
    async fn lost_role(&self, name: &str) -> Result<(), Problem> {
        let _turn = self.accounts.turn().await;
        match password::find(self.store.as_ref(), name).await? {
            Some(known) if known.source == Source::Directory => {
                self.keep(&User { seen: 0, ..known }.renewed()).await
            }
            _ => Ok(()),
        }
    }
}
