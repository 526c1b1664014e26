//! Plans of changes to a guest that exists.

use vmmgr_common::api::disk::{DiskSize, TargetName};
use vmmgr_common::api::operation::Outcome;
use vmmgr_common::api::snapshot::SnapshotCreate;
use vmmgr_common::api::tuning::{DiskUsage, DomainChange, metadata_key};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{ResourceName, VmId};
use vmmgr_common::text;

use super::{Context, Guest, LEAST_ROOM, Planned, Step};
use crate::domain::{read, spec};
use crate::hypervisor::Level;
use crate::ops::step::Tune;
use crate::storage::volume::Store;

/// Keys that callers may keep with a guest.
const MOST_KEYS: usize = 64;
/// Characters of one value.
const LONGEST_VALUE: usize = 1000;
/// Snapshots of one guest; each costs room and time at every write.
const MOST_SNAPSHOTS: usize = 64;

fn refuse(what: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::InvalidValue, what)
}

/// Changes of CPUs, memory, description, metadata and autostart.
pub(super) async fn configure(
    context: &Context,
    vm: VmId,
    change: &DomainChange,
) -> Result<Planned, Problem> {
    let guest = Guest::read(context, vm).await?;
    if change.is_empty() {
        return Err(refuse("the request changes nothing"));
    }
    let mut tunes = Vec::new();
    let mut outcome = Outcome::default();
    if let Some(wanted) = change.vcpus {
        spec::check_vcpus(wanted)?;
        let levels = [read::vcpu_levels(&guest.definition), read::vcpu_levels(&guest.raw.xml)];
        let (level, old) = levels_for(&guest, wanted.into(), levels, None)?;
        outcome.restart_needed |= guest.running() && level.live.is_none();
        tunes.push(Tune::Vcpus { vm, level, old });
    }
    if let Some(wanted) = change.memory_mib {
        spec::check_memory(wanted)?;
        let levels = [read::memory_levels(&guest.definition), read::memory_levels(&guest.raw.xml)];
        let now = Some(guest.raw.memory_kib);
        let (level, old) = levels_for(&guest, wanted << 10, levels, now)?;
        outcome.restart_needed |= guest.running() && level.live.is_none();
        tunes.push(Tune::Memory { vm, level, old });
    }
    if let Some(text) = &change.description {
        spec::check_description(text)?;
        let old = guest.description.clone();
        tunes.push(Tune::Description { vm, text: text.clone(), old });
    }
    if !change.metadata.is_empty() {
        tunes.push(metadata(context, vm, &guest, change)?);
    }
    if let Some(on) = change.autostart {
        tunes.push(Tune::Autostart { vm, on, old: guest.raw.autostart });
    }
    Ok(Planned { steps: tunes.into_iter().map(Step::Tune).collect(), outcome })
}

/// What is to hold and what holds, from the (present, most) of the definition and of the live XML.
fn levels_for(
    guest: &Guest,
    wanted: u64,
    levels: [Option<(u64, u64)>; 2],
    live_now: Option<u64>,
) -> Result<(Level, Level), Problem> {
    let [Some((config, config_max)), Some((shown, live_max))] = levels else {
        return Err(Problem::new(
            ErrorCode::HypervisorFailed,
            "the guest's XML tells no CPUs or memory",
        ));
    };
    let live = (guest.running() && wanted <= live_max).then_some(wanted);
    let level = Level { live, config: wanted, config_max: config_max.max(wanted) };
    let old = Level { live: live.map(|_| live_now.unwrap_or(shown)), config, config_max };
    Ok((level, old))
}

fn metadata(
    context: &Context,
    vm: VmId,
    guest: &Guest,
    change: &DomainChange,
) -> Result<Tune, Problem> {
    let old = read::metadata_rows(&guest.definition);
    let mut rows = old.clone();
    for (key, value) in &change.metadata {
        if let Some(rule) = metadata_key(key) {
            return Err(refuse(format!("metadata key `{}`: {rule}", key.escape_debug())));
        }
        rows.retain(|(known, _)| known != key);
        if let Some(value) = value {
            text::check(&format!("metadata `{key}`"), value, LONGEST_VALUE)?;
            rows.push((key.clone(), value.clone()));
        }
    }
    if rows.len() > MOST_KEYS {
        return Err(refuse(format!("metadata: more than {MOST_KEYS} keys")));
    }
    let xml = context.templates.render_metadata(&rows)?;
    Ok(Tune::Metadata { vm, xml, old_xml: context.templates.render_metadata(&old)? })
}

