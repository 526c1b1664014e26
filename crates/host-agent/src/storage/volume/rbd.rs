//! Images of a Ceph pool.
//!
//! ```text
//!  create: libvirt's pool makes the image at its final size --> qemu-img writes the gold image into it
//!  delete, grow, look: libvirt's pool
//! ```
//!
//! The key of the Ceph user goes from libvirt's secret through a pipe to qemu-img: it is in no file, no
//! argument and no environment. An image has its name before it is whole; the journal owns it by then,
//! and a copy that breaks off is deleted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::Instant;
use vmmgr_common::api::disk::{DiskFormat, DiskSize};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;
use vmmgr_common::secret::Secret;

use super::{NewVolume, Store, Tell, check_holds, fresh_name};
use crate::domain::rbd::RbdPool;
use crate::hypervisor::{Hypervisor, HypervisorError, VolumeInfo};
use crate::storage::image::Base;
use crate::storage::qemu_img;

/// How long Ceph takes a client that died for alive is 30 s; a guest that was cut off is one.
const LET_GO: Duration = Duration::from_secs(60);
/// How often a volume that is in use is tried again.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// Writes a gold image into an image of Ceph that reads as zeros.
#[async_trait]
pub(crate) trait Fill: Send + Sync {
    /// `image` is at least as large as `base`.
    async fn fill(
        &self,
        base: &Base,
        pool: &RbdPool,
        image: &str,
        progress: Tell<'_>,
    ) -> Result<(), Problem>;
}

/// [`Fill`] by qemu-img.
pub(crate) struct QemuImg(pub(crate) Arc<dyn Hypervisor>);

#[async_trait]
impl Fill for QemuImg {
    async fn fill(
        &self,
        base: &Base,
        pool: &RbdPool,
        image: &str,
        progress: Tell<'_>,
    ) -> Result<(), Problem> {
        let key = self.0.secret_value(pool.secret).await.map_err(|error| {
            Problem::from(error).hint(format!(
                "libvirt must tell the agent the key of `{}`: define its secret with private='no'",
                pool.user
            ))
        })?;
        let (from, to) = (base.path.to_string_lossy(), pool.target(image, "key"));
        let args = [
            &["-m", "1", "-W", "-f", base.format.as_str()][..],
            &["-n", "--target-is-zero", "--target-image-opts"][..],
            &["--object", "secret,id=key,format=base64,file=/dev/stdin", "--", &from, &to][..],
        ]
        .concat();
        let input = Secret::new(STANDARD.encode(key.expose()).into_bytes());
        qemu_img::convert(&args, Some(input), progress).await
    }
}

/// The images of one pool.
pub(crate) struct RbdImages {
    pool: RbdPool,
    hypervisor: Arc<dyn Hypervisor>,
    fill: Arc<dyn Fill>,
}

impl RbdImages {
    /// Images in `pool`.
    pub(crate) fn new(pool: RbdPool, hypervisor: Arc<dyn Hypervisor>, fill: Arc<dyn Fill>) -> Self {
        Self { pool, hypervisor, fill }
    }

    /// Names of the pool, which is ready, and of the image.
    async fn place<'a>(&'a self, source: &'a str) -> Result<(&'a str, &'a str), Problem> {
        let image = self.pool.image(source).ok_or_else(|| {
            let detail = format!("{source} is not in the pool {}", self.pool.name);
            Problem::new(ErrorCode::Internal, detail)
        })?;
        self.ready().await?;
        Ok((self.pool.name.as_str(), image))
    }
}

#[async_trait]
impl Store for RbdImages {
    fn formats(&self) -> &'static [DiskFormat] {
        // A format inside an image would do once more what Ceph does already.
        &[DiskFormat::Raw]
    }

    fn measured_pool(&self) -> Option<&str> {
        // libvirt opens every image of the pool before it tells the room.
        None
    }

    /// libvirt's pool as configured, and started: it is not if Ceph was away when libvirtd started.
    async fn ready(&self) -> Result<(), Problem> {
        self.hypervisor.ensure_rbd_pool(&self.pool).await.map_err(|error| {
            let RbdPool { name, secret, user, .. } = &self.pool;
            let hint = format!(
                "pool `{name}`: Ceph's monitors must answer, and libvirt's secret {secret} must hold the key of `{user}`"
            );
            Problem::from(error).hint(hint)
        })
    }

    fn rbd(&self) -> Option<&RbdPool> {
        Some(&self.pool)
    }

    fn fresh(&self, target: &str, vm: VmId, format: DiskFormat) -> String {
        self.pool.source(&fresh_name(target, vm, format.as_str()))
    }

    fn holds(&self, source: &str) -> bool {
        self.pool.image(source).is_some()
    }

    async fn create(
        &self,
        source: &str,
        new: NewVolume<'_>,
        progress: Tell<'_>,
    ) -> Result<(), Problem> {
        new.base.map_or(Ok(()), |base| check_holds(base, new.size))?;
        let (pool, image) = self.place(source).await?;
        self.hypervisor.create_volume(pool, image, new.size.bytes()).await?;
        let Some(base) = new.base else { return Ok(()) };
        progress(format!("copying {} MiB to Ceph", base.virtual_size >> 20));
        self.fill.fill(base, &self.pool, image, progress).await
    }

    async fn grow(&self, source: &str, size: DiskSize) -> Result<(), Problem> {
        let (pool, image) = self.place(source).await?;
        Ok(self.hypervisor.resize_volume(pool, image, size.bytes()).await?)
    }

    async fn info(&self, source: &str) -> Result<Option<VolumeInfo>, Problem> {
        let (pool, image) = self.place(source).await?;
        Ok(Some(self.hypervisor.volume_info(pool, image).await?))
    }

    async fn delete(&self, source: &str) -> Result<(), Problem> {
        let (pool, image) = self.place(source).await?;
        let give_up = Instant::now() + LET_GO;
        loop {
            match self.hypervisor.delete_volume(pool, image).await {
                Err(HypervisorError::InUse(_)) if Instant::now() < give_up => {
                    tokio::time::sleep(TRY_EVERY).await;
                }
                Err(error @ HypervisorError::InUse(_)) => {
                    return Err(Problem::from(error).hint(format!(
                        "`rbd status {source}` tells who has it open, `rbd snap ls {source}` its snapshots"
                    )));
                }
                done => return Ok(done?),
            }
        }
    }
}
