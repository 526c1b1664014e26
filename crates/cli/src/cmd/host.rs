//! Hosts.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::part;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: [Column; 7] = [
    ("NAME", "/name"),
    ("STATE", "/state"),
    ("ARCH", "/info/arch"),
    ("VIRT", "/info/virt_type"),
    ("RUNNING", "/active"),
    ("OFF", "/inactive"),
    ("URL", "/url"),
];

/// Hosts.
#[derive(Subcommand)]
pub(crate) enum Host {
    /// Register a host by its agent's address
    Add {
        /// Name, as in the agent's configuration and certificate
        name: String,
        /// https://address:port of the agent
        #[arg(long)]
        url: String,
        /// For people
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List hosts
    List,
    /// Show one host
    Show {
        /// Name
        name: String,
    },
    /// Forget a host; its guests stay as they are
    Remove {
        /// Name
        name: String,
    },
}

impl Host {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        match self {
            Self::Add { name, url, description } => {
                let body = json!({"name": name, "url": url, "description": description});
                let host = client.call(Method::POST, "/v1/hosts", Some(&body)).await?;
                output::one(format, &host, &name, &format!("host {name} is registered"))
            }
            Self::List => output::rows(format, &client.get("/v1/hosts").await?, &COLUMNS),
            Self::Show { name } => {
                let host = client.get(&format!("/v1/hosts/{}", part(&name)?)).await?;
                let text = serde_json::to_string_pretty(&host).map_err(Failure::local)?;
                output::one(format, &host, &name, &text)
            }
            Self::Remove { name } => {
                let gone = client
                    .call(Method::DELETE, &format!("/v1/hosts/{}", part(&name)?), None)
                    .await?;
                output::one(format, &gone, &name, &format!("host {name} is forgotten"))
            }
        }
    }
}
