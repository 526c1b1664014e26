//! Seeds: what cloud-init is told.

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::done;
use super::vm::Place;
use crate::client::Client;
use crate::failure::Failure;
use crate::lint::{self, Level};
use crate::output::{self, Format};

/// Files of a seed in the order that cloud-init asks for them.
const FILES: [(&str, &str); 4] = [
    ("meta-data", "meta_data"),
    ("user-data", "user_data"),
    ("vendor-data", "vendor_data"),
    ("network-config", "network_config"),
];

/// Seeds.
#[derive(Subcommand)]
pub(crate) enum Seed {
    /// Check a user-data document before it is given to a guest; needs no server
    Lint {
        /// The document
        file: PathBuf,
    },
    /// Print a guest's seed as it is served, secrets masked
    Preview(Place),
    /// Give a guest another seed; cloud-init configures it anew at its next boot
    Put {
        #[command(flatten)]
        place: Place,
        /// The typed seed as JSON: hostname, user, ssh_keys, network, user_data, …
        file: PathBuf,
    },
    /// Write a guest's seed again; its secrets can be read once more
    Renew {
        #[command(flatten)]
        place: Place,
        /// As another instance: cloud-init configures the guest anew at its next boot
        #[arg(long)]
        new_instance: bool,
    },
}

impl Seed {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let (operation, place) = match self {
            Self::Lint { file } => return lint_file(&file),
            Self::Preview(place) => {
                let value = client.get(&format!("{}/seed", place.path()?)).await?;
                return output::one(format, &value, &place.vm, &shown(&value));
            }
            Self::Put { place, file } => {
                let text = fs_err::read_to_string(&file).map_err(Failure::local)?;
                let seed: Value = serde_json::from_str(&text)
                    .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
                let path = format!("{}/seed", place.path()?);
                (client.change(Method::PUT, &path, Some(&seed)).await?, place)
            }
            Self::Renew { place, new_instance } => {
                let path = format!("{}/reseed", place.path()?);
                let body = json!({ "new_instance": new_instance });
                (client.change(Method::POST, &path, Some(&body)).await?, place)
            }
        };
        done(format, &operation, &place.vm, &format!("the seed of guest {} is written", place.vm))
    }
}

fn shown(preview: &Value) -> String {
    let part = |(name, key): &(&str, &str)| {
        format!("==> {name}\n{}", preview[*key].as_str().unwrap_or_default().trim_end())
    };
    FILES.iter().map(part).collect::<Vec<_>>().join("\n")
}

/// Findings go to standard output like a compiler's; an error among them is exit code 1.
pub(crate) fn lint_file(file: &std::path::Path) -> Result<(), Failure> {
    let document = fs_err::read(file).map_err(Failure::local)?;
    let mut found = lint::lint(&document);
    if found.is_empty() && document.starts_with(b"#cloud-config") {
        match lint::schema(file) {
            Some(more) => found.extend(more),
            None => eprintln!("no cloud-init on this machine: its schema was not asked"),
        }
    }
    for finding in &found {
        let (level, name) = (finding.level.as_str(), file.display());
        match finding.line {
            0 => println!("{name}: {level}: {}", finding.text),
            line => println!("{name}:{line}: {level}: {}", finding.text),
        }
    }
    if found.iter().any(|finding| finding.level == Level::Error) {
        return Err(Failure::local(std::io::Error::other(
            "cloud-init would not take this document",
        )));
    }
    Ok(())
}
