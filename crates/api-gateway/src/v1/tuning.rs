//! Changes to a guest that exists, its snapshots, room of its disks, counters of its interfaces.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use vmmgr_common::api::disk::{DiskSize, TargetName};
use vmmgr_common::api::operation::Work;
use vmmgr_common::api::snapshot::{Snapshot, SnapshotCreate};
use vmmgr_common::api::tuning::{DiskUsage, DomainChange, NicStats};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::{HostId, MacAddress, ResourceName, VmId};

use super::submit::{submission, submit};
use super::vms::{VmPath, place};
use crate::app::App;
use crate::auth::{Caller, ManageVms, ReadFleet};

/// A guest, and something of it by name.
type PartPath = web::Path<(String, String, String)>;

fn part(path: &PartPath) -> Result<(HostId, VmId), Problem> {
    Ok((HostId::parse(&path.0)?, VmId::parse(&path.1)?))
}

/// Body of `PATCH …/disks/{target}`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resize {
    size: DiskSize,
}

pub(super) async fn configure(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: web::Json<DomainChange>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let how = submission(&request, &*body)?;
    let change = Box::new(body.into_inner());
    submit(&app, &who.identity, &host, Work::Configure { vm, change }, how).await
}

pub(super) async fn snapshots(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: VmPath,
) -> Result<web::Json<Vec<Snapshot>>, Problem> {
    let (host, vm) = place(&path)?;
    Ok(web::Json(app.agent(&host)?.snapshots(vm).await?))
}

pub(super) async fn create_snapshot(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: VmPath,
    body: web::Json<SnapshotCreate>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (host, vm) = place(&path)?;
    let how = submission(&request, &*body)?;
    let snapshot = body.into_inner();
    submit(&app, &who.identity, &host, Work::CreateSnapshot { vm, snapshot }, how).await
}

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

pub(super) async fn disk_usage(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: PartPath,
) -> Result<web::Json<DiskUsage>, Problem> {
    let ((host, vm), target) = (part(&path)?, TargetName::parse(&path.2)?);
    Ok(web::Json(app.agent(&host)?.disk_usage(vm, &target).await?))
}

pub(super) async fn resize_disk(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: PartPath,
    body: web::Json<Resize>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let ((host, vm), target) = (part(&path)?, TargetName::parse(&path.2)?);
    let how = submission(&request, &*body)?;
    let work = Work::ResizeDisk { vm, target, size: body.size };
    submit(&app, &who.identity, &host, work, how).await
}

pub(super) async fn nic_stats(
    app: web::Data<App>,
    _: Caller<ReadFleet>,
    path: PartPath,
) -> Result<web::Json<NicStats>, Problem> {
    let ((host, vm), mac) = (part(&path)?, MacAddress::parse(&path.2)?);
    Ok(web::Json(app.agent(&host)?.nic_stats(vm, mac).await?))
}
