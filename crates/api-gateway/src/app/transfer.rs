//! The described system's record files: read in, with a report of what does not resolve, and written
//! out again.
//!
//! | file | is |
//! |---|---|
//! | `hosts.json`, `golds.json`, `iso.json`, `ippool.json` | records: written, what is there is replaced |
//! | `vars.json` | help texts of template variables: written |
//! | `devices.json`, `guests.json` | what hosts say of themselves: compared, never written |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use vmmgr_common::api::disk::DiskSize;
use vmmgr_common::api::host::Arch;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, ResourceName, VmId};

use super::App;
use super::addresses::NewRange;
use super::hosts::HostRecord;
use super::records::{ImageRecord, IsoRecord};
use crate::store::{Table, from_text, to_text};

/// Names of the files, in the order in which they are read: hosts before what hangs on them.
pub(crate) const FILES: [&str; 7] = [
    "hosts.json",
    "devices.json",
    "golds.json",
    "iso.json",
    "ippool.json",
    "guests.json",
    "vars.json",
];
/// Port of an agent where a row does not name one.
const AGENT_PORT: u16 = 7442;
/// Most rows of a file.
const MOST_ROWS: usize = 20_000;

/// Files by name, each the parsed JSON.
pub(crate) type Files = BTreeMap<String, Value>;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fate {
    /// Written.
    Written,
    /// It was there already, or is built in.
    Kept,
    /// It names something that is not there.
    Unresolved,
    /// It cannot be read.
    Refused,
}

/// A line of the report.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Finding {
    /// Name of the file.
    pub(crate) file: String,
    /// Name in the row.
    pub(crate) name: String,
    /// What became of the row.
    pub(crate) fate: Fate,
    /// Why, and what to do.
    pub(crate) detail: String,
}

type Verdict = Result<(Fate, String), Problem>;

#[derive(Deserialize)]
struct HostRow {
    name: HostId,
    url: String,
    #[serde(default)]
    tpl: String,
    #[serde(default)]
    ipaddr: String,
    #[serde(default)]
    desc: String,
}

#[derive(Deserialize)]
struct DeviceRow {
    kvmhost: HostId,
    name: ResourceName,
}

#[derive(Deserialize)]
struct GoldRow {
    name: ResourceName,
    arch: Arch,
    #[serde(alias = "tpl")]
    uri: String,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    size: Option<DiskSize>,
    #[serde(default)]
    desc: String,
}

#[derive(Deserialize)]
struct IsoRow {
    name: ResourceName,
    uri: String,
    #[serde(default)]
    tls_verify: Option<bool>,
    #[serde(default)]
    desc: String,
}

#[derive(Deserialize)]
struct GuestRow {
    kvmhost: HostId,
    uuid: VmId,
}

fn read<T: serde::de::DeserializeOwned>(row: &Value) -> Result<T, Problem> {
    T::deserialize(row).map_err(|error| Problem::new(ErrorCode::InvalidValue, error.to_string()))
}

/// `https://…` as it is; of `qemu+tls://host/system` the host, with the agent's port.
fn agent_url(row: &HostRow) -> String {
    if row.url.starts_with("https://") {
        return row.url.clone();
    }
    let authority = row.url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    // The port of SSH or TLS goes; brackets keep the colons of an IPv6 address apart.
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let host = if row.ipaddr.is_empty() { host } else { row.ipaddr.as_str() };
    format!("https://{host}:{AGENT_PORT}")
}

/// Rows of the file, or the variables of `vars.json`.
fn rows(file: &str, value: &Value) -> Result<Vec<(String, Value)>, Problem> {
    let refuse =
        |rule: &str| Problem::new(ErrorCode::InvalidValue, format!("{file}: expected {rule}"));
    let rows: Vec<(String, Value)> = match value {
        Value::Object(vars) if file == "vars.json" => {
            vars.iter().map(|(name, help)| (name.clone(), help.clone())).collect()
        }
        Value::Array(rows) if file != "vars.json" => {
            let name = |row: &Value| {
                let key = ["name", "uuid", "cidr"].iter().find_map(|key| row.get(key)?.as_str());
                key.unwrap_or_default().chars().take(80).collect()
            };
            rows.iter().map(|row| (name(row), row.clone())).collect()
        }
        _ if file == "vars.json" => return Err(refuse("an object of help texts")),
        _ => return Err(refuse("an array of rows")),
    };
    if rows.len() > MOST_ROWS { Err(refuse("at most 20000 rows")) } else { Ok(rows) }
}

