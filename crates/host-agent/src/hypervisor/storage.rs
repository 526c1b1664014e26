//! Pools, their volumes, and the secrets that open them.

use async_trait::async_trait;
use uuid::Uuid;
use vmmgr_common::secret::Secret;

use super::HypervisorError;
use crate::domain::rbd::RbdPool;

/// A storage pool's room (`virStoragePoolGetInfo`), bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolInfo {
    /// In all.
    pub(crate) capacity_bytes: u64,
    /// Free.
    pub(crate) available_bytes: u64,
}

/// A volume's size (`virStorageVolGetInfo`), bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VolumeInfo {
    /// What a guest sees.
    pub(crate) capacity_bytes: u64,
    /// What it takes.
    pub(crate) allocation_bytes: u64,
}

/// The third part of [`super::Hypervisor`].
#[async_trait]
pub(crate) trait Storage: Send + Sync {
    /// Defines, builds, starts and marks for autostart a `dir` pool if it is not there.
    async fn ensure_dir_pool(&self, name: &str, path: &str) -> Result<(), HypervisorError>;
    /// Refreshes the pool and tells its room.
    async fn pool_info(&self, name: &str) -> Result<PoolInfo, HypervisorError>;
    /// Defines the pool if it is not there, or anew if it was configured otherwise, and starts it.
    /// One of the same name over something else is left alone, and an error.
    async fn ensure_rbd_pool(&self, pool: &RbdPool) -> Result<(), HypervisorError>;
    /// `virStorageVolCreateXML`: a raw volume that reads as zeros.
    async fn create_volume(
        &self,
        pool: &str,
        name: &str,
        bytes: u64,
    ) -> Result<(), HypervisorError>;
    /// `virStorageVolGetInfo`.
    async fn volume_info(&self, pool: &str, name: &str) -> Result<VolumeInfo, HypervisorError>;
    /// `virStorageVolResize` of a volume that no guest has open.
    async fn resize_volume(
        &self,
        pool: &str,
        name: &str,
        bytes: u64,
    ) -> Result<(), HypervisorError>;
    /// `virStorageVolDelete`; one that is not there is fine, one that the backend does not let go is
    /// [`HypervisorError::InUse`].
    async fn delete_volume(&self, pool: &str, name: &str) -> Result<(), HypervisorError>;
    /// `virSecretGetValue`.
    async fn secret_value(&self, uuid: Uuid) -> Result<Secret<Vec<u8>>, HypervisorError>;
}
