//! [`Storage`] on libvirt.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use virt::connect::Connect;
use virt::error::Error;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt_sys as sys;
use vmmgr_common::secret::Secret;

use super::super::storage::{PoolInfo, Storage, VolumeInfo};
use super::super::{HypervisorError, NO_CODE};
use super::{CHANGE, Libvirt, READ, translate};
use crate::domain::rbd::{Defined, RbdPool};

/// What a pool that runs was started with, and not what it may have next.
const IN_EFFECT: sys::virStorageXMLFlags = 0;
/// Ceph deletes an image object by object: some minutes for a terabyte that was written.
const DELETE: Duration = Duration::from_secs(600);

impl Libvirt {
    async fn on_pool<T: Send + 'static>(
        &self,
        call: &'static str,
        within: Duration,
        pool: &str,
        work: impl FnOnce(&StoragePool) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let pool = pool.to_owned();
        let work =
            move |connection: &Connect| work(&connection.lookup_storage_pool_by_name(&pool)?);
        self.pool.call(call, within, move |c| work(c).map_err(|e| translate(&e, None))).await
    }
}

fn ensure_dir_pool(connection: &Connect, name: &str, path: &str) -> Result<(), Error> {
    let pool = match connection.lookup_storage_pool_by_name(name) {
        Ok(pool) => pool,
        Err(error) if error.code().to_raw() == sys::VIR_ERR_NO_STORAGE_POOL => {
            let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
            let xml = format!(
                "<pool type='dir'><name>{}</name><target><path>{}</path></target></pool>",
                escape(name),
                escape(path)
            );
            connection.define_storage_pool_xml(&xml, 0)?
        }
        Err(error) => return Err(error),
    };
    if !pool.is_active()? {
        pool.build(0)?;
        pool.create(0)?;
    }
    pool.set_autostart(true)
}

/// The pool as configured, or what stands in its place.
fn ensure_rbd_pool(connection: &Connect, wanted: &RbdPool) -> Result<Result<(), String>, Error> {
    let pool = match connection.lookup_storage_pool_by_name(wanted.name.as_str()) {
        Ok(pool) => match wanted.compare(&pool.xml_desc(IN_EFFECT)?) {
            Defined::Same => pool,
            Defined::Other(what) => return Ok(Err(what)),
            Defined::Stale => {
                let uuid = pool.uuid_string()?;
                let defined =
                    connection.define_storage_pool_xml(&wanted.definition(Some(&uuid)), 0)?;
                // A pool is libvirt's connection: guests have their own.
                if defined.is_active()? {
                    defined.destroy()?;
                }
                defined
            }
        },
        Err(error) if error.code().to_raw() == sys::VIR_ERR_NO_STORAGE_POOL => {
            connection.define_storage_pool_xml(&wanted.definition(None), 0)?
        }
        Err(error) => return Err(error),
    };
    // No autostart: libvirtd would wait for Ceph before it starts guests that have nothing there.
    if !pool.is_active()? {
        let started = pool.create(0);
        // Another operation may have been faster.
        if !pool.is_active()? {
            started?;
        }
    }
    Ok(Ok(()))
}

/// libvirt looks into its own list, which knows what came through this pool since its start.
fn find(pool: &StoragePool, name: &str) -> Result<Option<StorageVol>, Error> {
    match pool.lookup_storage_vol_by_name(name) {
        Ok(volume) => Ok(Some(volume)),
        Err(error) if error.code().to_raw() == sys::VIR_ERR_NO_STORAGE_VOL => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looked for in Ceph itself before it is called absent.
fn find_or_refresh(pool: &StoragePool, name: &str) -> Result<Option<StorageVol>, Error> {
    if let Some(volume) = find(pool, name)? {
        return Ok(Some(volume));
    }
    pool.refresh(0)?;
    find(pool, name)
}

/// None where it is deleted; libvirt's complaint where the backend refused.
fn delete(pool: &StoragePool, name: &str) -> Result<Option<String>, Error> {
    let Some(volume) = find_or_refresh(pool, name)? else { return Ok(None) };
    match volume.delete(0) {
        Ok(()) => Ok(None),
        // libvirt 9.0 does not tell Ceph's reason: it reads it from the wrong place.
        Err(error) if error.code().to_raw() == sys::VIR_ERR_SYSTEM_ERROR => {
            Ok(Some(error.message().to_owned()))
        }
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Storage for Libvirt {
    async fn ensure_dir_pool(&self, name: &str, path: &str) -> Result<(), HypervisorError> {
        let (name, path) = (name.to_owned(), path.to_owned());
        self.pool
            .call("ensure_dir_pool", CHANGE, move |connection| {
                ensure_dir_pool(connection, &name, &path).map_err(|e| translate(&e, None))
            })
            .await
    }

    async fn pool_info(&self, name: &str) -> Result<PoolInfo, HypervisorError> {
        self.on_pool("pool_info", READ, name, |pool| {
            pool.refresh(0)?;
            let info = pool.info()?;
            Ok(PoolInfo { capacity_bytes: info.capacity, available_bytes: info.available })
        })
        .await
    }

    async fn ensure_rbd_pool(&self, pool: &RbdPool) -> Result<(), HypervisorError> {
        let wanted = pool.clone();
        let ensured = self.pool.call("ensure_rbd_pool", CHANGE, move |connection| {
            ensure_rbd_pool(connection, &wanted).map_err(|e| translate(&e, None))
        });
        ensured.await?.map_err(|what| HypervisorError::Failed {
            code: NO_CODE,
            message: format!("its storage pool `{}` is {what}", pool.name),
        })
    }

    async fn create_volume(
        &self,
        pool: &str,
        name: &str,
        bytes: u64,
    ) -> Result<(), HypervisorError> {
        let xml = format!(
            "<volume><name>{name}</name><capacity unit='bytes'>{bytes}</capacity></volume>"
        );
        self.on_pool("create_volume", CHANGE, pool, move |pool| {
            StorageVol::create_xml(pool, &xml, 0).map(drop)
        })
        .await
    }

    async fn volume_info(&self, pool: &str, name: &str) -> Result<VolumeInfo, HypervisorError> {
        let name = name.to_owned();
        self.on_pool("volume_info", READ, pool, move |pool| {
            let info = pool.lookup_storage_vol_by_name(&name)?.info()?;
            Ok(VolumeInfo { capacity_bytes: info.capacity, allocation_bytes: info.allocation })
        })
        .await
    }

    async fn resize_volume(
        &self,
        pool: &str,
        name: &str,
        bytes: u64,
    ) -> Result<(), HypervisorError> {
        let name = name.to_owned();
        self.on_pool("resize_volume", CHANGE, pool, move |pool| {
            pool.lookup_storage_vol_by_name(&name)?.resize(bytes, 0)
        })
        .await
    }

    async fn delete_volume(&self, pool: &str, name: &str) -> Result<(), HypervisorError> {
        let name = name.to_owned();
        match self.on_pool("delete_volume", DELETE, pool, move |pool| delete(pool, &name)).await? {
            None => Ok(()),
            Some(message) => Err(HypervisorError::InUse(message)),
        }
    }

    async fn secret_value(&self, uuid: Uuid) -> Result<Secret<Vec<u8>>, HypervisorError> {
        let read = move |connection: &Connect| -> Result<Vec<u8>, Error> {
            connection.lookup_secret_by_uuid_string(&uuid.to_string())?.value(0)
        };
        let value =
            self.pool.call("secret_value", READ, move |c| read(c).map_err(|e| translate(&e, None)));
        value.await.map(Secret::new)
    }
}
