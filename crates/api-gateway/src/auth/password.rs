//! Accounts: argon2id hashes in the store.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

use super::Role;
use crate::store::{Store, Table, failed, from_text, to_text};

/// Each hash takes 19 MiB; more at once would let logins eat the memory.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// Who keeps an account's password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// vmmgr itself.
    #[default]
    Local,
    /// The LDAP directory.
    Directory,
}

/// An account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    /// Login name.
    pub(crate) name: String,
    /// PHC string; empty for an account of the directory.
    pub(crate) hash: Secret<String>,
    /// What it may do.
    pub(crate) role: Role,
    /// Tokens of another generation are worth nothing.
    #[serde(default)]
    pub(crate) generation: u32,
    /// Who keeps the password.
    #[serde(default)]
    pub(crate) source: Source,
    /// Nobody logs in with it, and its sessions have ended.
    #[serde(default)]
    pub(crate) disabled: bool,
    /// When the directory last vouched for it, seconds since 1970, to the hour.
    #[serde(default)]
    pub(crate) seen: u64,
}

impl User {
    /// With a fresh hash and generation.
    pub(crate) async fn new(
        name: &str,
        role: Role,
        password: Secret<String>,
    ) -> Result<Self, Problem> {
        let blank = Self {
            name: name.to_owned(),
            hash: Secret::new(String::new()),
            role,
            generation: 0,
            source: Source::Local,
            disabled: false,
            seen: 0,
        };
        blank.with_password(password).await
    }

    /// Of a person of the directory, seen there at `seen`.
    pub(crate) fn of_directory(name: &str, role: Role, seen: u64) -> Self {
        let (name, hash) = (name.to_owned(), Secret::new(String::new()));
        let (source, disabled) = (Source::Directory, false);
        Self { name, hash, role, generation: 0, source, disabled, seen }.renewed()
    }

    /// With another password, and a fresh generation.
    pub(crate) async fn with_password(self, password: Secret<String>) -> Result<Self, Problem> {
        let _turn = AT_ONCE.acquire().await.map_err(failed)?;
        let hash = tokio::task::spawn_blocking(move || hash(password.expose()));
        let hash = Secret::new(hash.await.map_err(failed)??);
        Ok(Self { hash, ..self }.renewed())
    }

    /// With a fresh generation: all tokens of the account end.
    pub(crate) fn renewed(self) -> Self {
        Self { generation: rand::random(), ..self }
    }
}

fn hash(password: &str) -> Result<String, Problem> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(failed)
}

/// Hash of a password that nobody has: unknown names take as long as known ones.
fn decoy() -> &'static str {
    static DECOY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    DECOY.get_or_init(|| hash(&random()).unwrap_or_default())
}

/// 24 characters, 144 bits.
fn random() -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 18]>())
}

/// The account of that name.
pub(crate) async fn find(store: &dyn Store, name: &str) -> Result<Option<User>, Problem> {
    store.get(Table::Users, name).await?.map(|text| from_text(&text)).transpose()
}

/// What everybody is told who is not let in.
pub(crate) fn refused() -> Problem {
    Problem::new(ErrorCode::Unauthenticated, "the name or the password is wrong")
}

/// The account of vmmgr's own with that name and password; the same failure for every reason.
pub(crate) async fn verify(
    store: &dyn Store,
    name: &str,
    password: Secret<String>,
) -> Result<User, Problem> {
    let user = find(store, name).await?.filter(|user| user.source == Source::Local);
    let _turn = AT_ONCE.acquire().await.map_err(failed)?;
    let checked = tokio::task::spawn_blocking(move || {
        let stored = match &user {
            Some(user) => user.hash.expose().clone(),
            None => decoy().to_owned(),
        };
        let fits = PasswordHash::new(&stored).is_ok_and(|hash| {
            Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok()
        });
        user.filter(|user| fits && !user.disabled)
    })
    .await
    .map_err(failed)?;
    checked.ok_or_else(refused)
}

/// Makes the account `admin` and answers its password; none if the account exists.
pub(crate) async fn create_admin(store: &dyn Store) -> Result<Option<String>, Problem> {
    let password = random();
    let user = User::new("admin", Role::Admin, Secret::new(password.clone())).await?;
    let fresh = store.insert(Table::Users, &user.name, &to_text(&user)?).await?;
    Ok(fresh.then_some(password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Sqlite;

    #[tokio::test]
    async fn the_first_admin_is_made_once_and_only_its_password_fits() {
        let store = Sqlite::in_memory();
        let password = create_admin(&store).await.unwrap().unwrap();
        assert!(create_admin(&store).await.unwrap().is_none());
        let user = verify(&store, "admin", Secret::new(password)).await.unwrap();
        assert_eq!(user.role, Role::Admin);
        let wrong = verify(&store, "admin", Secret::new("x".into())).await.unwrap_err();
        let unknown = verify(&store, "nobody", Secret::new("x".into())).await.unwrap_err();
        assert_eq!(wrong, unknown);
        let kept = store.get(Table::Users, "admin").await.unwrap().unwrap();
        assert!(kept.contains("$argon2id$"));
    }
}
