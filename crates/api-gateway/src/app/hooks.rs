//! What the libvirt hooks of hosts report: the event, and the definition as the host has it.
//!
//! Reports are kept to be read by people. Nothing here is believed: the inventory comes from the
//! agents alone.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::error::{ErrorCode, Problem};

use super::App;
use crate::store::{Table, from_text, to_text};

/// Largest definition that is kept.
pub(crate) const LARGEST_XML: usize = 256 * 1024;
/// Most guests of one host with a report.
const MOST_OBJECTS: usize = 2000;
/// Operations of libvirt's qemu hook (`docs/hooks.rst`).
const OPERATIONS: [&str; 9] = [
    "prepare",
    "start",
    "started",
    "stopped",
    "release",
    "migrate",
    "restore",
    "reconnect",
    "attach",
];
const ACTIONS: [&str; 3] = ["begin", "end", "-"];

/// The latest report of a guest from one sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HookReport {
    /// Host of the certificate, or `user:` and the account.
    pub(crate) sender: String,
    /// libvirt's name of the guest, or its UUID.
    pub(crate) object: String,
    /// `prepare`, `started`, …
    pub(crate) operation: String,
    /// `begin`, `end` or `-`.
    pub(crate) action: String,
    /// RFC 3339, UTC.
    pub(crate) received: String,
    /// The definition of the last report that had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) xml: Option<String>,
}

fn refuse(field: &str, rule: &str) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("{field}: {rule}"))
}

impl App {
    /// Keeps a report.
    pub(crate) async fn keep_report(&self, mut report: HookReport) -> Result<(), Problem> {
        if !OPERATIONS.contains(&report.operation.as_str()) {
            return Err(refuse("operation", "is none of libvirt's qemu hook"));
        }
        if !ACTIONS.contains(&report.action.as_str()) {
            return Err(refuse("action", "expected begin, end or -"));
        }
        let plain = (1..=128).contains(&report.object.len())
            && report.object.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !plain {
            return Err(refuse("guest", "expected 1 to 128 of a-z A-Z 0-9 . _ -"));
        }
        if report.xml.as_ref().is_some_and(|xml| xml.len() > LARGEST_XML) {
            return Err(Problem::new(
                ErrorCode::TooLarge,
                format!("file: over {LARGEST_XML} bytes"),
            ));
        }
        let key = format!("{}/{}", report.sender, report.object);
        let known = self.store.get(Table::HookReports, &key).await?;
        match known {
            Some(text) if report.xml.is_none() => report.xml = from_text::<HookReport>(&text)?.xml,
            Some(_) => {}
            None => {
                let start = format!("{}/", report.sender);
                let all = self.store.list(Table::HookReports).await?;
                if all.iter().filter(|(key, _)| key.starts_with(&start)).count() >= MOST_OBJECTS {
                    return Err(Problem::new(
                        ErrorCode::TooLarge,
                        format!("{} has reported {MOST_OBJECTS} guests", report.sender),
                    ));
                }
            }
        }
        self.store.put(Table::HookReports, &key, &to_text(&report)?).await
    }

    /// All reports, without their definitions.
    pub(crate) async fn reports(&self) -> Result<Vec<HookReport>, Problem> {
        let mut found = Vec::new();
        for (_, text) in self.store.list(Table::HookReports).await? {
            let mut report: HookReport = from_text(&text)?;
            report.xml = None;
            found.push(report);
        }
        Ok(found)
    }

    /// One report.
    pub(crate) async fn report(&self, sender: &str, object: &str) -> Result<HookReport, Problem> {
        let text = self.store.get(Table::HookReports, &format!("{sender}/{object}")).await?;
        let absent = || Problem::new(ErrorCode::NoSuchRecord, "no report of that guest");
        from_text(&text.ok_or_else(absent)?)
    }
}
