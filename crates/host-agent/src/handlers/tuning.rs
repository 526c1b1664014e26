//! Snapshots of a guest, room of its disks, counters of its interfaces.

use actix_web::web;
use vmmgr_common::api::disk::TargetName;
use vmmgr_common::api::snapshot::Snapshot;
use vmmgr_common::api::tuning::{DiskUsage, NicStats};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{MacAddress, VmId};

use crate::domain::target;
use crate::ops::Engine;

/// Oldest first.
pub(super) async fn snapshots(
    engine: web::Data<Engine>,
    vm: web::Path<String>,
) -> Result<web::Json<Vec<Snapshot>>, Problem> {
    let all = engine.context().hypervisor.snapshots(VmId::parse(&vm)?).await?;
    Ok(web::Json(all.into_iter().map(|(snapshot, _)| snapshot).collect()))
}

/// libvirt says the same of an unknown device as of many other failures: look first.
async fn require(engine: &Engine, vm: VmId, device: &str) -> Result<(), Problem> {
    let xml = engine.context().hypervisor.domain(vm).await?.xml;
    match target::find_device(&xml, device) {
        Some(_) => Ok(()),
        None => Err(Problem::new(ErrorCode::NoSuchDevice, format!("guest {vm} has no {device}"))),
    }
}

/// Of one disk.
pub(super) async fn disk_usage(
    engine: web::Data<Engine>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<DiskUsage>, Problem> {
    let (vm, target) = (VmId::parse(&path.0)?, TargetName::parse(&path.1)?);
    Ok(web::Json(engine.context().disk_usage(vm, target.as_str()).await?))
}

/// Of one interface.
pub(super) async fn nic_stats(
    engine: web::Data<Engine>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<NicStats>, Problem> {
    let (vm, mac) = (VmId::parse(&path.0)?, MacAddress::parse(&path.1)?);
    require(&engine, vm, &mac.to_string()).await?;
    Ok(web::Json(engine.context().hypervisor.nic_stats(vm, mac).await?))
}
