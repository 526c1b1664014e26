//! [`Storage`] in memory: volumes are names and sizes, and what was copied into them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use uuid::Uuid;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

use super::super::HypervisorError;
use super::super::storage::{PoolInfo, Storage, VolumeInfo};
use super::FakeHypervisor;
use crate::domain::rbd::RbdPool;
use crate::storage::image::Base;
use crate::storage::volume::{Fill, Tell};

/// A volume of a Ceph pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FakeVolume {
    /// What a guest sees.
    pub(crate) bytes: u64,
    /// A gold image was copied into it.
    pub(crate) filled: bool,
}

/// Volumes by pool and name.
pub(super) type Volumes = BTreeMap<(String, String), FakeVolume>;

fn absent(name: &str) -> HypervisorError {
    HypervisorError::Failed { code: 50, message: format!("no storage vol with name '{name}'") }
}

impl FakeHypervisor {
    /// Volumes of libvirt's pool, by name.
    pub(crate) fn volumes(&self, pool: &str) -> BTreeMap<String, FakeVolume> {
        let all = self.lock().volumes.clone();
        all.into_iter().filter(|((at, _), _)| at == pool).map(|((_, name), v)| (name, v)).collect()
    }

    fn on_volume<T>(
        &self,
        call: &'static str,
        (pool, name): (&str, &str),
        work: impl FnOnce(&mut FakeVolume) -> T,
    ) -> Result<T, HypervisorError> {
        let mut state = self.enter(call)?;
        let found = state.volumes.get_mut(&(pool.to_owned(), name.to_owned()));
        let done = work(found.ok_or_else(|| absent(name))?);
        state.fail(call, true).map(|()| done)
    }
}

#[async_trait]
impl Storage for FakeHypervisor {
    async fn ensure_dir_pool(&self, _: &str, _: &str) -> Result<(), HypervisorError> {
        self.enter("ensure_dir_pool").map(drop)
    }
    async fn pool_info(&self, _: &str) -> Result<PoolInfo, HypervisorError> {
        let state = self.enter("pool_info")?;
        let available_bytes = state.available_bytes.unwrap_or(1 << 40);
        Ok(PoolInfo { capacity_bytes: 1 << 40, available_bytes })
    }
    async fn ensure_rbd_pool(&self, _: &RbdPool) -> Result<(), HypervisorError> {
        self.enter("ensure_rbd_pool").map(drop)
    }
    async fn create_volume(
        &self,
        pool: &str,
        name: &str,
        bytes: u64,
    ) -> Result<(), HypervisorError> {
        let mut state = self.enter("create_volume")?;
        let place = (pool.to_owned(), name.to_owned());
        if state.volumes.contains_key(&place) {
            let message = format!("storage volume '{name}' exists already");
            return Err(HypervisorError::Failed { code: 90, message });
        }
        state.volumes.insert(place, FakeVolume { bytes, filled: false });
        state.fail("create_volume", true)
    }
    async fn volume_info(&self, pool: &str, name: &str) -> Result<VolumeInfo, HypervisorError> {
        self.on_volume("volume_info", (pool, name), |volume| VolumeInfo {
            capacity_bytes: volume.bytes,
            allocation_bytes: 0,
        })
    }
    async fn resize_volume(
        &self,
        pool: &str,
        name: &str,
        bytes: u64,
    ) -> Result<(), HypervisorError> {
        self.on_volume("resize_volume", (pool, name), |volume| volume.bytes = bytes)
    }
    async fn delete_volume(&self, pool: &str, name: &str) -> Result<(), HypervisorError> {
        let mut state = self.enter("delete_volume")?;
        state.volumes.remove(&(pool.to_owned(), name.to_owned()));
        state.fail("delete_volume", true)
    }
    async fn secret_value(&self, _: Uuid) -> Result<Secret<Vec<u8>>, HypervisorError> {
        self.enter("secret_value").map(|_| Secret::new(b"key".to_vec()))
    }
}

/// In the place of qemu-img; fails as the call `fill`.
#[async_trait]
impl Fill for FakeHypervisor {
    async fn fill(
        &self,
        _: &Base,
        pool: &RbdPool,
        image: &str,
        _: Tell<'_>,
    ) -> Result<(), Problem> {
        let place = (pool.name.as_str(), image);
        self.on_volume("fill", place, |volume| volume.filled = true)
            .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))
    }
}
