//! `/vm/{blksize,netstat,desc,setmem,setcpu,metadata,snapshot,revert_snapshot,delete_snapshot}`.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};
use vmmgr_common::api::disk::TargetName;
use vmmgr_common::api::operation::Work;
use vmmgr_common::api::snapshot::SnapshotCreate;
use vmmgr_common::api::tuning::DomainChange;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, MacAddress, ResourceName, VmId};

use super::envelope::{answer, ok};
use super::power::settle;
use crate::app::App;
use crate::auth::{Caller, Identity, ManageVms, ReadFleet};
use crate::query::Arguments;

type Place = web::Path<(String, String)>;

fn place(path: &Place) -> Result<(HostId, VmId), Problem> {
    Ok((HostId::parse(&path.0)?, VmId::parse(&path.1)?))
}

/// A parameter of the query.
fn given(request: &HttpRequest, key: &str) -> Result<Option<String>, Problem> {
    Ok(Arguments::of(request, &[key])?.get(key).map(str::to_owned))
}

fn needed(request: &HttpRequest, key: &str) -> Result<String, Problem> {
    let missing = || Problem::new(ErrorCode::InvalidValue, format!("{key}: missing"));
    given(request, key)?.ok_or_else(missing)
}

fn number<T: std::str::FromStr>(request: &HttpRequest, key: &str) -> Result<T, Problem> {
    let odd = || Problem::new(ErrorCode::InvalidValue, format!("{key}: expected a whole number"));
    needed(request, key)?.parse().map_err(|_| odd())
}

pub(super) async fn blksize(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: Place,
    request: HttpRequest,
) -> HttpResponse {
    let run = async {
        let ((host, vm), dev) = (place(&path)?, needed(&request, "dev")?);
        let usage = app.agent(&host)?.disk_usage(vm, &TargetName::parse(&dev)?).await?;
        let size = format!("{}MiB", usage.capacity_bytes >> 20);
        Ok(ok("blksize ok", json!({"dev": dev, "size": size})))
    };
    answer("blksize", run.await)
}

pub(super) async fn netstat(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: Place,
    request: HttpRequest,
) -> HttpResponse {
    let run = async {
        let ((host, vm), dev) = (place(&path)?, needed(&request, "dev")?);
        let stats = app.agent(&host)?.nic_stats(vm, MacAddress::parse(&dev)?).await?;
        let both = json!({"rx": stats.rx_bytes, "tx": stats.tx_bytes});
        Ok(ok("netstat ok", json!({"dev": dev, "stats": both})))
    };
    answer("netstat", run.await)
}

/// What `/vm/{verb}` asks to be changed.
fn change(verb: &str, request: &HttpRequest) -> Result<DomainChange, Problem> {
    let nothing = DomainChange::default();
    Ok(match verb {
        "desc" => DomainChange { description: Some(needed(request, "vm_desc")?), ..nothing },
        "setmem" => DomainChange { memory_mib: Some(number(request, "vm_ram_mb")?), ..nothing },
        _ => DomainChange { vcpus: Some(number(request, "vm_vcpus")?), ..nothing },
    })
}

async fn configure(
    app: &App,
    who: &Identity,
    (host, vm): (HostId, VmId),
    change: DomainChange,
) -> Result<bool, Problem> {
    let record = settle(app, who, &host, Work::Configure { vm, change: Box::new(change) }).await?;
    Ok(record.operation.outcome.restart_needed)
}

pub(super) async fn set(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: Place,
    request: HttpRequest,
) -> HttpResponse {
    let verb = request.path().split('/').nth(2).unwrap_or_default().to_owned();
    let run = async {
        let (host, vm) = place(&path)?;
        let later = configure(&app, &who.identity, (host, vm), change(&verb, &request)?).await?;
        let warn = if later { json!({"warn": "effective after restart"}) } else { json!({}) };
        Ok(ok(format!("{vm} {verb} ok"), warn))
    };
    answer(&verb, run.await)
}