impl App {
    /// Reads files in. Nothing is written when a file as a whole cannot be read; a row that cannot
    /// be is reported and the others are written.
    pub(crate) async fn import(&self, files: &Files) -> Result<Vec<Finding>, Problem> {
        let mut all = Vec::new();
        if let Some(name) = files.keys().find(|name| !FILES.contains(&name.as_str())) {
            let shown = name.escape_debug();
            let known = FILES.join(", ");
            let detail = format!("file `{shown}` is not known; known are {known}");
            return Err(Problem::new(ErrorCode::InvalidValue, detail));
        }
        for file in FILES {
            if let Some(value) = files.get(file) {
                all.push((file, rows(file, value)?));
            }
        }
        let mut report = Vec::new();
        for (file, rows) in all {
            for (name, row) in rows {
                let (fate, detail) = match self.import_row(file, &name, &row).await {
                    Ok(verdict) => verdict,
                    Err(problem) if problem.status == 404 => (Fate::Unresolved, problem.detail),
                    Err(problem) if problem.status < 500 => (Fate::Refused, problem.detail),
                    Err(problem) if problem.code == ErrorCode::StoreUnavailable => {
                        return Err(problem);
                    }
                    Err(problem) => (Fate::Unresolved, problem.detail),
                };
                report.push(Finding { file: file.to_owned(), name, fate, detail });
            }
        }
        Ok(report)
    }

    /// One row of a file.
    pub(crate) async fn import_row(&self, file: &str, name: &str, row: &Value) -> Verdict {
        let built_in =
            matches!(file, "golds.json" | "iso.json") && row.get("name") == Some(&json!(""));
        if built_in {
            // The described system has a row without a name for the data disk and for the seed's ISO.
            return Ok((Fate::Kept, "built in".to_owned()));
        }
        match file {
            "hosts.json" => self.import_host(read(row)?).await,
            "devices.json" => self.compare_device(read(row)?).await,
            "golds.json" => self.import_gold(read(row)?).await,
            "iso.json" => self.import_iso(read(row)?).await,
            "ippool.json" => self.import_range(&read(row)?).await,
            "guests.json" => Ok(self.compare_guest(&read(row)?)),
            _ => self.import_variable(name, row).await,
        }
    }

    async fn import_host(&self, row: HostRow) -> Verdict {
        let url = agent_url(&row);
        let known = match self.host(&row.name).await {
            Ok(known) if known.record.url != url => {
                let at = known.record.url;
                return Ok((Fate::Kept, format!("is registered at {at}; remove it first")));
            }
            Ok(known) => known,
            Err(problem) if problem.code == ErrorCode::NoSuchHost => {
                let (name, description) = (row.name, row.desc);
                let record =
                    HostRecord { name, url, description, info: None, modified: String::new() };
                let added = self.add_host(record).await?;
                return Ok(template(&row.tpl, &added.record, Fate::Written));
            }
            Err(problem) => return Err(problem),
        };
        Ok(template(&row.tpl, &known.record, Fate::Kept))
    }

    async fn compare_device(&self, row: DeviceRow) -> Verdict {
        let info = self.host_info(&row.kvmhost).await?;
        Ok(if info.devices.iter().any(|device| device.name == row.name) {
            (Fate::Kept, format!("host `{}` offers it", row.kvmhost))
        } else {
            let rule = "add it to the agent's configuration";
            (Fate::Unresolved, format!("host `{}` has no such device; {rule}", row.kvmhost))
        })
    }

    async fn import_gold(&self, row: GoldRow) -> Verdict {
        let GoldRow { name, arch, uri, sha256, size, desc: description } = row;
        let image =
            ImageRecord { name, arch, uri, sha256, size, description, modified: String::new() };
        let image = self.put_image(image).await?;
        Ok((Fate::Written, format!("from {}", image.uri)))
    }

    async fn import_iso(&self, row: IsoRow) -> Verdict {
        let mut iso = IsoRecord::at(row.name, &row.uri, row.desc)?;
        iso.tls_verify = row.tls_verify;
        let iso = self.put_iso(iso).await?;
        let how = if iso.url.is_some() { "over the network" } else { "on the hosts" };
        Ok((Fate::Written, format!("{} {how}", iso.place())))
    }

