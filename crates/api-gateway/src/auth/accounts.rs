//! Making accounts.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use vmmgr_common::error::Problem;
use vmmgr_common::ids::ResourceName;
use vmmgr_common::secret::Secret;

use super::password::Hasher;
use crate::store::{self, Store, User, UserRole};

/// `POST /v1/users`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUser {
    /// Login name.
    pub(crate) name: ResourceName,
    /// 10 bytes or more.
    pub(crate) password: Secret<String>,
    /// What it may do.
    pub(crate) role: UserRole,
}

/// Makes an account; 409 when the name is taken.
pub(crate) async fn create_user(
    store: &dyn Store,
    hasher: &Hasher,
    new: NewUser,
) -> Result<User, Problem> {
    let user = User {
        password: hasher.hash(new.password.expose()).await?,
        name: new.name,
        role: new.role,
        created: crate::app::now(),
    };
    store::add(store, &user).await?;
    Ok(user)
}

/// Makes the account `admin` with a random password and gives the password; none when an
/// account of that name is there.
pub(crate) async fn init_admin(
    store: &dyn Store,
    hasher: &Hasher,
) -> Result<Option<Secret<String>>, Problem> {
    let name = ResourceName::parse("admin")?;
    if store::one::<User>(store, name.as_str()).await?.is_some() {
        return Ok(None);
    }
    let password = Secret::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 18]>()));
    let new = NewUser { name, password: password.clone(), role: UserRole::Admin };
    create_user(store, hasher, new).await?;
    Ok(Some(password))
}
