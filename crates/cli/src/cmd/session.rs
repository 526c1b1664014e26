//! Logging in.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Name and password.
#[derive(Args)]
pub(crate) struct Login {
    /// Account
    #[arg(long, default_value = "admin")]
    username: String,
    /// File with the password; `-` reads standard input
    #[arg(long, default_value = "-")]
    password_file: PathBuf,
}

impl Login {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let mut password = String::new();
        if self.password_file.as_os_str() == "-" {
            std::io::stdin().read_to_string(&mut password).map_err(Failure::local)?;
        } else {
            password = fs_err::read_to_string(&self.password_file).map_err(Failure::local)?;
        }
        let body = json!({ "username": self.username, "password": password.trim_end_matches(['\r', '\n']) });
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
