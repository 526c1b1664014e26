//! Guests.

use std::collections::BTreeMap;

use actix_web::http::header::{ETAG, EntityTag};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use vmmgr_common::api::domain::{
    DomainCreate, Firmware, Graphics, GuestRecord, InterfaceAddresses, SeedMode,
};
use vmmgr_common::api::host::Arch;
use vmmgr_common::api::operation::Work;
use vmmgr_common::api::seed::{BootTrace, Reseed, SeedPreview, SeedSpec};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::{HostId, ResourceName, VmId};

use super::submit::{submission, submit};
use crate::app::App;
use crate::app::operations::now;
use crate::auth::{Caller, ManageVms, ReadFleet};
use crate::listing;

/// Body of `POST /v1/hosts/{host}/vms`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VmCreate {
    name: ResourceName,
    #[serde(default)]
    description: String,
    arch: Option<Arch>,
    template: Option<ResourceName>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default = "one")]
    vcpus: u32,
    vcpus_max: Option<u32>,
    #[serde(default = "gibibyte")]
    memory_mib: u64,
    memory_mib_max: Option<u64>,
    firmware: Option<Firmware>,
    #[serde(default)]
    tpm: bool,
    #[serde(default)]
    graphics: Graphics,
    cpu_model: Option<ResourceName>,
    machine: Option<ResourceName>,
    #[serde(default)]
    seed_mode: SeedMode,
    #[serde(default)]
    seed: SeedSpec,
}

const fn one() -> u32 {
    1
}

const fn gibibyte() -> u64 {
    1024
}

pub(super) type VmPath = web::Path<(String, String)>;

/// Host and guest of a path.
pub(super) fn place(path: &VmPath) -> Result<(HostId, VmId), Problem> {
    Ok((HostId::parse(&path.0)?, VmId::parse(&path.1)?))
}

pub(super) async fn fleet(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    request: HttpRequest,
) -> HttpResponse {
    listing::v1(&request, &app.listing())
}

pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    host: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Ok(listing::v1(&request, &app.listing_of(&HostId::parse(&host)?)?))
}

pub(super) async fn show(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: VmPath,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let view = app.vm(&host, vm).await?;
    let tag = EntityTag::new_strong(view.domain.version());
    Ok(HttpResponse::Ok().insert_header((ETAG, tag)).json(view))
}

pub(super) async fn create(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    host: web::Path<String>,
    body: web::Json<VmCreate>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let host = HostId::parse(&host)?;
    let how = submission(&request, &*body)?;
    let asked = body.into_inner();
    let arch = match asked.arch {
        Some(arch) => arch,
        None => app.host_info(&host).await?.arch,
    };
    let default_firmware = if arch == Arch::Aarch64 { Firmware::Uefi } else { Firmware::Bios };
    let record = GuestRecord {
        creator: who.identity.user.clone(),
        created: now(),
        ipaddr: asked.seed.network.as_ref().map(|n| n.address.clone()).unwrap_or_default(),
        gateway: asked.seed.network.as_ref().and_then(|n| n.gateway.clone()).unwrap_or_default(),
        template: asked.template.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..GuestRecord::default()
    };
    let domain = DomainCreate {
        id: VmId::new(),
        name: asked.name,
        description: asked.description,
        arch,
        template: asked.template,
        variables: asked.variables,
        vcpus: asked.vcpus,
        vcpus_max: asked.vcpus_max.unwrap_or(asked.vcpus),
        memory_mib: asked.memory_mib,
        memory_mib_max: asked.memory_mib_max.unwrap_or(asked.memory_mib),
        firmware: asked.firmware.unwrap_or(default_firmware),
        tpm: asked.tpm,
        graphics: asked.graphics,
        cpu_model: asked.cpu_model,
        machine: asked.machine,
        seed_mode: asked.seed_mode,
        seed: asked.seed,
        record,
    };
    submit(&app, &who.identity, &host, Work::Create { domain: Box::new(domain) }, how).await
}

async fn act(
    app: &App,
    who: &Caller<ManageVms>,
    path: &VmPath,
    request: &HttpRequest,
    work: impl FnOnce(VmId) -> Work,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(path)?;
    submit(app, &who.identity, &host, work(vm), submission(request, &())?).await
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident => $work:ident;)*) => {
        $($(#[$doc])* pub(super) async fn $name(
            app: web::Data<App>,
            who: Caller<ManageVms>,
            path: VmPath,
            request: HttpRequest,
        ) -> Result<HttpResponse, Problem> {
            act(&app, &who, &path, &request, |vm| Work::$work { vm }).await
        })*
    };
}

actions! {
    /// Starts it.
    start => Start;
    /// Asks it to shut down.
    shutdown => Shutdown;
    /// Cuts its power.
    poweroff => Destroy;
    /// Presses its reset button.
    reset => Reset;
    /// Stops its CPUs.
    suspend => Suspend;
    /// Lets its CPUs go on.
    resume => Resume;
    /// Asks it to restart.
    reboot => Reboot;
    /// Deletes it with its volumes and its seed.
    remove => Delete;
}

pub(super) async fn xml(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: VmPath,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let xml = app.agent(&host)?.xml(vm).await?;
    Ok(HttpResponse::Ok().content_type("text/xml; charset=utf-8").body(xml))
}

pub(super) async fn addresses(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: VmPath,
) -> Result<web::Json<Vec<InterfaceAddresses>>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.agent(&host)?.addresses(vm).await?))
}

pub(super) async fn boot(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: VmPath,
) -> Result<web::Json<BootTrace>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.agent(&host)?.boot_trace(vm).await?))
}

pub(super) async fn seed(
    app: web::Data<App>,
    _: Caller<ManageVms>,
    path: VmPath,
) -> Result<web::Json<SeedPreview>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.agent(&host)?.seed_preview(vm).await?))
}

/// Another seed: another instance to cloud-init, which configures the guest anew at its next boot.
pub(super) async fn put_seed(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: web::Json<SeedSpec>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let how = submission(&request, &*body)?;
    let work = Work::Reseed { vm, seed: Some(Box::new(body.into_inner())), new_instance: false };
    submit(&app, &who.identity, &host, work, how).await
}

/// The same seed again.
pub(super) async fn reseed(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: web::Json<Reseed>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let how = submission(&request, &*body)?;
    let work = Work::Reseed { vm, seed: None, new_instance: body.new_instance };
    submit(&app, &who.identity, &host, work, how).await
}
