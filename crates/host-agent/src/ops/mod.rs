//! Operations: accepted durably, planned up front, run one at a time per guest, undone on failure.
//!
//! ```text
//!  submit -> journal -> [queue of the guest] -> plan -> journal -> step, step, step -> final
//!                                                          |  failure
//!                                                          +-> undo the steps begun, last first
//! ```
//!
//! After a crash the same loop goes on where the journal says; see [`engine`].

pub(crate) mod engine;
pub(crate) mod journal;
mod live;
pub(crate) mod plan;
pub(crate) mod step;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tune_tests;

use std::sync::Arc;

use vmmgr_common::client::MetadataClient;
use vmmgr_common::ids::HostId;

use crate::config::{DeviceConfig, VirtType};
use crate::console::HistoryDirs;
use crate::domain::template::Templates;
use crate::hooks::Hooks;
use crate::hypervisor::Hypervisor;
use crate::inventory::InventoryService;
use crate::storage::image::Images;
use crate::storage::volume::Volumes;

pub(crate) use engine::Engine;
pub(crate) use live::View;

/// Everything that steps and plans work with.
pub(crate) struct Context {
    /// This host.
    pub(crate) host: HostId,
    /// libvirt.
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    /// Known guests.
    pub(crate) inventory: Arc<InventoryService>,
    /// Domain and device templates.
    pub(crate) templates: Templates,
    /// Gold images.
    pub(crate) images: Images,
    /// Disks.
    pub(crate) volumes: Volumes,
    /// Seeds.
    pub(crate) metadata: Option<MetadataClient>,
    /// Accepted work.
    pub(crate) journal: journal::Journal,
    /// Devices by name.
    pub(crate) devices: Vec<DeviceConfig>,
    /// Programs that run when such a device comes or goes.
    pub(crate) hooks: Hooks,
    /// `kvm` or `qemu`, decided at start.
    pub(crate) virt_type: VirtType,
    /// Where QEMU's serial logs go.
    pub(crate) history: HistoryDirs,
    /// Folders that ISOs may come from.
    pub(crate) local_roots: Vec<std::path::PathBuf>,
}
