//! Disks, NICs and drives of a guest.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::api::disk::{
    Attachment, DeviceRef, DiskBus, DiskFormat, DiskSize, Medium, NicModel, TargetName,
};
use vmmgr_common::api::operation::Work;
use vmmgr_common::error::Problem;
use vmmgr_common::ids::{HostId, MacAddress, ResourceName, VmId};

use super::body::Json;
use super::submit::{Submitted, submission, submit};
use super::vms::{VmPath, place};
use crate::app::App;
use crate::auth::{Caller, ManageVms};

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDisk {
    /// Device template of the host, such as `local-disk`.
    device: ResourceName,
    /// Virtual size.
    size: DiskSize,
    /// Gold image to start from; none makes a data disk.
    gold: Option<ResourceName>,
    /// The device's when absent.
    bus: Option<DiskBus>,
    /// The device's when absent.
    format: Option<DiskFormat>,
    /// Values for variables that the device's template declares.
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewNic {
    /// Device template of the host, such as `net-br-ext`.
    device: ResourceName,
    /// Fixed address; one is made when absent.
    mac: Option<MacAddress>,
    /// The device's when absent.
    model: Option<NicModel>,
    /// Values for variables that the device's template declares.
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCdrom {
    /// Device template of the host, such as `cdrom`.
    device: ResourceName,
    /// ISO in the drive.
    iso: Option<ResourceName>,
    /// The guest's own seed in the drive.
    #[serde(default)]
    seed: bool,
}

/// `{"iso":"name"}`, `{"seed":true}` or nothing for an empty drive.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMedium {
    /// ISO in the drive.
    iso: Option<ResourceName>,
    /// The guest's own seed in the drive.
    #[serde(default)]
    seed: bool,
}

impl NewMedium {
    async fn resolve(&self, app: &App) -> Result<Medium, Problem> {
        match &self.iso {
            Some(name) => Ok(app.iso(name).await?.medium()),
            None if self.seed => Ok(Medium::Seed),
            None => Ok(Medium::Empty),
        }
    }
}

/// Reads `vda` or a MAC address.
pub(crate) fn device_ref(text: &str) -> Result<DeviceRef, Problem> {
    match MacAddress::parse(text) {
        Ok(mac) => Ok(DeviceRef::Mac(mac)),
        Err(_) => Ok(DeviceRef::Target(TargetName::parse(text)?)),
    }
}

async fn attach(
    app: &App,
    who: &Caller<ManageVms>,
    (host, vm): (HostId, VmId),
    attachment: Attachment,
    how: crate::app::operations::Submission,
) -> Result<HttpResponse, Problem> {
    submit(app, &who.identity, &host, Work::Attach { vm, attachment }, how).await
}

/// Attaches a new disk, blank or from a gold image.
#[utoipa::path(
    post,
    path = "/v1/hosts/{host}/vms/{vm}/disks",
    tag = "devices",
    operation_id = "attach_disk",
    responses(Submitted)
)]
pub(super) async fn attach_disk(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: Json<NewDisk>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let how = submission(&request, &*body)?;
    let NewDisk { device, size, gold, bus, format, variables } = body.into_inner();
    let gold = match gold {
        Some(name) => {
            let arch = app.arch_of(&host, vm).await?;
            Some(app.gold(&name, &arch, size).await?)
        }
        None => None,
    };
    let disk = Attachment::Disk { device, size, gold, bus, format, variables };
    attach(&app, &who, (host, vm), disk, how).await
}

/// Attaches an interface.
#[utoipa::path(
    post,
    path = "/v1/hosts/{host}/vms/{vm}/nics",
    tag = "devices",
    operation_id = "attach_nic",
    responses(Submitted)
)]
pub(super) async fn attach_nic(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: Json<NewNic>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let how = submission(&request, &*body)?;
    let NewNic { device, mac, model, variables } = body.into_inner();
    let nic = Attachment::Nic { device, mac, model, variables };
    attach(&app, &who, place(&path)?, nic, how).await
}

/// Attaches a CD-ROM drive.
#[utoipa::path(
    post,
    path = "/v1/hosts/{host}/vms/{vm}/cdroms",
    tag = "devices",
    operation_id = "attach_cdrom",
    responses(Submitted)
)]
pub(super) async fn attach_cdrom(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: Json<NewCdrom>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let how = submission(&request, &*body)?;
    let NewCdrom { device, iso, seed } = body.into_inner();
    let medium = NewMedium { iso, seed }.resolve(&app).await?;
    attach(&app, &who, place(&path)?, Attachment::Cdrom { device, medium }, how).await
}

/// Puts an ISO or the seed into a drive, or empties it.
#[utoipa::path(
    post,
    path = "/v1/hosts/{host}/vms/{vm}/media/{target}",
    tag = "devices",
    operation_id = "change_medium",
    responses(Submitted)
)]
pub(super) async fn change_medium(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: web::Path<(String, String, String)>,
    body: Json<NewMedium>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = (HostId::parse(&path.0)?, VmId::parse(&path.1)?);
    let device = DeviceRef::Target(TargetName::parse(&path.2)?);
    let how = submission(&request, &*body)?;
    let medium = body.resolve(&app).await?;
    submit(&app, &who.identity, &host, Work::ChangeMedium { vm, device, medium }, how).await
}

/// Detaches a disk, drive or interface; a disk is deleted.
#[utoipa::path(
    delete,
    path = "/v1/hosts/{host}/vms/{vm}/devices/{device}",
    tag = "devices",
    operation_id = "detach_device",
    responses(Submitted)
)]
pub(super) async fn detach(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: web::Path<(String, String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = (HostId::parse(&path.0)?, VmId::parse(&path.1)?);
    let device = device_ref(&path.2)?;
    let how = submission(&request, &())?;
    submit(&app, &who.identity, &host, Work::Detach { vm, device }, how).await
}
