//! `/tpl/…` and `/vm/list/…`.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};
use vmmgr_common::api::domain::{Domain, DomainState};
use vmmgr_common::api::host::{Arch, HostInfo};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::{HostId, VmId};

use super::envelope::{answer, ok, refuse};
use crate::app::App;
use crate::auth::{Caller, ReadFleet};
use crate::fleet::Face;
use crate::listing;
use crate::query::Arguments;

/// The seed's words for run states.
const fn state(state: DomainState) -> &'static str {
    match state {
        DomainState::NoState => "NA",
        DomainState::Running => "RUN",
        DomainState::Blocked => "BLOCK",
        DomainState::Paused => "PAUSED",
        DomainState::ShuttingDown => "SHUTDOWN",
        DomainState::ShutOff => "SHUTOFF",
        DomainState::Crashed => "CRASH",
        DomainState::Suspended => "SUSPEND",
    }
}

fn parts(domain: &Domain) -> (Value, Value, Value) {
    let record = &domain.record;
    let mdconfig = json!({"ipaddr": record.ipaddr, "gateway": record.gateway,
        "create": record.created, "creater": record.creator});
    let disks = domain
        .disks
        .iter()
        .map(|d| json!({"device": d.device, "type": d.source_type, "dev": d.target, "bus": d.bus, "vol": d.source}))
        .collect();
    let nets = domain
        .nics
        .iter()
        .map(|n| json!({"type": n.source, "mac": n.mac, "model": n.model}))
        .collect();
    (mdconfig, Value::Array(disks), Value::Array(nets))
}

pub(super) fn live(domain: &Domain) -> Value {
    let (mdconfig, disks, nets) = parts(domain);
    json!({"uuid": domain.id, "desc": domain.description, "curcpu": domain.vcpus,
        "curmem": domain.memory_kib, "mdconfig": mdconfig, "maxcpu": domain.vcpus_max,
        "maxmem": domain.memory_kib_max, "cputime": domain.cpu_time_ns, "state": state(domain.state),
        "disks": disks, "nets": nets})
}

/// The fleet's list has these three as JSON in strings, as the seed's table has.
fn cached(host: &HostId, domain: &Domain) -> Value {
    let (mdconfig, disks, nets) = parts(domain);
    json!({"kvmhost": host, "arch": domain.arch, "uuid": domain.id, "desc": domain.description,
        "curcpu": domain.vcpus, "curmem": domain.memory_kib, "mdconfig": mdconfig.to_string(),
        "maxcpu": domain.vcpus_max, "maxmem": domain.memory_kib_max, "cputime": domain.cpu_time_ns,
        "disks": disks.to_string(), "nets": nets.to_string()})
}

pub(super) async fn hosts(app: web::Data<App>, _: Caller<ReadFleet>) -> HttpResponse {
    let list = async {
        let rows = app.hosts().await?.into_iter().map(|host| {
            let arch = host.record.info.as_ref().map(|info| info.arch);
            let vars = host.record.info.as_ref().map(variables).unwrap_or_default();
            json!({"vars": vars, "name": host.record.name, "url": host.record.url, "arch": arch,
                "ipaddr": address(&host.record.url), "active": host.active,
                "inactive": host.inactive, "desc": host.record.description,
                "last_modified": host.record.modified})
        });
        Ok(rows.collect())
    };
    answer("/tpl/host/", list.await)
}

/// Variables of all the host's domain templates with their help: what a create may set.
fn variables(info: &HostInfo) -> Map<String, Value> {
    let all = info.template_variables.values().flatten();
    all.map(|(name, about)| (name.clone(), about.summary().into())).collect()
}

