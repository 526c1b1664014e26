//! The pool of addresses.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::part;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: [Column; 5] = [
    ("ID", "/id"),
    ("PREFIX", "/prefix"),
    ("GATEWAY", "/gateway"),
    ("TOTAL", "/total"),
    ("FREE", "/free"),
];

/// Addresses that new guests can be given.
#[derive(Subcommand)]
pub(crate) enum Address {
    /// List the ranges
    List,
    /// Show a free address; creating a guest with it reserves it
    Free,
    /// Add an address (10.0.0.7/24), a network (10.0.0.0/24), or a part of one
    Add {
        /// Address or network with its prefix length
        cidr: String,
        /// Gateway of the network
        #[arg(long)]
        gateway: Option<String>,
        /// First address of a part
        #[arg(long, requires = "last")]
        first: Option<String>,
        /// Last address of a part
        #[arg(long, requires = "first")]
        last: Option<String>,
    },
    /// Take a range out of the pool
    Remove {
        /// Its id
        id: String,
    },
    /// Give back an address of a guest that exists no more
    Release {
        /// Id of the range
        id: String,
        /// Address
        address: String,
    },
}

impl Address {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        match self {
            Self::List => output::rows(format, &client.get("/v1/addresses").await?, &COLUMNS),
            Self::Free => {
                let free = client.get("/v1/free-address").await?;
                let address = free["address"].as_str().unwrap_or("none").to_owned();
                output::one(format, &free, &address, &address)
            }
            Self::Add { cidr, gateway, first, last } => {
                let mut body = json!({ "cidr": cidr });
                for (name, value) in [("gateway", gateway), ("first", first), ("last", last)] {
                    if let Some(value) = value {
                        body[name] = value.into();
                    }
                }
                let made = client.call(Method::POST, "/v1/addresses", Some(&body)).await?;
                let id = made["id"].as_str().unwrap_or_default().to_owned();
                output::one(format, &made, &id, &format!("{id} is in the pool"))
            }
            Self::Remove { id } => {
                let path = format!("/v1/addresses/{}", part(&id)?);
                let gone = client.call(Method::DELETE, &path, None).await?;
                output::one(format, &gone, &id, &format!("{id} is out of the pool"))
            }
            Self::Release { id, address } => {
                let path = format!("/v1/addresses/{}/reservations/{}", part(&id)?, part(&address)?);
                let gone = client.call(Method::DELETE, &path, None).await?;
                output::one(format, &gone, &address, &format!("{address} is free again"))
            }
        }
    }
}
