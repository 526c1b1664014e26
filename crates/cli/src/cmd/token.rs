//! Tokens for scripts.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::part;
use super::user::Role;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: [Column; 5] = [
    ("ID", "/id"),
    ("NAME", "/name"),
    ("ACCOUNT", "/user"),
    ("ROLE", "/role"),
    ("CREATED", "/created"),
];

/// Tokens for scripts; they end with the account's password or role.
#[derive(Subcommand)]
pub(crate) enum Token {
    /// List the own tokens; all for an admin
    List,
    /// Make a token and print it, this one time
    Create {
        /// What it is for
        name: String,
        /// What it may do; as much as the account when not given
        #[arg(long, value_enum)]
        role: Option<Role>,
        /// Days until its end
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=366))]
        days: u64,
    },
    /// End a token
    Revoke {
        /// Its id
        id: String,
    },
}

impl Token {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        match self {
            Self::List => output::rows(format, &client.get("/v1/tokens").await?, &COLUMNS),
            Self::Create { name, role, days } => {
                let mut body = json!({"name": name, "expires_in_seconds": days * 24 * 3600});
                if let Some(role) = role {
                    body["role"] = role.name().into();
                }
                let made = client.call(Method::POST, "/v1/tokens", Some(&body)).await?;
                let token = made["token"].as_str().unwrap_or_default().to_owned();
                output::one(format, &made, &token, &token)
            }
            Self::Revoke { id } => {
                let path = format!("/v1/tokens/{}", part(&id)?);
                let gone = client.call(Method::DELETE, &path, None).await?;
                output::one(format, &gone, &id, &format!("{id} is worth nothing any more"))
            }
        }
    }
}
