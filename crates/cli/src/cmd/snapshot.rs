//! Snapshots of a guest.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::vm::Place;
use super::{done, part};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: [Column; 5] = [
    ("NAME", "/name"),
    ("CREATED", "/created"),
    ("STATE", "/state"),
    ("CURRENT", "/current"),
    ("DESCRIPTION", "/description"),
];

/// Snapshots.
#[derive(Subcommand)]
pub(crate) enum Snapshot {
    /// List them, oldest first
    List(Place),
    /// Take one of its disks, and of its memory if it runs
    Create {
        #[command(flatten)]
        place: Place,
        /// Name
        name: String,
        /// For people
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Make the guest what it was; what changed since is lost
    Revert {
        #[command(flatten)]
        place: Place,
        /// Name
        name: String,
    },
    /// Forget one; the guest stays as it is
    Delete {
        #[command(flatten)]
        place: Place,
        /// Name
        name: String,
    },
}

impl Snapshot {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let (operation, name, said) = match self {
            Self::List(place) => {
                let value = client.get(&format!("{}/snapshots", place.path()?)).await?;
                return output::rows(format, &value, &COLUMNS);
            }
            Self::Create { place, name, description } => {
                let body = json!({"name": name, "description": description});
                let path = format!("{}/snapshots", place.path()?);
                (client.change(Method::POST, &path, Some(&body)).await?, name, "is taken")
            }
            Self::Revert { place, name } => {
                let path = format!("{}/snapshots/{}/revert", place.path()?, part(&name)?);
                (client.change(Method::POST, &path, None).await?, name, "is what the guest is now")
            }
            Self::Delete { place, name } => {
                let path = format!("{}/snapshots/{}", place.path()?, part(&name)?);
                (client.change(Method::DELETE, &path, None).await?, name, "is gone")
            }
        };
        done(format, &operation, &name, &format!("snapshot {name} {said}"))
    }
}