    async fn import_range(&self, range: &NewRange) -> Verdict {
        match self.add_range(range).await {
            Ok(_) => Ok((Fate::Written, String::new())),
            Err(problem) if problem.code == ErrorCode::AlreadyExists => {
                Ok((Fate::Kept, problem.detail))
            }
            Err(problem) => Err(problem),
        }
    }

    fn compare_guest(&self, row: &GuestRow) -> (Fate, String) {
        let fleet = self.listing();
        let known =
            fleet.guests().any(|(host, domain)| *host == row.kvmhost && domain.id == row.uuid);
        if known {
            (Fate::Kept, format!("runs on host `{}`", row.kvmhost))
        } else {
            (Fate::Unresolved, format!("host `{}` has no such guest now", row.kvmhost))
        }
    }

    async fn import_variable(&self, name: &str, help: &Value) -> Verdict {
        let refuse = |rule: &str| Problem::new(ErrorCode::InvalidValue, rule);
        ResourceName::parse(name)?;
        let help = help.as_str().filter(|help| help.len() <= 1000);
        let help = help.ok_or_else(|| refuse("expected a help text of up to 1000 bytes"))?;
        self.store.put(Table::Variables, name, &to_text(&help)?).await?;
        Ok((Fate::Written, String::new()))
    }

    /// Help texts of template variables.
    pub(crate) async fn variables(&self) -> Result<BTreeMap<String, String>, Problem> {
        let all = self.store.list(Table::Variables).await?;
        all.into_iter().map(|(name, text)| Ok((name, from_text(&text)?))).collect()
    }

    /// All files, as they can be read in again.
    pub(crate) async fn export(&self) -> Result<Files, Problem> {
        let mut devices = Vec::new();
        let mut hosts = Vec::new();
        for host in self.hosts().await? {
            let record = host.record;
            let info = record.info.as_ref();
            for device in info.map(|info| info.devices.as_slice()).unwrap_or_default() {
                devices.push(json!({"kvmhost": record.name, "name": device.name, "action": "",
                    "devtype": device.kind, "tpl": device.template, "desc": device.description}));
            }
            hosts.push(json!({"name": record.name, "url": record.url, "tpl": "",
                "arch": info.map(|info| info.arch), "ipaddr": "", "desc": record.description}));
        }
        let golds = self.images(None).await?.into_iter().map(|image| {
            let mut row = json!({"name": image.name, "arch": image.arch, "tpl": image.uri, "desc": image.description});
            add(&mut row, "sha256", image.sha256);
            add(&mut row, "size", image.size);
            row
        });
        let isos = self.isos().await?.into_iter().map(|iso| {
            let mut row = json!({"name": iso.name, "uri": iso.place(), "desc": iso.description});
            add(&mut row, "tls_verify", iso.tls_verify);
            row
        });
        let ranges = self.ranges().await?.into_iter().map(|range| {
            let mut row = json!({"cidr": format!("{}/{}", range.first, range.prefix)});
            add(&mut row, "gateway", range.gateway);
            if range.first != range.last {
                add(&mut row, "first", Some(range.first));
                add(&mut row, "last", Some(range.last));
            }
            row
        });
        let fleet = self.listing();
        let guests = fleet.guests().map(|(host, domain)| {
            json!({"kvmhost": host, "uuid": domain.id, "arch": domain.arch, "desc": domain.description})
        });
        let vars: Map<String, Value> =
            self.variables().await?.into_iter().map(|(name, help)| (name, json!(help))).collect();
        let contents = [
            Value::Array(hosts),
            Value::Array(devices),
            golds.collect(),
            isos.collect(),
            ranges.collect(),
            guests.collect(),
            Value::Object(vars),
        ];
        Ok(FILES.map(str::to_owned).into_iter().zip(contents).collect())
    }
}

fn add<T: Serialize>(row: &mut Value, name: &str, value: Option<T>) {
    if let Some(value) = value {
        row[name] = json!(value);
    }
}

/// Whether the host has the template that the row names; files end in a suffix there.
fn template(name: &str, record: &HostRecord, fate: Fate) -> (Fate, String) {
    let known = record.info.as_ref().map(|info| info.templates.as_slice()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    if name.is_empty() || known.iter().any(|t| t.as_str() == name || t.as_str() == stem) {
        return (fate, format!("agent at {}", record.url));
    }
    let shown = name.escape_debug();
    (Fate::Unresolved, format!("the host has no template `{shown}`; it uses the built-in one"))
}
