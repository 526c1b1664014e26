//! Operations.

use clap::Subcommand;

use super::{done, part};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: [Column; 7] = [
    ("ID", "/id"),
    ("VERB", "/verb"),
    ("STATE", "/state"),
    ("HOST", "/host"),
    ("GUEST", "/vm"),
    ("USER", "/user"),
    ("ACCEPTED", "/accepted_at"),
];

/// Operations.
#[derive(Subcommand)]
pub(crate) enum Op {
    /// The newest operations
    List,
    /// How far one is
    Show {
        /// Id
        id: String,
    },
    /// Follow one to its end
    Watch {
        /// Id
        id: String,
    },
}

impl Op {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        match self {
            Self::List => output::rows(format, &client.get("/v1/operations").await?, &COLUMNS),
            Self::Show { id } => {
                let operation = client.get(&format!("/v1/operations/{}", part(&id)?)).await?;
                let text = serde_json::to_string_pretty(&operation).map_err(Failure::local)?;
                output::one(format, &operation, &id, &text)
            }
            Self::Watch { id } => {
                let operation = client.follow(part(&id)?).await?;
                done(format, &operation, &id, &format!("{} succeeded", operation.verb))
            }
        }
    }
}
