//! Accounts: argon2id hashes in the store.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

use super::Role;
use crate::store::{Store, Table, failed, from_text, to_text};

/// Each hash takes 19 MiB; more at once would let logins eat the memory.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// An account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    /// Login name.
    pub(crate) name: String,
    /// PHC string.
    pub(crate) hash: Secret<String>,
    /// What it may do.
    pub(crate) role: Role,
    /// Tokens of another generation are worth nothing.
    #[serde(default)]
    pub(crate) generation: u32,
}

impl User {
    /// With a fresh hash and generation.
    pub(crate) async fn new(
        name: &str,
        role: Role,
        password: Secret<String>,
    ) -> Result<Self, Problem> {
        let _turn = AT_ONCE.acquire().await.map_err(failed)?;
        let hash = tokio::task::spawn_blocking(move || hash(password.expose()));
        let hash = Secret::new(hash.await.map_err(failed)??);
        Ok(Self { name: name.to_owned(), hash, role, generation: 0 }.renewed())
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

/// The account with that name and password; the same failure for every reason.
pub(crate) async fn verify(
    store: &dyn Store,
    name: &str,
    password: Secret<String>,
) -> Result<User, Problem> {
    let user: Option<User> = match store.get(Table::Users, name).await? {
        Some(text) => Some(from_text(&text)?),
        None => None,
    };
    let _turn = AT_ONCE.acquire().await.map_err(failed)?;
    let checked = tokio::task::spawn_blocking(move || {
        let stored = match &user {
            Some(user) => user.hash.expose().clone(),
            None => decoy().to_owned(),
        };
        let fits = PasswordHash::new(&stored).is_ok_and(|hash| {
            Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok()
        });
        user.filter(|_| fits)
    })
    .await
    .map_err(failed)?;
    checked.ok_or_else(|| {
        Problem::new(ErrorCode::Unauthenticated, "the name or the password is wrong")
    })
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
