//! Guests.

use std::collections::BTreeMap;

use actix_web::http::header::{ETAG, EntityTag};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::api::domain::{
    DomainCreate, Firmware, Graphics, GuestRecord, InterfaceAddresses, SeedMode,
};
use vmmgr_common::api::host::Arch;
use vmmgr_common::api::operation::Work;
use vmmgr_common::api::seed::{BootTrace, Reseed, SeedPreview, SeedSpec};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::{HostId, ResourceName, VmId};

use super::body::Json;
use super::submit::{Submitted, submission, submit};
use crate::app::App;
use crate::app::operations::now;
use crate::app::vms::VmView;
use crate::auth::{Caller, ManageVms, ReadFleet};
use crate::listing;

/// Body of `POST /v1/hosts/{host}/vms`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VmCreate {
    /// 1 to 63 characters; libvirt's name is this and the id.
    name: ResourceName,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 1000)]
    description: String,
    /// The host's own when absent.
    arch: Option<Arch>,
    /// Domain template on the host; the architecture's built-in when absent.
    template: Option<ResourceName>,
    /// Values for variables that the template declares; others are refused.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// Virtual CPUs at start, up to `vcpus_max`.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 512)]
    vcpus: u32,
    /// Virtual CPUs that can be plugged in; as many as `vcpus` when absent.
    #[schema(minimum = 1, maximum = 512)]
    vcpus_max: Option<u32>,
    /// Memory at start, up to `memory_mib_max`.
    #[serde(default = "gibibyte")]
    #[schema(minimum = 16, maximum = 16777216)]
    memory_mib: u64,
    /// Memory that can be plugged in; as much as `memory_mib` when absent.
    #[schema(minimum = 16, maximum = 16777216)]
    memory_mib_max: Option<u64>,
    /// BIOS, and UEFI on aarch64, when absent.
    firmware: Option<Firmware>,
    /// A TPM 2.0 of the guest's own.
    #[serde(default)]
    tpm: bool,
    /// The screen.
    #[serde(default)]
    graphics: Graphics,
    /// libvirt's CPU model, `host-model`, `host-passthrough` or `maximum`; the best that the host gives when absent.
    cpu_model: Option<ResourceName>,
    /// Machine type; `q35` or `virt` when absent.
    machine: Option<ResourceName>,
    /// How the seed reaches the guest.
    #[serde(default)]
    seed_mode: SeedMode,
    /// What cloud-init is told.
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

/// All guests of all hosts, from memory.
#[utoipa::path(
    get, path = "/v1/vms", tag = "vms", operation_id = "list_fleet",
    responses((status = 200, body = Vec<VmView>, headers(("etag" = String, description = "Version of what is shown"))), (status = 304)),
)]
pub(super) async fn fleet(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    request: HttpRequest,
) -> HttpResponse {
    listing::v1(&request, &app.listing())
}

/// All guests of one host, from memory.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms", tag = "vms", operation_id = "list_vms",
    responses((status = 200, body = Vec<VmView>, headers(("etag" = String, description = "Version of what is shown"))), (status = 304)),
)]
pub(super) async fn list(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    host: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Ok(listing::v1(&request, &app.listing_of(&HostId::parse(&host)?)?))
}

/// One guest, read from libvirt now; the last known if its host is away.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}", tag = "vms", operation_id = "show_vm",
    responses((status = 200, body = VmView, headers(("etag" = String, description = "Version of what is shown")))),
)]
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

/// Creates a guest. Disks and interfaces are attached by operations of their own.
#[utoipa::path(
    post,
    path = "/v1/hosts/{host}/vms",
    tag = "vms",
    operation_id = "create_vm",
    responses(Submitted)
)]
pub(super) async fn create(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    host: web::Path<String>,
    body: Json<VmCreate>,
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
    ($($(#[$doc:meta])* $name:ident => $work:ident, $method:ident $verb:literal, $operation:literal;)*) => {
        $($(#[$doc])*
        #[utoipa::path(
            $method, path = concat!("/v1/hosts/{host}/vms/{vm}", $verb), tag = "vms",
            operation_id = $operation, responses(Submitted),
        )]
        pub(super) async fn $name(
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
    /// Starts a guest.
    start => Start, post "/start", "start_vm";
    /// Asks a guest to shut down.
    shutdown => Shutdown, post "/shutdown", "shut_down_vm";
    /// Cuts a guest's power.
    poweroff => Destroy, post "/poweroff", "power_off_vm";
    /// Presses a guest's reset button.
    reset => Reset, post "/reset", "reset_vm";
    /// Stops a guest's CPUs; its memory stays.
    suspend => Suspend, post "/suspend", "suspend_vm";
    /// Lets a guest's CPUs go on.
    resume => Resume, post "/resume", "resume_vm";
    /// Asks a guest to restart.
    reboot => Reboot, post "/reboot", "reboot_vm";
    /// Deletes a guest with its volumes and its seed.
    remove => Delete, delete "", "delete_vm";
}

/// libvirt's definition of a guest.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}/xml", tag = "vms", operation_id = "show_vm_xml",
    responses((status = 200, body = String, content_type = "text/xml")),
)]
pub(super) async fn xml(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: VmPath,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let xml = app.agent(&host)?.xml(vm).await?;
    Ok(HttpResponse::Ok().content_type("text/xml; charset=utf-8").body(xml))
}

/// Addresses that the host knows of a guest.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}/addresses",
    tag = "vms", operation_id = "list_vm_addresses",
    responses((status = 200, body = Vec<InterfaceAddresses>)),
)]
pub(super) async fn addresses(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: VmPath,
) -> Result<web::Json<Vec<InterfaceAddresses>>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.agent(&host)?.addresses(vm).await?))
}

/// What a guest fetched of its seed.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}/boot", tag = "seed", operation_id = "show_boot_trace",
    responses((status = 200, body = BootTrace)),
)]
pub(super) async fn boot(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: VmPath,
) -> Result<web::Json<BootTrace>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.agent(&host)?.boot_trace(vm).await?))
}

/// The files of a seed as the guest gets them, secrets masked.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}/seed", tag = "seed", operation_id = "show_seed",
    responses((status = 200, body = SeedPreview)),
)]
pub(super) async fn seed(
    app: web::Data<App>,
    _: Caller<ManageVms>,
    path: VmPath,
) -> Result<web::Json<SeedPreview>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.agent(&host)?.seed_preview(vm).await?))
}

/// Another seed: another instance to cloud-init, which configures the guest anew at its next boot.
#[utoipa::path(
    put,
    path = "/v1/hosts/{host}/vms/{vm}/seed",
    tag = "seed",
    operation_id = "replace_seed",
    responses(Submitted)
)]
pub(super) async fn put_seed(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: Json<SeedSpec>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let how = submission(&request, &*body)?;
    let work = Work::Reseed { vm, seed: Some(Box::new(body.into_inner())), new_instance: false };
    submit(&app, &who.identity, &host, work, how).await
}

/// The same seed again.
#[utoipa::path(
    post,
    path = "/v1/hosts/{host}/vms/{vm}/reseed",
    tag = "seed",
    operation_id = "reseed",
    responses(Submitted)
)]
pub(super) async fn reseed(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: Json<Reseed>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let how = submission(&request, &*body)?;
    let work = Work::Reseed { vm, seed: None, new_instance: body.new_instance };
    submit(&app, &who.identity, &host, work, how).await
}
