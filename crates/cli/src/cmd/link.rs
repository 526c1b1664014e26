//! Tenant links.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::part;
use super::vm::Place;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: [Column; 7] = [
    ("ID", "/id"),
    ("LABEL", "/label"),
    ("VERBS", "/verbs"),
    ("EXPIRES", "/expires"),
    ("EXPIRED", "/expired"),
    ("USES", "/uses"),
    ("USED", "/used"),
];

/// Links with which somebody without an account drives one guest.
#[derive(Subcommand)]
pub(crate) enum Link {
    /// Make a link; it is printed once and cannot be shown again
    Create {
        #[command(flatten)]
        place: Place,
        /// What it allows, of list, start, reset, stop, console, display, cdrom, getiso, snapshot; all
        /// but the last without
        #[arg(long, value_delimiter = ',')]
        verbs: Vec<String>,
        /// How long it lasts
        #[arg(long, default_value_t = 10)]
        days: u64,
        /// How often it can change something or open a console; without end if absent
        #[arg(long)]
        uses: Option<u32>,
        /// For people
        #[arg(long, default_value = "")]
        label: String,
    },
    /// List the links of a guest
    List(Place),
    /// End a link at once
    Revoke {
        #[command(flatten)]
        place: Place,
        /// Link id
        id: String,
    },
}

impl Link {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        match self {
            Self::Create { place, verbs, days, uses, label } => {
                let seconds = days.saturating_mul(86_400);
                let mut body =
                    json!({"verbs": verbs, "expires_in_seconds": seconds, "label": label});
                if let Some(uses) = uses {
                    body["uses"] = uses.into();
                }
                let path = format!("{}/links", place.path()?);
                let link = client.call(Method::POST, &path, Some(&body)).await?;
                let word = link["token"].as_str().unwrap_or_default().to_owned();
                output::one(format, &link, &word, &word)
            }
            Self::List(place) => {
                let path = format!("{}/links", place.path()?);
                output::rows(format, &client.get(&path).await?, &COLUMNS)
            }
            Self::Revoke { place, id } => {
                let path = format!("{}/links/{}", place.path()?, part(&id)?);
                let gone = client.call(Method::DELETE, &path, None).await?;
                output::one(format, &gone, &id, &format!("link {id} is worth nothing now"))
            }
        }
    }
}
