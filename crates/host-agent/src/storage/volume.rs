//! Volumes of guests: files of the local pool, and images of Ceph's pools.
//!
//! ```text
//!  "/var/lib/vmmgr/storage/vda-…"  --> Files     a file, made under another name and renamed
//!  "vms/vda-…"                     --> RbdImages an image of the Ceph pool `vms`, made by libvirt
//! ```
//!
//! A volume is named by its source as it stands in a guest's definition; that name also tells the
//! store that holds it. A name is never used twice, so a late delete cannot hit a newer disk.

mod file;
mod rbd;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use vmmgr_common::api::disk::{DiskFormat, DiskSize};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{ResourceName, VmId};

use super::image::Base;
use crate::domain::rbd::RbdPool;
use crate::hypervisor::{Hypervisor, VolumeInfo};

pub(crate) use file::Files;
pub(crate) use rbd::{Fill, QemuImg, RbdImages};

/// What a new volume is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewVolume<'a> {
    /// What the guest sees.
    pub(crate) size: DiskSize,
    /// One of the store's formats.
    pub(crate) format: DiskFormat,
    /// The gold image that it begins as; blank without.
    pub(crate) base: Option<&'a Base>,
}

/// Tells people how far a copy is.
pub(crate) type Tell<'a> = &'a (dyn Fn(String) + Send + Sync);

/// Where volumes are.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Formats of its volumes, the usual one first.
    fn formats(&self) -> &'static [DiskFormat];
    /// libvirt's name of the pool, where asking for its room is cheap.
    fn measured_pool(&self) -> Option<&str>;
    /// Refuses where the store cannot be used now.
    async fn ready(&self) -> Result<(), Problem>;
    /// What a device template must know beside the volume's name.
    fn rbd(&self) -> Option<&RbdPool>;
    /// A fresh name for the guest's disk at `target`.
    fn fresh(&self, target: &str, vm: VmId, format: DiskFormat) -> String;
    /// True for the names of this store.
    fn holds(&self, source: &str) -> bool;
    /// Makes a volume; after a failure [`Self::delete`] takes away what there is of it.
    async fn create(
        &self,
        source: &str,
        new: NewVolume<'_>,
        progress: Tell<'_>,
    ) -> Result<(), Problem>;
    /// Makes a volume that no guest has open larger.
    async fn grow(&self, source: &str, size: DiskSize) -> Result<(), Problem>;
    /// Size of a volume that no guest has open; none where libvirt tells it of the guest.
    async fn info(&self, source: &str) -> Result<Option<VolumeInfo>, Problem>;
    /// Deletes a volume, or what there is of it; one that is not there is fine.
    async fn delete(&self, source: &str) -> Result<(), Problem>;
}

/// All stores of this host.
pub(crate) struct Volumes {
    files: Files,
    rbd: Vec<(ResourceName, RbdImages)>,
}

impl Volumes {
    /// Files in `dir`, the folder of libvirt's pool `pool`.
    pub(crate) fn new(dir: std::path::PathBuf, pool: String) -> Self {
        Self { files: Files::new(dir, pool), rbd: Vec::new() }
    }

    /// With images on Ceph too; `fill` copies gold images into them.
    pub(crate) fn with_rbd(
        mut self,
        pools: &[RbdPool],
        hypervisor: &Arc<dyn Hypervisor>,
        fill: &Arc<dyn Fill>,
    ) -> Self {
        let images =
            |pool: &RbdPool| RbdImages::new(pool.clone(), hypervisor.clone(), fill.clone());
        self.rbd = pools.iter().map(|pool| (pool.name.clone(), images(pool))).collect();
        self
    }

    /// The local pool.
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// The local pool's folder.
    pub(crate) fn dir(&self) -> &Path {
        self.files.dir()
    }

    /// Ceph's pools.
    pub(crate) fn rbd_pools(&self) -> impl Iterator<Item = &RbdPool> {
        self.rbd.iter().filter_map(|(_, images)| images.rbd())
    }

    /// The store of a device: the `[[rbd_pool]]` that it names, or the local pool.
    pub(crate) fn of_device(&self, pool: Option<&ResourceName>) -> Result<&dyn Store, Problem> {
        let Some(name) = pool else { return Ok(&self.files) };
        match self.rbd.iter().find(|(known, _)| known == name) {
            Some((_, images)) => Ok(images),
            None => Err(Problem::new(
                ErrorCode::NoSuchRecord,
                format!("this host has no pool `{name}`"),
            )),
        }
    }

    /// The store that a source is in; none for what others brought.
    pub(crate) fn find(&self, source: &str) -> Option<&dyn Store> {
        if self.files.holds(source) {
            return Some(&self.files);
        }
        let images = self.rbd.iter().find(|(_, images)| images.holds(source));
        images.map(|(_, images)| images as &dyn Store)
    }

    /// The store that a volume of ours is in.
    pub(crate) fn holding(&self, source: &str) -> Result<&dyn Store, Problem> {
        self.find(source).ok_or_else(|| {
            Problem::new(
                ErrorCode::WrongState,
                format!("volume `{source}` was made here, and no pool of this host has it now"),
            )
            .hint("put its [pool] or [[rbd_pool]] back into the agent's configuration")
        })
    }
}

/// A name that no volume had before.
fn fresh_name(target: &str, vm: VmId, extension: &str) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{target}-{vm}-{}.{extension}", &random[..8])
}

/// A disk is at least as large as the image that it begins as.
fn check_holds(base: &Base, size: DiskSize) -> Result<(), Problem> {
    if size.bytes() >= base.virtual_size {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::InvalidValue,
        format!(
            "size: {} bytes are asked for, the gold image holds {}",
            size.bytes(),
            base.virtual_size
        ),
    )
    .hint("ask for at least the gold image's size"))
}
