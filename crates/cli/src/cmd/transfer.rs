//! The described system's record files, in and out.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value};

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: [Column; 4] =
    [("FILE", "/file"), ("NAME", "/name"), ("FATE", "/fate"), ("DETAIL", "/detail")];

/// Files to read in.
#[derive(Args)]
pub(crate) struct Import {
    /// hosts.json, devices.json, golds.json, iso.json, ippool.json, guests.json or vars.json
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl Import {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let mut body = Map::new();
        for path in &self.files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs_err::read_to_string(path).map_err(Failure::local)?;
            let value: Value = serde_json::from_str(&text)
                .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
            if body.insert(name.clone(), value).is_some() {
                return Err(Failure::Usage(format!("{name} is given twice")));
            }
        }
        let report = client.call(Method::POST, "/v1/config/import", Some(&body.into())).await?;
        output::rows(format, &report, &COLUMNS)
    }
}

/// Where the files go.
#[derive(Args)]
pub(crate) struct Export {
    /// Folder; it is made
    dir: PathBuf,
}

impl Export {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let files = client.get("/v1/config/export").await?;
        fs_err::create_dir_all(&self.dir).map_err(Failure::local)?;
        for (name, value) in files.as_object().into_iter().flatten() {
            let name = super::part(name)?;
            let text = serde_json::to_string_pretty(value).map_err(Failure::local)?;
            fs_err::write(self.dir.join(name), text + "\n").map_err(Failure::local)?;
        }
        let dir = self.dir.display().to_string();
        output::one(format, &files, &dir, &format!("the record files are in {dir}"))
    }
}
