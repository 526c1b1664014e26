//! Logging in.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::terminal;

/// Name and password.
#[derive(Args)]
pub(crate) struct Login {
    /// Account
    #[arg(long, default_value = "admin")]
    username: String,
    /// File with the password; asked for, or read from standard input (`-`), otherwise
    #[arg(long)]
    password_file: Option<PathBuf>,
}

impl Login {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let password = match &self.password_file {
            Some(path) if path.as_os_str() != "-" => terminal::secret_file(path)?,
            _ => terminal::secret("Password: ")?,
        };
        let body = json!({ "username": self.username, "password": password });
        let session = client.call(Method::POST, "/v1/session", Some(&body)).await?;
        let token = session["token"].as_str().unwrap_or_default().to_owned();
        output::one(format, &session, &token, &token)
    }
}

pub(crate) async fn whoami(client: &Client, format: Format) -> Result<(), Failure> {
    let me = client.get("/v1/session").await?;
    let name = me["username"].as_str().unwrap_or_default().to_owned();
    let said = format!("{name} ({})", me["role"].as_str().unwrap_or_default());
    output::one(format, &me, &name, &said)
}