/// A larger disk.
pub(super) async fn resize(
    context: &Context,
    vm: VmId,
    target: &TargetName,
    size: DiskSize,
) -> Result<Planned, Problem> {
    let guest = Guest::read(context, vm).await?;
    let name = target.as_str();
    let disk = guest.disks.iter().find(|disk| disk.target == name).ok_or_else(|| {
        Problem::new(ErrorCode::NoSuchDevice, format!("guest {vm} has no {name}"))
    })?;
    if disk.device != "disk" {
        return Err(refuse(format!("{name} of guest {vm} is no disk")));
    }
    let now = context.disk_usage(vm, name).await?.capacity_bytes;
    if size.bytes() < now {
        return Err(refuse(format!("size: {name} has {now} bytes; a disk only grows"))
            .hint("ask for more than it has; to shrink, copy to a smaller disk in the guest"));
    }
    let ours = context.journal.volumes(vm).await?.contains(&disk.source);
    let path = ours.then(|| disk.source.clone());
    let store = if ours { context.volumes.holding(&disk.source)? } else { context.volumes.files() };
    context.room(store, LEAST_ROOM).await?;
    if path.is_none() && !guest.running() {
        return Err(Problem::new(
            ErrorCode::WrongState,
            format!("{name} of guest {vm} was not made here, and the guest is off"),
        )
        .hint("start the guest, then grow the disk"));
    }
    let step = Step::Tune(Tune::Resize { vm, target: name.to_owned(), size, path });
    let outcome = Outcome { target: Some(name.to_owned()), ..Outcome::default() };
    Ok(Planned { steps: vec![step], outcome })
}

/// Internal snapshots need qcow2 for every disk, and this libvirt has none of guests whose firmware
/// keeps its variables in flash. Said before anything happens: libvirt says it half way.
fn can_snapshot(vm: VmId, guest: &Guest) -> Result<(), Problem> {
    let cannot =
        |why: String| Err(Problem::new(ErrorCode::WrongState, format!("guest {vm}: {why}")));
    if read::has_pflash(&guest.definition) {
        return cannot("guests with UEFI cannot have snapshots with this libvirt".into())
            .map_err(|problem: Problem| problem.hint("copy its disks while it is off"));
    }
    if let Some(disk) = guest.disks.iter().find(|disk| disk.source_type == "rbd") {
        return cannot(format!("{} is on Ceph, which libvirt takes no snapshots of", disk.target))
            .map_err(|problem| {
                problem.hint(format!("take them there: `rbd snap create {}@NAME`", disk.source))
            });
    }
    let disks = read::disk_formats(&guest.definition);
    if let Some((target, format)) = disks.iter().find(|(_, format)| format != "qcow2") {
        return cannot(format!("{target} is of format {format}, which cannot hold a snapshot"))
            .map_err(|problem| problem.hint("use qcow2 for disks of guests that need snapshots"));
    }
    if disks.is_empty() {
        return cannot("it has no disk that a snapshot could be kept in".into());
    }
    Ok(())
}

/// A new snapshot.
pub(super) async fn create_snapshot(
    context: &Context,
    vm: VmId,
    wanted: &SnapshotCreate,
) -> Result<Planned, Problem> {
    let guest = Guest::read(context, vm).await?;
    spec::check_description(&wanted.description)?;
    can_snapshot(vm, &guest)?;
    let name = wanted.name.as_str();
    let known = context.hypervisor.snapshots(vm).await?;
    if known.iter().any(|(snapshot, _)| snapshot.name == name) {
        let detail = format!("guest {vm} has a snapshot `{name}`");
        return Err(Problem::new(ErrorCode::AlreadyExists, detail));
    }
    if known.len() >= MOST_SNAPSHOTS {
        let detail = format!("guest {vm} has {MOST_SNAPSHOTS} snapshots");
        return Err(Problem::new(ErrorCode::WrongState, detail).hint("delete some first"));
    }
    let memory = if guest.running() { guest.raw.memory_kib << 10 } else { 0 };
    context.room(context.volumes.files(), LEAST_ROOM + memory).await?;
    let xml = context.templates.render_snapshot(name, &wanted.description)?;
    Ok(vec![Step::Tune(Tune::CreateSnapshot { vm, name: name.to_owned(), xml })].into())
}

