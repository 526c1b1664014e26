//! Steps that change a guest that exists.

use serde::{Deserialize, Serialize};
use vmmgr_common::api::disk::DiskSize;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;

use super::{Context, affect};
use crate::hypervisor::{HypervisorError, Level};

/// One such step.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "tune", rename_all = "snake_case")]
pub(crate) enum Tune {
    /// Stop the CPUs; no undo: the caller resumes.
    Suspend { vm: VmId },
    /// Let the CPUs go on; no undo, like a start.
    Resume { vm: VmId },
    /// Ask to restart; no undo: the guest decides.
    Reboot { vm: VmId },
    /// Set the CPUs; undo: the counts of before.
    Vcpus { vm: VmId, level: Level, old: Level },
    /// Set the memory; undo: the sizes of before.
    Memory { vm: VmId, level: Level, old: Level },
    /// Set the description; undo: the old one.
    Description { vm: VmId, text: String, old: String },
    /// Set our metadata block; undo: the old one.
    Metadata { vm: VmId, xml: String, old_xml: String },
    /// Set whether it starts with the host; undo: what was.
    Autostart { vm: VmId, on: bool, old: bool },
    /// Make a disk larger; no undo: the guest may have written to the new end already, and a disk
    /// that is too large harms nobody. `path` is its volume, if it is one of ours.
    Resize { vm: VmId, target: String, size: DiskSize, path: Option<String> },
    /// Take a snapshot; undo: delete it.
    CreateSnapshot { vm: VmId, name: String, xml: String },
    /// Revert; no undo: what was not in a snapshot is gone.
    RevertSnapshot { vm: VmId, name: String },
    /// Delete a snapshot; no undo: it is gone.
    DeleteSnapshot { vm: VmId, name: String },
}

impl Tune {
    /// One line for people.
    pub(super) fn line(&self) -> String {
        match self {
            Self::Suspend { .. } => "suspending".into(),
            Self::Resume { .. } => "resuming".into(),
            Self::Reboot { .. } => "asking the guest to restart".into(),
            Self::Vcpus { level, .. } => format!("setting {} CPUs{}", level.config, when(*level)),
            Self::Memory { level, .. } => {
                format!("setting {} MiB of memory{}", level.config >> 10, when(*level))
            }
            Self::Description { .. } => "setting the description".into(),
            Self::Metadata { .. } => "setting the metadata".into(),
            Self::Autostart { on: true, .. } => "letting it start with the host".into(),
            Self::Autostart { .. } => "no longer starting it with the host".into(),
            Self::Resize { target, size, .. } => {
                format!("growing {target} to {} MiB", size.bytes() >> 20)
            }
            Self::CreateSnapshot { name, .. } => format!("taking snapshot {name}"),
            Self::RevertSnapshot { name, .. } => format!("reverting to snapshot {name}"),
            Self::DeleteSnapshot { name, .. } => format!("deleting snapshot {name}"),
        }
    }

    pub(super) async fn run(&self, context: &Context, again: bool) -> Result<(), Problem> {
        let hypervisor = &context.hypervisor;
        let done = match self {
            Self::Suspend { vm } => known_state(hypervisor.suspend(*vm).await, again),
            Self::Resume { vm } => known_state(hypervisor.resume(*vm).await, again),
            Self::Reboot { vm } => hypervisor.reboot(*vm).await,
            Self::Vcpus { vm, level, .. } => {
                hypervisor.set_vcpus(*vm, present(context, *vm, *level).await?).await
            }
            Self::Memory { vm, level, .. } => {
                hypervisor.set_memory(*vm, present(context, *vm, *level).await?).await
            }
            Self::Description { vm, text, .. } => {
                hypervisor.set_description(*vm, text, affect(context, *vm).await?).await
            }
            Self::Metadata { vm, xml, .. } => {
                hypervisor.set_metadata(*vm, xml, affect(context, *vm).await?).await
            }
            Self::Autostart { vm, on, .. } => hypervisor.set_autostart(*vm, *on).await,
            Self::Resize { vm, target, size, path } => {
                return resize(context, *vm, target, *size, path.as_deref()).await;
            }
            Self::CreateSnapshot { vm, name, xml } => {
                if again && has_snapshot(context, *vm, name).await? {
                    return Ok(());
                }
                hypervisor.create_snapshot(*vm, xml).await
            }
            Self::RevertSnapshot { vm, name } => hypervisor.revert_snapshot(*vm, name).await,
            Self::DeleteSnapshot { vm, name } => {
                gone(hypervisor.delete_snapshot(*vm, name).await, again)
            }
        };
        done.map_err(Problem::from)
    }

    pub(super) async fn undo(&self, context: &Context) -> Result<(), Problem> {
        let hypervisor = &context.hypervisor;
        let done = match self {
            Self::Vcpus { vm, old, .. } => {
                hypervisor.set_vcpus(*vm, present(context, *vm, *old).await?).await
            }
            Self::Memory { vm, old, .. } => {
                hypervisor.set_memory(*vm, present(context, *vm, *old).await?).await
            }
            Self::Description { vm, old, .. } => {
                hypervisor.set_description(*vm, old, affect(context, *vm).await?).await
            }
            Self::Metadata { vm, old_xml, .. } => {
                hypervisor.set_metadata(*vm, old_xml, affect(context, *vm).await?).await
            }
            Self::Autostart { vm, old, .. } => hypervisor.set_autostart(*vm, *old).await,
            Self::CreateSnapshot { vm, name, .. } => {
                gone(hypervisor.delete_snapshot(*vm, name).await, true)
            }
            Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::Reboot { .. }
            | Self::Resize { .. }
            | Self::RevertSnapshot { .. }
            | Self::DeleteSnapshot { .. } => Ok(()),
        };
        done.map_err(Problem::from)
    }
}

fn when(level: Level) -> &'static str {
    if level.live.is_some() { "" } else { " in the definition" }
}

/// A repetition after a crash finds the state that it asks for.
fn known_state(result: Result<(), HypervisorError>, again: bool) -> Result<(), HypervisorError> {
    match result {
        Err(HypervisorError::WrongState(_)) if again => Ok(()),
        other => other,
    }
}

fn gone(result: Result<(), HypervisorError>, fine: bool) -> Result<(), HypervisorError> {
    match result {
        Err(HypervisorError::NoSuchSnapshot(..)) if fine => Ok(()),
        other => other,
    }
}

/// The level without its live part if the guest is off by now.
async fn present(context: &Context, vm: VmId, level: Level) -> Result<Level, Problem> {
    let live = affect(context, vm).await?.live;
    Ok(Level { live: level.live.filter(|_| live), ..level })
}

async fn has_snapshot(context: &Context, vm: VmId, name: &str) -> Result<bool, Problem> {
    let all = context.hypervisor.snapshots(vm).await?;
    Ok(all.iter().any(|(snapshot, _)| snapshot.name == name))
}

/// QEMU holds the volume of a running guest; that of one that is off is grown by its store.
async fn resize(
    context: &Context,
    vm: VmId,
    target: &str,
    size: DiskSize,
    path: Option<&str>,
) -> Result<(), Problem> {
    if affect(context, vm).await?.live {
        return Ok(context.hypervisor.resize_disk(vm, target, size.bytes()).await?);
    }
    match path {
        Some(path) => context.volumes.holding(path)?.grow(path, size).await,
        None => Err(Problem::new(
            ErrorCode::WrongState,
            format!("{target} of guest {vm} was not made here, and the guest is off"),
        )
        .hint("start the guest, then grow the disk")),
    }
}
