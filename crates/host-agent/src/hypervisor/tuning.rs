//! Calls that change or measure a guest that exists.

use async_trait::async_trait;
use vmmgr_common::api::snapshot::Snapshot;
use vmmgr_common::api::tuning::{DiskUsage, NicStats};
use vmmgr_common::ids::{MacAddress, VmId};

use super::{Affect, HypervisorError};

/// A count (CPUs) or size (KiB) that is to hold: in the running domain if named, and in the
/// definition with its maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Level {
    /// Of the running domain; none leaves it alone.
    pub(crate) live: Option<u64>,
    /// Of the definition.
    pub(crate) config: u64,
    /// The most that the definition allows.
    pub(crate) config_max: u64,
}

/// The second half of [`super::Hypervisor`].
#[async_trait]
pub(crate) trait Tuning: Send + Sync {
    /// `virDomainSuspend`.
    async fn suspend(&self, id: VmId) -> Result<(), HypervisorError>;
    /// `virDomainResume`.
    async fn resume(&self, id: VmId) -> Result<(), HypervisorError>;
    /// `virDomainReboot`: guest agent, or ACPI where there is none.
    async fn reboot(&self, id: VmId) -> Result<(), HypervisorError>;
    /// `virDomainSetVcpusFlags`.
    async fn set_vcpus(&self, id: VmId, level: Level) -> Result<(), HypervisorError>;
    /// `virDomainSetMemoryFlags`, KiB.
    async fn set_memory(&self, id: VmId, level: Level) -> Result<(), HypervisorError>;
    /// `virDomainSetMetadata`, the description; empty removes it.
    async fn set_description(
        &self,
        id: VmId,
        text: &str,
        affect: Affect,
    ) -> Result<(), HypervisorError>;
    /// `virDomainSetMetadata`, our element (`<meta>` without a namespace: libvirt adds ours).
    async fn set_metadata(
        &self,
        id: VmId,
        xml: &str,
        affect: Affect,
    ) -> Result<(), HypervisorError>;
    /// `virDomainSetAutostart`.
    async fn set_autostart(&self, id: VmId, on: bool) -> Result<(), HypervisorError>;
    /// `virDomainBlockResize` of a running domain's disk, bytes.
    async fn resize_disk(&self, id: VmId, target: &str, bytes: u64) -> Result<(), HypervisorError>;
    /// `virDomainGetBlockInfo`; libvirt takes the format from the definition and probes nothing.
    async fn disk_usage(&self, id: VmId, target: &str) -> Result<DiskUsage, HypervisorError>;
    /// `virDomainInterfaceStats` of a running domain.
    async fn nic_stats(&self, id: VmId, mac: MacAddress) -> Result<NicStats, HypervisorError>;
    /// `virDomainListAllSnapshots`, oldest first, each with its XML.
    async fn snapshots(&self, id: VmId) -> Result<Vec<(Snapshot, String)>, HypervisorError>;
    /// `virDomainSnapshotCreateXML`.
    async fn create_snapshot(&self, id: VmId, xml: &str) -> Result<(), HypervisorError>;
    /// `virDomainRevertToSnapshot`.
    async fn revert_snapshot(&self, id: VmId, name: &str) -> Result<(), HypervisorError>;
    /// `virDomainSnapshotDelete`.
    async fn delete_snapshot(&self, id: VmId, name: &str) -> Result<(), HypervisorError>;
}
