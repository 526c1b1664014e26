//! `/conf/…`: the configuration plane of the described system's newest version.

use actix_web::http::header::CONTENT_DISPOSITION;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};
use vmmgr_common::api::host::Arch;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, ResourceName};

use super::envelope::{answer, ok, refuse};
use super::{devices, multipart};
use crate::app::App;
use crate::app::archive;
use crate::app::transfer::Fate;
use crate::auth::{Caller, ManageRecords, ReadFleet};
use crate::query::Arguments;

/// Largest archive that is read.
const LARGEST_ARCHIVE: usize = 1 << 20;

pub(super) async fn show(_: Caller<ManageRecords>, request: HttpRequest) -> HttpResponse {
    let run = || {
        Arguments::of(&request, &[])?;
        let conf = json!({"VERSION": env!("CARGO_PKG_VERSION"), "META_SRV": "169.254.169.254",
            "GOLD_SRV": "", "CTRL_SRV": ""});
        Ok(ok("conf", json!({ "conf": conf })))
    };
    answer("conf", run())
}

pub(super) async fn domains(app: web::Data<App>, _: Caller<ReadFleet>) -> HttpResponse {
    let run = async {
        let mut names: Vec<ResourceName> = Vec::new();
        for host in app.hosts().await? {
            names.extend(host.record.info.into_iter().flat_map(|info| info.templates));
        }
        names.sort();
        names.dedup();
        Ok(ok("domains", json!({ "domains": names })))
    };
    answer("domains", run.await)
}

pub(super) async fn device_list(app: web::Data<App>, _: Caller<ReadFleet>) -> HttpResponse {
    let run = async {
        let mut found = Map::new();
        for host in app.hosts().await? {
            for device in host.record.info.into_iter().flat_map(|info| info.devices) {
                found.insert(device.name.to_string(), json!(device.description));
            }
        }
        Ok(ok("devices", json!({ "devices": found })))
    };
    answer("devices", run.await)
}

/// `/conf/host/`, `/conf/iso/`, `/conf/gold/`: a row as the record file has it.
async fn put(app: &App, request: &HttpRequest, body: &[u8], noun: &str) -> Result<Value, Problem> {
    Arguments::of(request, &[])?;
    let row: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::new(ErrorCode::MalformedRequest, format!("body: {error}")))?;
    let name = row.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| devices::missing("name"))?.to_owned();
    match app.import_row(&format!("{noun}.json"), &name, &row).await? {
        (Fate::Written, detail) => Ok(ok(format!("{name} ok"), json!({ "detail": detail }))),
        (Fate::Kept | Fate::Unresolved | Fate::Refused, detail) => {
            Err(Problem::new(ErrorCode::WrongState, format!("{name}: {detail}")))
        }
    }
}

macro_rules! puts {
    ($($name:ident: $file:literal;)*) => {
        $(pub(super) async fn $name(
            app: web::Data<App>,
            _: Caller<ManageRecords>,
            request: HttpRequest,
            body: web::Bytes,
        ) -> HttpResponse {
            answer(stringify!($name), put(&app, &request, &body, $file).await)
        })*
    };
}

puts! {
    put_host: "hosts";
    put_iso: "iso";
    put_gold: "golds";
}

fn named(arguments: &Arguments) -> Result<&str, Problem> {
    arguments.get("name").ok_or_else(|| devices::missing("name"))
}

pub(super) async fn remove_host(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    request: HttpRequest,
) -> HttpResponse {
    let run = async {
        let arguments = Arguments::of(&request, &["name"])?;
        let host = HostId::parse(named(&arguments)?)?;
        app.remove_host(&host).await?;
        Ok(ok(format!("{host} removed"), json!({})))
    };
    answer("host", run.await)
}

pub(super) async fn remove_iso(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    request: HttpRequest,
) -> HttpResponse {
    let run = async {
        let arguments = Arguments::of(&request, &["name"])?;
        let name = ResourceName::parse(named(&arguments)?)?;
        app.remove_iso(&name).await?;
        Ok(ok(format!("{name} removed"), json!({})))
    };
    answer("iso", run.await)
}

pub(super) async fn remove_gold(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    request: HttpRequest,
) -> HttpResponse {
    let run = async {
        let arguments = Arguments::of(&request, &["name", "arch"])?;
        let name = ResourceName::parse(named(&arguments)?)?;
        let arch = match arguments.get("arch") {
            Some("x86_64") => Arch::X86_64,
            Some("aarch64") => Arch::Aarch64,
            _ => {
                let rule = "arch: expected x86_64 or aarch64";
                return Err(Problem::new(ErrorCode::InvalidValue, rule));
            }
        };
        app.remove_image(&name, arch).await?;
        Ok(ok(format!("{name} removed"), json!({})))
    };
    answer("gold", run.await)
}

pub(super) async fn backup(app: web::Data<App>, _: Caller<ManageRecords>) -> HttpResponse {
    match app.export().await.and_then(|files| archive::pack(&files)) {
        Ok(bytes) => HttpResponse::Ok()
            .content_type("application/gzip")
            .insert_header((CONTENT_DISPOSITION, "attachment; filename=\"vmmgr-backup.tgz\""))
            .body(bytes),
        Err(problem) => refuse("backup", &problem),
    }
}

/// Overwrites what is in the archive and keeps the rest, as the described system does. `skip` names
/// the files that were not read and the rows that were not written.
pub(super) async fn restore(
    app: web::Data<App>,
    _: Caller<ManageRecords>,
    request: HttpRequest,
    body: web::Payload,
) -> HttpResponse {
    let run = async {
        Arguments::of(&request, &[])?;
        let bytes = multipart::file(&request, body, LARGEST_ARCHIVE).await?;
        let bytes = bytes.ok_or_else(|| devices::missing("file"))?;
        let content = archive::unpack(&bytes)?;
        let report = app.import(&content.files).await?;
        let apply = report.iter().filter(|row| row.fate == Fate::Written).count();
        let mut skip = content.skipped;
        for row in report.iter().filter(|row| matches!(row.fate, Fate::Unresolved | Fate::Refused))
        {
            skip.push(format!("{} {}: {}", row.file, row.name, row.detail));
        }
        let total = report.len();
        Ok(ok("restore ok", json!({"total": total, "apply": apply, "skip": skip})))
    };
    answer("restore", run.await)
}

/// The described system took a root password here to put its SSH key onto the host. There is no such
/// key any more: an agent proves itself with its certificate. The body is not read, so that no
/// password is.
pub(super) async fn keys(_: Caller<ManageRecords>) -> HttpResponse {
    let detail = "no SSH key is used any more and no password is taken: issue the host's certificates with \
                  `vmmctl pki host NAME`, start its agent, then `vmmctl host add NAME --url URL`";
    refuse("add_authorized_keys", &Problem::new(ErrorCode::Gone, detail))
}
