//! Gold images and ISOs.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::part;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Format};

const IMAGES: [Column; 4] =
    [("NAME", "/name"), ("ARCH", "/arch"), ("URI", "/uri"), ("DESCRIPTION", "/description")];
const ISOS: [Column; 4] =
    [("NAME", "/name"), ("PATH", "/path"), ("URL", "/url"), ("DESCRIPTION", "/description")];

/// Gold images.
#[derive(Subcommand)]
pub(crate) enum Image {
    /// Add a gold image; hosts fetch it when a disk first asks for it
    Add {
        /// Name
        name: String,
        /// x86_64 or aarch64
        #[arg(long, default_value = "x86_64")]
        arch: String,
        /// https://…, http://… or a path on the hosts
        #[arg(long)]
        uri: String,
        /// Digest that the file must have
        #[arg(long)]
        sha256: Option<String>,
        /// For people
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List gold images
    List,
    /// Remove a gold image's record
    Remove {
        /// Name
        name: String,
        /// x86_64 or aarch64
        #[arg(long, default_value = "x86_64")]
        arch: String,
    },
}

impl Image {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        match self {
            Self::Add { name, arch, uri, sha256, description } => {
                let mut body =
                    json!({"name": name, "arch": arch, "uri": uri, "description": description});
                if let Some(sha256) = sha256 {
                    body["sha256"] = sha256.into();
                }
                let image = client.call(Method::POST, "/v1/images", Some(&body)).await?;
                output::one(format, &image, &name, &format!("gold image {name} is known"))
            }
            Self::List => output::rows(format, &client.get("/v1/images").await?, &IMAGES),
            Self::Remove { name, arch } => {
                let path = format!("/v1/images/{}/{}", part(&name)?, part(&arch)?);
                let gone = client.call(Method::DELETE, &path, None).await?;
                output::one(format, &gone, &name, &format!("gold image {name} is forgotten"))
            }
        }
    }
}

/// ISOs.
#[derive(Subcommand)]
pub(crate) enum Iso {
    /// Add an ISO: a file on the hosts, or one that guests read from a web server
    #[command(group = clap::ArgGroup::new("place").required(true))]
    Add {
        /// Name
        name: String,
        /// Path on the hosts
        #[arg(long, group = "place")]
        path: Option<String>,
        /// https://… or http://… of a web server that is one of the hosts' origins
        #[arg(long, group = "place")]
        url: Option<String>,
        /// Take the web server's word for who it is
        #[arg(long, conflicts_with = "path")]
        no_tls_verify: bool,
        /// For people
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List ISOs
    List,
    /// Remove an ISO's record
    Remove {
        /// Name
        name: String,
    },
}

impl Iso {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        match self {
            Self::Add { name, path, url, no_tls_verify, description } => {
                let mut body = json!({"name": name, "description": description});
                for (key, value) in [("path", path), ("url", url)] {
                    if let Some(value) = value {
                        body[key] = value.into();
                    }
                }
                if no_tls_verify {
                    body["tls_verify"] = false.into();
                }
                let iso = client.call(Method::POST, "/v1/isos", Some(&body)).await?;
                output::one(format, &iso, &name, &format!("ISO {name} is known"))
            }
            Self::List => output::rows(format, &client.get("/v1/isos").await?, &ISOS),
            Self::Remove { name } => {
                let gone = client
                    .call(Method::DELETE, &format!("/v1/isos/{}", part(&name)?), None)
                    .await?;
                output::one(format, &gone, &name, &format!("ISO {name} is forgotten"))
            }
        }
    }
}
