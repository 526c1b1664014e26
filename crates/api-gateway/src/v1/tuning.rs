//! Changes to a guest that exists, its snapshots, room of its disks, counters of its interfaces.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::api::disk::{DiskSize, TargetName};
use vmmgr_common::api::operation::Work;
use vmmgr_common::api::snapshot::{Snapshot, SnapshotCreate};
use vmmgr_common::api::tuning::{DiskUsage, DomainChange, NicStats};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::{HostId, MacAddress, ResourceName, VmId};

use super::body::Json;
use super::submit::{Submitted, submission, submit};
use super::vms::{VmPath, place};
use crate::app::App;
use crate::auth::{Caller, ManageVms, ReadFleet};

/// A guest, and something of it by name.
type PartPath = web::Path<(String, String, String)>;

fn part(path: &PartPath) -> Result<(HostId, VmId), Problem> {
    Ok((HostId::parse(&path.0)?, VmId::parse(&path.1)?))
}

/// Body of `PATCH …/disks/{target}`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resize {
    /// New virtual size; a smaller one than now is refused.
    size: DiskSize,
}

/// Changes CPUs, memory, description, metadata or autostart: all of it or nothing.
#[utoipa::path(
    patch,
    path = "/v1/hosts/{host}/vms/{vm}",
    tag = "vms",
    operation_id = "configure_vm",
    responses(Submitted)
)]
pub(super) async fn configure(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: Json<DomainChange>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let how = submission(&request, &*body)?;
    let change = Box::new(body.into_inner());
    submit(&app, &who.identity, &host, Work::Configure { vm, change }, how).await
}

/// Snapshots of a guest.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}/snapshots",
    tag = "snapshots", operation_id = "list_snapshots",
    responses((status = 200, body = Vec<Snapshot>)),
)]
pub(super) async fn snapshots(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: VmPath,
) -> Result<web::Json<Vec<Snapshot>>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.agent(&host)?.snapshots(vm).await?))
}

/// Takes a snapshot of its disks, and of its memory if it runs.
#[utoipa::path(
    post,
    path = "/v1/hosts/{host}/vms/{vm}/snapshots",
    tag = "snapshots",
    operation_id = "create_snapshot",
    responses(Submitted)
)]
pub(super) async fn create_snapshot(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: Json<SnapshotCreate>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let how = submission(&request, &*body)?;
    let snapshot = body.into_inner();
    submit(&app, &who.identity, &host, Work::CreateSnapshot { vm, snapshot }, how).await
}

/// Makes the guest what it was.
#[utoipa::path(
    post,
    path = "/v1/hosts/{host}/vms/{vm}/snapshots/{name}/revert",
    tag = "snapshots",
    operation_id = "revert_snapshot",
    responses(Submitted)
)]
pub(super) async fn revert_snapshot(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: PartPath,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let ((host, vm), name) = (part(&path)?, ResourceName::parse(&path.2)?);
    let how = submission(&request, &())?;
    submit(&app, &who.identity, &host, Work::RevertSnapshot { vm, name }, how).await
}

/// Forgets a snapshot.
#[utoipa::path(
    delete,
    path = "/v1/hosts/{host}/vms/{vm}/snapshots/{name}",
    tag = "snapshots",
    operation_id = "delete_snapshot",
    responses(Submitted)
)]
pub(super) async fn delete_snapshot(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: PartPath,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let ((host, vm), name) = (part(&path)?, ResourceName::parse(&path.2)?);
    let how = submission(&request, &())?;
    submit(&app, &who.identity, &host, Work::DeleteSnapshot { vm, name }, how).await
}

/// Room that a disk takes.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}/disks/{target}",
    tag = "devices", operation_id = "show_disk_usage",
    responses((status = 200, body = DiskUsage)),
)]
pub(super) async fn disk_usage(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: PartPath,
) -> Result<web::Json<DiskUsage>, Problem> {
    let ((host, vm), target) = (part(&path)?, TargetName::parse(&path.2)?);
    Ok(web::Json(app.agent(&host)?.disk_usage(vm, &target).await?))
}

/// Makes a disk larger.
#[utoipa::path(
    patch,
    path = "/v1/hosts/{host}/vms/{vm}/disks/{target}",
    tag = "devices",
    operation_id = "resize_disk",
    responses(Submitted)
)]
pub(super) async fn resize_disk(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: PartPath,
    body: Json<Resize>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let ((host, vm), target) = (part(&path)?, TargetName::parse(&path.2)?);
    let how = submission(&request, &*body)?;
    let work = Work::ResizeDisk { vm, target, size: body.size };
    submit(&app, &who.identity, &host, work, how).await
}

/// Counters of an interface.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/vms/{vm}/nics/{device}/stats",
    tag = "devices", operation_id = "show_nic_stats",
    responses((status = 200, body = NicStats)),
)]
pub(super) async fn nic_stats(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: PartPath,
) -> Result<web::Json<NicStats>, Problem> {
    let ((host, vm), mac) = (part(&path)?, MacAddress::parse(&path.2)?);
    Ok(web::Json(app.agent(&host)?.nic_stats(vm, mac).await?))
}
