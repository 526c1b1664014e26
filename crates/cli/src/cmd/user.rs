//! Accounts.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::json;

use super::part;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Format};
use crate::terminal;

const COLUMNS: [Column; 4] =
    [("NAME", "/name"), ("ROLE", "/role"), ("SOURCE", "/source"), ("DISABLED", "/disabled")];

/// What an account may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// Looks
    Viewer,
    /// Changes guests
    Operator,
    /// Changes everything
    Admin,
}

impl Role {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Accounts; for who is admin.
#[derive(Subcommand)]
pub(crate) enum User {
    /// List the accounts
    List,
    /// Add an account
    Add {
        /// Login name
        name: String,
        /// What it may do
        #[arg(long, value_enum)]
        role: Role,
        #[command(flatten)]
        password: NewPassword,
    },
    /// Change what an account may do; its sessions end
    SetRole {
        /// Login name
        name: String,
        /// What it may do
        #[arg(value_enum)]
        role: Role,
    },
    /// Give an account another password; its sessions end
    SetPassword {
        /// Login name
        name: String,
        #[command(flatten)]
        password: NewPassword,
    },
    /// Let nobody in with an account; its sessions end
    Disable {
        /// Login name
        name: String,
    },
    /// Let its owner in again
    Enable {
        /// Login name
        name: String,
    },
    /// Remove an account; its sessions end
    Remove {
        /// Login name
        name: String,
    },
}

/// Where a new password comes from; never an argument, which every process could read.
#[derive(Args)]
pub(crate) struct NewPassword {
    /// File with the password; asked for, or read from standard input, otherwise
    #[arg(long)]
    password_file: Option<PathBuf>,
}

impl NewPassword {
    fn read(&self) -> Result<String, Failure> {
        match self.password_file.as_deref() {
            Some(path) => terminal::secret_file(path),
            None => chosen(),
        }
    }
}

/// Somebody who types blind types it twice.
fn chosen() -> Result<String, Failure> {
    let password = terminal::secret("New password: ")?;
    if terminal::is_interactive() && password != terminal::secret("Again: ")? {
        return Err(Failure::Usage("the two passwords differ".to_owned()));
    }
    Ok(password)
}

impl User {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        match self {
            Self::List => output::rows(format, &client.get("/v1/users").await?, &COLUMNS),
            Self::Add { name, role, password } => {
                let password = password.read()?;
                let body = json!({"name": name, "role": role.name(), "password": password});
                let made = client.call(Method::POST, "/v1/users", Some(&body)).await?;
                output::one(format, &made, &name, &format!("{name} is an account"))
            }
            Self::SetRole { name, role } => {
                let path = format!("/v1/users/{}", part(&name)?);
                let body = json!({"role": role.name()});
                let changed = client.call(Method::PATCH, &path, Some(&body)).await?;
                let said = format!("{name} is {} and has to log in again", role.name());
                output::one(format, &changed, &name, &said)
            }
            Self::SetPassword { name, password } => {
                let path = format!("/v1/users/{}", part(&name)?);
                let body = json!({"password": password.read()?});
                let changed = client.call(Method::PATCH, &path, Some(&body)).await?;
                output::one(format, &changed, &name, &format!("{name} has to log in again"))
            }
            Self::Disable { name } => {
                disable(client, format, &name, true, "nobody gets in with").await
            }
            Self::Enable { name } => {
                disable(client, format, &name, false, "logins work again with").await
            }
            Self::Remove { name } => {
                let path = format!("/v1/users/{}", part(&name)?);
                let gone = client.call(Method::DELETE, &path, None).await?;
                output::one(format, &gone, &name, &format!("{name} is no account any more"))
            }
        }
    }
}

async fn disable(
    client: &Client,
    format: Format,
    name: &str,
    disabled: bool,
    said: &str,
) -> Result<(), Failure> {
    let path = format!("/v1/users/{}", part(name)?);
    let body = json!({ "disabled": disabled });
    let changed = client.call(Method::PATCH, &path, Some(&body)).await?;
    output::one(format, &changed, name, &format!("{said} {name}"))
}

/// One's own password.
#[derive(Args)]
pub(crate) struct Password {
    /// File with the old password; asked for otherwise
    #[arg(long, requires = "new_file")]
    old_file: Option<PathBuf>,
    /// File with the new password; asked for otherwise
    #[arg(long, requires = "old_file")]
    new_file: Option<PathBuf>,
}

impl Password {
    /// Prints the token of the session that goes on; all others have ended.
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let read = |path: Option<&Path>, ask: fn() -> Result<String, Failure>| match path {
            Some(path) => terminal::secret_file(path),
            None => ask(),
        };
        if self.old_file.is_none() && !terminal::is_interactive() {
            let hint = "without a terminal give --old-file and --new-file";
            return Err(Failure::Usage(hint.to_owned()));
        }
        let old = read(self.old_file.as_deref(), || terminal::secret("Old password: "))?;
        let new = read(self.new_file.as_deref(), chosen)?;
        let body = json!({"old": old, "new": new});
        let session = client.call(Method::PUT, "/v1/session/password", Some(&body)).await?;
        let token = session["token"].as_str().unwrap_or_default().to_owned();
        output::one(format, &session, &token, &token)
    }
}