/// `10.0.0.1` of `https://10.0.0.1:7442`.
fn address(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

pub(super) async fn isos(app: web::Data<App>, _: Caller<ReadFleet>) -> HttpResponse {
    let list = async {
        let rows = app.isos().await?.into_iter().map(|iso| {
            json!({"name": iso.name, "uri": iso.place(), "desc": iso.description, "last_modified": iso.modified})
        });
        Ok(rows.collect())
    };
    answer("/tpl/iso/", list.await)
}

async fn device_rows(app: &App, host: &HostId, rows: &mut Vec<Value>) -> Result<(), Problem> {
    let info = app.host_info(host).await?;
    let modified = app.host(host).await?.record.modified;
    rows.extend(info.devices.into_iter().map(|device| {
        let vars: Map<String, Value> = device
            .variables
            .iter()
            .map(|(name, about)| (name.clone(), about.summary().into()))
            .collect();
        json!({"vars": vars, "kvmhost": host, "name": device.name, "action": "", "devtype": device.kind,
            "tpl": device.template, "desc": device.description, "last_modified": modified})
    }));
    Ok(())
}

pub(super) async fn devices(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    host: web::Path<String>,
) -> HttpResponse {
    let list = async {
        let mut rows = Vec::new();
        device_rows(&app, &HostId::parse(&host)?, &mut rows).await?;
        Ok(Value::Array(rows))
    };
    answer("/tpl/device/", list.await)
}

/// The devices of all hosts.
pub(super) async fn all_devices(app: web::Data<App>, _: Caller<ReadFleet>) -> HttpResponse {
    let list = async {
        let mut rows = Vec::new();
        for host in app.hosts().await? {
            device_rows(&app, &host.record.name, &mut rows).await?;
        }
        Ok(Value::Array(rows))
    };
    answer("/tpl/device/", list.await)
}

async fn gold_rows(app: &App, arch: Option<Arch>) -> Result<Value, Problem> {
    let rows = app.images(arch).await?.into_iter().map(|image| {
        let gib = image.size.map(|size| size.bytes().div_ceil(1 << 30));
        json!({"name": image.name, "arch": image.arch, "tpl": image.uri, "uri": image.uri,
            "size": gib, "desc": image.description, "last_modified": image.modified})
    });
    Ok(rows.collect())
}

/// Gold images for a host, or for an architecture by its name.
pub(super) async fn golds(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    host: web::Path<String>,
) -> HttpResponse {
    let list = async {
        let named = [Arch::X86_64, Arch::Aarch64].into_iter().find(|arch| arch.as_str() == *host);
        let arch = match named {
            Some(arch) => arch,
            None => app.host_info(&HostId::parse(&host)?).await?.arch,
        };
        gold_rows(&app, Some(arch)).await
    };
    answer("/tpl/gold/", list.await)
}

pub(super) async fn all_golds(app: web::Data<App>, _: Caller<ReadFleet>) -> HttpResponse {
    answer("/tpl/gold/", gold_rows(&app, None).await)
}

pub(super) async fn fleet(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    request: HttpRequest,
) -> HttpResponse {
    listing::answer(
        &request,
        &app.listing(),
        |_, _| "{".to_owned(),
        |host, guest| guest.row(Face::CompatFleet, |domain| cached(host, domain).to_string()),
    )
}

pub(super) async fn host(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    host: web::Path<String>,
    request: HttpRequest,
) -> HttpResponse {
    let found = HostId::parse(&host).map_err(Problem::from).and_then(|host| app.listing_of(&host));
    match found {
        Ok(listing) => listing::answer(
            &request,
            &listing,
            |_, _| "{".to_owned(),
            |_, guest| guest.row(Face::CompatHost, |domain| live(domain).to_string()),
        ),
        Err(problem) => refuse("list", &problem),
    }
}

type Place = web::Path<(String, String)>;

fn place(path: &Place) -> Result<(HostId, VmId), Problem> {
    Ok((HostId::parse(&path.0)?, VmId::parse(&path.1)?))
}

pub(super) async fn guest(app: web::Data<App>, _: Caller<ReadFleet>, path: Place) -> HttpResponse {
    let one = async {
        let (host, vm) = place(&path)?;
        Ok(live(&app.vm(&host, vm).await?.domain))
    };
    answer("list", one.await)
}

pub(super) async fn addresses(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: Place,
) -> HttpResponse {
    let one = async {
        let (host, vm) = place(&path)?;
        let mut by_mac = serde_json::Map::new();
        for interface in app.agent(&host)?.addresses(vm).await? {
            let addrs: Vec<Value> = interface
                .addresses
                .iter()
                .map(|a| json!({"addr": a.address.split('/').next(), "type": a.family}))
                .collect();
            by_mac
                .insert(interface.mac.to_string(), json!({"name": interface.name, "addrs": addrs}));
        }
        Ok(ok("get_ipaddr ok", Value::Object(by_mac)))
    };
    answer("ipaddr", one.await)
}

pub(super) async fn xml(app: web::Data<App>, _: Caller<ReadFleet>, path: Place) -> HttpResponse {
    let one = async {
        let (host, vm) = place(&path)?;
        app.agent(&host)?.xml(vm).await
    };
    match one.await {
        Ok(xml) => HttpResponse::Ok().content_type("text/xml; charset=utf-8").body(xml),
        Err(problem) => refuse("xml", &problem),
    }
}

/// A free address of the pool; creating a guest with it reserves it.
pub(super) async fn free_address(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    request: HttpRequest,
) -> HttpResponse {
    let one = async {
        Arguments::of(&request, &[])?;
        let none = || "N/A".to_owned();
        let (cidr, gateway) = match app.free_address().await? {
            Some((net, gateway)) => (net.to_string(), gateway.map_or_else(none, |g| g.to_string())),
            None => (none(), none()),
        };
        Ok(ok("freeip ok", json!({"cidr": cidr, "gateway": gateway})))
    };
    answer("freeip", one.await)
}
