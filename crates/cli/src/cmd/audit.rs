//! The audit log.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;
use vmmgr_common::api::audit::{AuditRecord, verify};

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Format};

/// Records asked for at once.
const PAGE: u64 = 1000;
const COLUMNS: [Column; 6] = [
    ("NUMBER", "/number"),
    ("AT", "/at"),
    ("WHO", "/who"),
    ("METHOD", "/method"),
    ("PATH", "/path"),
    ("STATUS", "/status"),
];

/// Who changed what, and who was refused; for who is admin.
#[derive(Subcommand)]
pub(crate) enum Audit {
    /// List the newest records
    List,
    /// Write all records, one JSON object a line, the oldest first
    Export,
    /// Check the chain, of the gateway or of an exported file
    Verify {
        /// What `audit export` wrote; `-` reads standard input
        file: Option<PathBuf>,
    },
}

impl Audit {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        match self {
            Self::List => output::rows(format, &client.get("/v1/audit").await?, &COLUMNS),
            Self::Export => {
                let records = all(client).await?;
                let texts: Result<Vec<String>, _> =
                    records.iter().map(serde_json::to_string).collect();
                output::lines(&texts.map_err(Failure::local)?.join("\n"))
            }
            Self::Verify { file } => {
                let records = match file {
                    None => all(client).await?,
                    Some(path) => exported(&path)?,
                };
                let last = verify(&records).map_err(Failure::local)?;
                let number = last.map_or(0, |last| last.number);
                let hash = last.map_or("none", |last| last.hash.as_str());
                let said =
                    format!("{} records are whole; the last is {number}, {hash}", records.len());
                let value =
                    serde_json::json!({"records": records.len(), "last": number, "hash": hash});
                output::one(format, &value, hash, &said)
            }
        }
    }
}

/// All records, the oldest first.
async fn all(client: &Client) -> Result<Vec<AuditRecord>, Failure> {
    let mut records: Vec<AuditRecord> = Vec::new();
    loop {
        let before = records.last().map(|last| format!("&page_token={}", last.number));
        let path = format!("/v1/audit?limit={PAGE}{}", before.unwrap_or_default());
        let page: Value = client.get(&path).await?;
        let page: Vec<AuditRecord> = serde_json::from_value(page).map_err(Failure::local)?;
        if page.is_empty() {
            records.reverse();
            return Ok(records);
        }
        records.extend(page);
    }
}

fn exported(path: &std::path::Path) -> Result<Vec<AuditRecord>, Failure> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(Failure::local)?;
    } else {
        text = fs_err::read_to_string(path).map_err(Failure::local)?;
    }
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).map_err(Failure::local)).collect()
}
