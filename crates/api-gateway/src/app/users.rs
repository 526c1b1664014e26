//! Accounts: who there is, with which role, and the end of their sessions when that changes.
//!
//! Every account has a generation, a random number that its tokens carry. A new password, another
//! role, a removal and `disabled` change it, so that all tokens from before are worth nothing at
//! once. Those of the directory's people are worth nothing as well when the directory has not been
//! asked for the person for long, or `[ldap]` keeps the person out by now.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::ResourceName;
use vmmgr_common::secret::Secret;

use super::App;
use crate::auth::Role;
use crate::auth::password::{self, Source, User};
use crate::directory::Directory;
use crate::store::{Store, Table, from_text, to_text};

/// Shortest password, characters (NIST SP 800-63B asks for 8 at least).
const SHORTEST_PASSWORD: usize = 10;
/// Longest, bytes: hashing must not be a burden that a caller chooses.
const LONGEST_PASSWORD: usize = 1024;

/// Generations of all accounts, in memory; changes of accounts go one after the other.
pub(crate) struct Accounts {
    generations: RwLock<HashMap<String, Standing>>,
    turn: tokio::sync::Mutex<()>,
    directory: Option<Arc<Directory>>,
}

/// What a token is judged by.
#[derive(Clone, Copy)]
struct Standing {
    generation: u32,
    /// Seconds since 1970.
    until: u64,
}

impl Accounts {
    /// Nobody yet.
    pub(crate) fn new(directory: Option<Arc<Directory>>) -> Self {
        Self { generations: RwLock::default(), turn: tokio::sync::Mutex::default(), directory }
    }

    /// One change of accounts at a time.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    fn standing(&self, user: &User) -> Standing {
        let until = match (user.source, &self.directory) {
            _ if user.disabled => 0,
            (Source::Local, _) => u64::MAX,
            (Source::Directory, None) => 0,
            (Source::Directory, Some(directory)) => directory.trusts(&user.name, user.seen),
        };
        Standing { generation: user.generation, until }
    }

    /// As the records have them.
    pub(crate) async fn read(&self, store: &dyn Store) -> Result<(), Problem> {
        let _turn = self.turn.lock().await;
        let mut read = HashMap::new();
        for (name, text) in store.list(Table::Users).await? {
            read.insert(name, self.standing(&from_text(&text)?));
        }
        *self.generations.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// How an account stands from now on.
    pub(crate) fn learn(&self, user: &User) {
        let mut known = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(user.name.clone(), self.standing(user));
    }

    /// An account without a record.
    #[cfg(test)]
    pub(crate) fn know(&self, name: &str, generation: u32) {
        let mut known = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), Standing { generation, until: u64::MAX });
    }

    fn forget(&self, name: &str) {
        self.generations.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// True for a token of this generation.
    pub(crate) fn has(&self, name: &str, generation: u32) -> bool {
        let now = jsonwebtoken::get_current_timestamp();
        let known = self.generations.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).is_some_and(|known| known.generation == generation && now < known.until)
    }
}

/// An account as it is shown.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct UserView {
    /// Login name.
    name: String,
    /// What it may do.
    role: Role,
    /// Who keeps the password.
    source: Source,
    /// Nobody logs in with it.
    disabled: bool,
}

impl From<&User> for UserView {
    fn from(user: &User) -> Self {
        let User { role, source, disabled, .. } = *user;
        Self { name: user.name.clone(), role, source, disabled }
    }
}

/// What can be changed of an account; absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserChange {
    /// What it may do.
    role: Option<Role>,
    /// 10 characters at least, 1024 bytes at most.
    #[schema(value_type = Option<String>, format = Password, min_length = 10, max_length = 1024)]
    password: Option<Secret<String>>,
    /// Whether nobody may log in with it.
    disabled: Option<bool>,
}

fn no_such(name: &str) -> Problem {
    Problem::new(ErrorCode::NoSuchRecord, format!("no account `{}`", name.escape_debug()))
}

fn acceptable(password: &Secret<String>) -> Result<(), Problem> {
    let text = password.expose();
    if text.chars().count() < SHORTEST_PASSWORD || text.len() > LONGEST_PASSWORD {
        return Err(Problem::new(
            ErrorCode::InvalidValue,
            format!(
                "password: {SHORTEST_PASSWORD} characters at least, {LONGEST_PASSWORD} bytes at most"
            ),
        ));
    }
    Ok(())
}