async fn snapshot_xml(context: &Context, vm: VmId, name: &ResourceName) -> Result<String, Problem> {
    let all = context.hypervisor.snapshots(vm).await?;
    let found = all.into_iter().find(|(snapshot, _)| snapshot.name == name.as_str());
    found.map(|(_, xml)| xml).ok_or_else(|| {
        Problem::new(ErrorCode::NoSuchRecord, format!("guest {vm} has no snapshot `{name}`"))
    })
}

/// Back to a snapshot; only while the guest has the disks that it had then.
pub(super) async fn revert_snapshot(
    context: &Context,
    vm: VmId,
    name: &ResourceName,
) -> Result<Planned, Problem> {
    let guest = Guest::read(context, vm).await?;
    let then = read::devices(&snapshot_xml(context, vm, name).await?);
    let now = read::devices(&guest.definition);
    let (Some((disks_then, macs)), Some((disks_now, _))) = (then, now) else {
        let detail = format!("guest {vm}: the XML of snapshot `{name}` cannot be read");
        return Err(Problem::new(ErrorCode::HypervisorFailed, detail));
    };
    if disks_then != disks_now {
        let detail = format!("guest {vm} has other disks than at the time of snapshot `{name}`");
        return Err(Problem::new(ErrorCode::WrongState, detail)
            .hint("attach or detach disks until they are the same, or delete the snapshot"));
    }
    let mut steps = vec![Step::Tune(Tune::RevertSnapshot { vm, name: name.to_string() })];
    if macs != guest.macs {
        steps.push(Step::SetCallers { vm, macs, old: guest.macs });
    }
    Ok(steps.into())
}

/// One snapshot less.
pub(super) async fn delete_snapshot(
    context: &Context,
    vm: VmId,
    name: &ResourceName,
) -> Result<Planned, Problem> {
    snapshot_xml(context, vm, name).await?;
    Ok(vec![Step::Tune(Tune::DeleteSnapshot { vm, name: name.to_string() })].into())
}

impl Context {
    /// Sizes of a guest's disk. libvirt knows them of files, and of an image on Ceph only while the
    /// guest runs.
    pub(crate) async fn disk_usage(&self, vm: VmId, target: &str) -> Result<DiskUsage, Problem> {
        let guest = Guest::read(self, vm).await?;
        let disk = guest.disks.iter().find(|disk| disk.target == target).ok_or_else(|| {
            Problem::new(ErrorCode::NoSuchDevice, format!("guest {vm} has no {target}"))
        })?;
        let store = self.volumes.find(&disk.source).filter(|_| !guest.running());
        let known = match store {
            Some(store) => store.info(&disk.source).await?,
            None => None,
        };
        match known {
            Some(info) => Ok(DiskUsage {
                target: target.to_owned(),
                capacity_bytes: info.capacity_bytes,
                allocation_bytes: info.allocation_bytes,
                physical_bytes: info.allocation_bytes,
            }),
            None => Ok(self.hypervisor.disk_usage(vm, target).await?),
        }
    }

    /// Refuses when the store cannot be used, or has less than `bytes` left, if it tells.
    pub(super) async fn room(&self, store: &dyn Store, bytes: u64) -> Result<(), Problem> {
        store.ready().await?;
        let Some(pool) = store.measured_pool() else { return Ok(()) };
        let room = self.hypervisor.pool_info(pool).await?.available_bytes;
        if room >= bytes {
            return Ok(());
        }
        Err(Problem::new(
            ErrorCode::NoSpace,
            format!(
                "pool `{}` on host {} has {} MiB left, {} are needed",
                pool,
                self.host,
                room >> 20,
                bytes >> 20
            ),
        )
        .hint("make room in the pool's folder"))
    }
}
