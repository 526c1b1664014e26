//! Work that an agent has accepted: durable, idempotent by id, with exactly one result.
//!
//! ```text
//! pending -> running -> succeeded
//!                    \-> unwinding -> failed      (every step undone, or the undo's failure named)
//! ```

use serde::{Deserialize, Serialize};

use super::disk::{Attachment, DeviceRef, DiskSize, GoldImage, Medium, TargetName};
use super::domain::DomainCreate;
use super::seed::SeedSpec;
use super::snapshot::SnapshotCreate;
use super::tuning::DomainChange;
use crate::error::Problem;
use crate::ids::{MacAddress, OperationId, ResourceName, VmId};

/// `POST /v1/operations` of an agent. With `?wait_ms=N` (at most 30000) the answer is held until
/// the operation ends or the time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationRequest {
    /// Idempotency key: same id and same work answers the same operation, other work is 409.
    pub id: OperationId,
    /// What to do.
    pub work: Work,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Work {
    /// Define a guest and write its seed.
    Create {
        /// What it is to be.
        domain: Box<DomainCreate>,
    },
    /// Start it.
    Start {
        /// Which.
        vm: VmId,
    },
    /// Ask it to shut down (ACPI); done when asked, not when off.
    Shutdown {
        /// Which.
        vm: VmId,
    },
    /// Cut its power.
    Destroy {
        /// Which.
        vm: VmId,
    },
    /// Press its reset button.
    Reset {
        /// Which.
        vm: VmId,
    },
    /// Stop its CPUs; its memory stays.
    Suspend {
        /// Which.
        vm: VmId,
    },
    /// Let its CPUs go on.
    Resume {
        /// Which.
        vm: VmId,
    },
    /// Ask it to restart (guest agent or ACPI); done when asked.
    Reboot {
        /// Which.
        vm: VmId,
    },
    /// Change its CPUs, memory, description, metadata or autostart: all of it or nothing.
    Configure {
        /// Which.
        vm: VmId,
        /// What.
        change: Box<DomainChange>,
    },
    /// Make a disk larger.
    ResizeDisk {
        /// Which.
        vm: VmId,
        /// Its disk.
        target: TargetName,
        /// New virtual size; a smaller one than now is refused.
        size: DiskSize,
    },
    /// Take a snapshot of its disks, and of its memory if it runs.
    CreateSnapshot {
        /// Which.
        vm: VmId,
        /// Of what name.
        snapshot: SnapshotCreate,
    },
    /// Make it what it was.
    RevertSnapshot {
        /// Which.
        vm: VmId,
        /// Snapshot.
        name: ResourceName,
    },
    /// Forget a snapshot.
    DeleteSnapshot {
        /// Which.
        vm: VmId,
        /// Snapshot.
        name: ResourceName,
    },
    /// Write its seed again, another one if given; media that hold it get the new one.
    Reseed {
        /// Which.
        vm: VmId,
        /// What it is told from now on; what it was told before when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed: Option<Box<SeedSpec>>,
        /// Another instance id although the seed is the same.
        #[serde(default)]
        new_instance: bool,
    },
    /// Stop it, prove it gone, undefine, remove its volumes and its seed.
    Delete {
        /// Which.
        vm: VmId,
    },
    /// Attach a disk, NIC or drive.
    Attach {
        /// Which.
        vm: VmId,
        /// What.
        attachment: Attachment,
    },
    /// Detach a disk (its volume goes too), drive or NIC.
    Detach {
        /// Which.
        vm: VmId,
        /// What.
        device: DeviceRef,
    },
    /// Change what is in a CD-ROM drive.
    ChangeMedium {
        /// Which.
        vm: VmId,
        /// Drive.
        device: DeviceRef,
        /// New medium.
        medium: Medium,
    },
    /// Bring a gold image to the host.
    ImportImage {
        /// Which.
        gold: GoldImage,
    },
    /// Work on a guest that is as the caller has read it; looked at in the guest's turn.
    IfUnchanged {
        /// Versions, one of which it must have; see [`Domain::version`](super::domain::Domain::version).
        versions: Vec<String>,
        /// What to do then.
        work: Box<Work>,
    },
}

impl Work {
    /// The guest concerned, if one is; work on one guest runs one at a time.
    #[must_use]
    pub fn vm(&self) -> Option<VmId> {
        match self {
            Self::Create { domain } => Some(domain.id),
            Self::Start { vm }
            | Self::Shutdown { vm }
            | Self::Destroy { vm }
            | Self::Reset { vm }
            | Self::Suspend { vm }
            | Self::Resume { vm }
            | Self::Reboot { vm }
            | Self::Configure { vm, .. }
            | Self::ResizeDisk { vm, .. }
            | Self::CreateSnapshot { vm, .. }
            | Self::RevertSnapshot { vm, .. }
            | Self::DeleteSnapshot { vm, .. }
            | Self::Reseed { vm, .. }
            | Self::Delete { vm }
            | Self::Attach { vm, .. }
            | Self::Detach { vm, .. }
            | Self::ChangeMedium { vm, .. } => Some(*vm),
            Self::ImportImage { .. } => None,
            Self::IfUnchanged { work, .. } => work.vm(),
        }
    }

    /// The verb as it stands on the wire.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Start { .. } => "start",
            Self::Shutdown { .. } => "shutdown",
            Self::Destroy { .. } => "destroy",
            Self::Reset { .. } => "reset",
            Self::Suspend { .. } => "suspend",
            Self::Resume { .. } => "resume",
            Self::Reboot { .. } => "reboot",
            Self::Configure { .. } => "configure",
            Self::ResizeDisk { .. } => "resize_disk",
            Self::CreateSnapshot { .. } => "create_snapshot",
            Self::RevertSnapshot { .. } => "revert_snapshot",
            Self::DeleteSnapshot { .. } => "delete_snapshot",
            Self::Reseed { .. } => "reseed",
            Self::Delete { .. } => "delete",
            Self::Attach { .. } => "attach",
            Self::Detach { .. } => "detach",
            Self::ChangeMedium { .. } => "change_medium",
            Self::ImportImage { .. } => "import_image",
            Self::IfUnchanged { work, .. } => work.verb(),
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Accepted, waiting for its turn on the guest.
    Pending,
    /// Runs.
    Running,
    /// A step failed; the ones before it are being undone.
    Unwinding,
    /// Done.
    Succeeded,
    /// Not done, and undone.
    Failed,
}

impl OperationState {
    /// Nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// `GET /v1/operations/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// Verb of its work.
    pub verb: String,
    /// Guest concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmId>,
    /// How far.
    pub state: OperationState,
    /// RFC 3339, UTC.
    pub accepted_at: String,
    /// RFC 3339, UTC; set in a final state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// What came out of it.
    #[serde(default)]
    pub outcome: Outcome,
}

/// What a finished operation tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Outcome {
    /// Target that a disk or drive got, or that was detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Address that a NIC got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// Part of the change is in the definition only: the guest sees it from its next start on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart_needed: bool,
    /// Volumes that could not be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undeleted: Vec<super::domain::Disk>,
}

/// One line of `GET /v1/operations/{id}/events` (newline-delimited JSON): all progress so far,
/// then what follows, ended by `Done`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum OperationEvent {
    /// A line for people: a step began, a percentage.
    Progress {
        /// Text without newline.
        line: String,
    },
    /// The end; nothing follows.
    Done {
        /// As `GET` would answer.
        operation: Box<Operation>,
    },
}