/// Refuses what the directory decides.
fn is_ours(user: &User, what: &str) -> Result<(), Problem> {
    if user.source == Source::Local {
        return Ok(());
    }
    let said = format!("the directory keeps the {what} of `{}`", user.name);
    Err(Problem::new(ErrorCode::WrongState, said)
        .hint("change it there; here the account can be disabled or removed"))
}

impl App {
    async fn user(&self, name: &str) -> Result<User, Problem> {
        let text = self.store.get(Table::Users, name).await?;
        from_text(&text.ok_or_else(|| no_such(name))?)
    }

    /// All accounts.
    pub(crate) async fn users(&self) -> Result<Vec<UserView>, Problem> {
        let mut users = Vec::new();
        for (_, text) in self.store.list(Table::Users).await? {
            users.push(UserView::from(&from_text::<User>(&text)?));
        }
        Ok(users)
    }

    /// Adds an account.
    pub(crate) async fn add_user(
        &self,
        name: &ResourceName,
        role: Role,
        password: Secret<String>,
    ) -> Result<UserView, Problem> {
        acceptable(&password)?;
        let user = User::new(name.as_str(), role, password).await?;
        let _turn = self.accounts.turn.lock().await;
        if !self.store.insert(Table::Users, name.as_str(), &to_text(&user)?).await? {
            return Err(Problem::new(ErrorCode::AlreadyExists, format!("account `{name}` exists")));
        }
        self.accounts.learn(&user);
        Ok(UserView::from(&user))
    }

    /// Changes role or password or disables, and ends the account's sessions.
    pub(crate) async fn change_user(
        &self,
        name: &str,
        change: UserChange,
    ) -> Result<UserView, Problem> {
        if let Some(password) = &change.password {
            acceptable(password)?;
        }
        let _turn = self.accounts.turn.lock().await;
        let known = self.user(name).await?;
        if change.role.is_some() {
            is_ours(&known, "role")?;
        }
        let role = change.role.unwrap_or(known.role);
        let disabled = change.disabled.unwrap_or(known.disabled);
        if role < Role::Admin || disabled {
            self.another_admin(&known).await?;
        }
        let user = match change.password {
            Some(password) => {
                is_ours(&known, "password")?;
                User { role, disabled, ..known }.with_password(password).await?
            }
            None => User { role, disabled, ..known }.renewed(),
        };
        self.keep(&user).await?;
        Ok(UserView::from(&user))
    }

    /// Removes an account, and ends its sessions.
    pub(crate) async fn remove_user(&self, name: &str) -> Result<(), Problem> {
        let _turn = self.accounts.turn.lock().await;
        self.another_admin(&self.user(name).await?).await?;
        // Out of the memory first: nobody comes in with an account that is half gone.
        self.accounts.forget(name);
        self.store.delete(Table::Users, name).await.map(drop)
    }

    /// A new password for who knows the old one; all sessions but the one to come end.
    pub(crate) async fn change_password(
        &self,
        name: &str,
        old: Secret<String>,
        new: Secret<String>,
    ) -> Result<User, Problem> {
        acceptable(&new)?;
        let _turn = self.accounts.turn.lock().await;
        is_ours(&self.user(name).await?, "password")?;
        let known = password::verify(self.store.as_ref(), name, old).await.map_err(|problem| {
            if problem.code == ErrorCode::Unauthenticated {
                Problem::new(ErrorCode::Forbidden, "the old password is wrong")
            } else {
                problem
            }
        })?;
        let user = known.with_password(new).await?;
        self.keep(&user).await?;
        Ok(user)
    }

    /// Writes an account; the caller has the turn.
    pub(super) async fn keep(&self, user: &User) -> Result<(), Problem> {
        self.store.put(Table::Users, &user.name, &to_text(user)?).await?;
        self.accounts.learn(user);
        Ok(())
    }

    /// Someone must be able to manage the accounts, also while the directory is away.
    async fn another_admin(&self, leaving: &User) -> Result<(), Problem> {
        let manages = |user: &UserView| {
            user.role == Role::Admin && user.source == Source::Local && !user.disabled
        };
        let users = self.users().await?;
        let others = users.iter().any(|user| manages(user) && user.name != leaving.name);
        if others || !manages(&UserView::from(leaving)) {
            return Ok(());
        }
        Err(Problem::new(
            ErrorCode::WrongState,
            format!("`{}` is the last account of vmmgr's own with the role admin", leaving.name),
        )
        .hint("give another account the role first"))
    }
}