/// Values may be text, numbers or booleans, as the seed's forms send them; null removes a key.
/// The seed's own two keys are left out, as it does.
fn pairs(body: &[u8]) -> Result<BTreeMap<String, Option<String>>, Problem> {
    let map: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| Problem::new(ErrorCode::MalformedRequest, format!("body: {error}")))?;
    let mut metadata = BTreeMap::new();
    for (key, value) in map.into_iter().filter(|(k, _)| k != "vm_create" && k != "vm_creater") {
        let value = match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            Value::Array(_) | Value::Object(_) => {
                let detail = format!("{}: expected text", key.escape_debug());
                return Err(Problem::new(ErrorCode::InvalidValue, detail));
            }
        };
        metadata.insert(key, value);
    }
    Ok(metadata)
}

pub(super) async fn metadata(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: Place,
    body: web::Bytes,
) -> HttpResponse {
    let run = async {
        let (host, vm) = place(&path)?;
        let change = DomainChange { metadata: pairs(&body)?, ..DomainChange::default() };
        configure(&app, &who.identity, (host, vm), change).await?;
        let warn = json!({"warn": "no metadata iso regenerate"});
        Ok(ok(format!("{vm} metadata ok"), warn))
    };
    answer("metadata", run.await)
}

/// Snapshots as the seed lists them.
pub(super) async fn listed(
    app: &App,
    host: &HostId,
    vm: VmId,
    desc: String,
) -> Result<Value, Problem> {
    let all = app.agent(host)?.snapshots(vm).await?;
    let names: Vec<&str> = all.iter().map(|snapshot| snapshot.name.as_str()).collect();
    let current = all.iter().find(|snapshot| snapshot.current).map(|s| s.name.as_str());
    let current = current.unwrap_or_default();
    Ok(ok(desc, json!({"num": names.len(), "names": names, "current": current})))
}

pub(super) async fn snapshots(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: Place,
) -> HttpResponse {
    let run = async {
        let (host, vm) = place(&path)?;
        listed(&app, &host, vm, "snapshot ok".to_owned()).await
    };
    answer("snapshot", run.await)
}

/// Takes one; without a name it is named after the time.
pub(super) async fn take(
    app: &App,
    who: &Identity,
    (host, vm): (&HostId, VmId),
    name: Option<&str>,
) -> Result<Value, Problem> {
    let named = name.filter(|name| !name.is_empty()).map(str::to_owned);
    let name = named.unwrap_or_else(|| chrono::Utc::now().format("%Y%m%dT%H%M%SZ").to_string());
    let name = ResourceName::parse(&name)?;
    let desc = format!("create snapshot {name} ok");
    let snapshot = SnapshotCreate { name, description: String::new() };
    settle(app, who, host, Work::CreateSnapshot { vm, snapshot }).await?;
    listed(app, host, vm, desc).await
}

pub(super) async fn snapshot(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: Place,
    request: HttpRequest,
) -> HttpResponse {
    let run = async {
        let (host, vm) = place(&path)?;
        let name = given(&request, "name")?;
        take(&app, &who.identity, (&host, vm), name.as_deref()).await
    };
    answer("snapshot", run.await)
}

pub(super) async fn change_snapshot(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: Place,
    request: HttpRequest,
) -> HttpResponse {
    let verb = request.path().split('/').nth(2).unwrap_or_default().to_owned();
    let run = async {
        let (host, vm) = place(&path)?;
        let name = ResourceName::parse(&needed(&request, "name")?)?;
        let desc = format!("{verb} {name} ok");
        let work = match verb.as_str() {
            "revert_snapshot" => Work::RevertSnapshot { vm, name },
            _ => Work::DeleteSnapshot { vm, name },
        };
        settle(&app, &who.identity, &host, work).await?;
        Ok(ok(desc, json!({})))
    };
    answer(&verb, run.await)
}
