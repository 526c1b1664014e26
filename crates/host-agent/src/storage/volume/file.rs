//! Files of the local pool.
//!
//! A file appears under its name only when it is whole: it is made under a temporary name and
//! renamed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use vmmgr_common::api::disk::{DiskFormat, DiskSize};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;

use super::{NewVolume, Store, Tell, check_holds, fresh_name};
use crate::domain::rbd::RbdPool;
use crate::hypervisor::VolumeInfo;
use crate::storage::image::Base;
use crate::storage::{io_problem, qemu_img};

/// The pool's folder.
pub(crate) struct Files {
    dir: PathBuf,
    pool: String,
}

impl Files {
    /// Files in `dir`, the folder of libvirt's pool `pool`.
    pub(super) fn new(dir: PathBuf, pool: String) -> Self {
        Self { dir, pool }
    }

    /// The pool's folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A fresh path for the guest's seed.
    pub(crate) fn seed_path(&self, vm: VmId) -> String {
        self.path(&fresh_name("cidata", vm, "iso"))
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// A thin disk of `size` over `base`.
    async fn create_overlay(&self, base: &Base, path: &str, size: DiskSize) -> Result<(), Problem> {
        check_holds(base, size)?;
        let backing = base.path.to_string_lossy().into_owned();
        let format = base.format.as_str();
        self.make(path, DiskFormat::Qcow2, &["-b", &backing, "-F", format], size).await
    }

    /// A raw disk of `size` that begins as a copy of `base`. The copy may take as long as it needs;
    /// it has its name only when it is whole.
    async fn create_copy(
        &self,
        base: &Base,
        path: &str,
        size: DiskSize,
        progress: Tell<'_>,
    ) -> Result<(), Problem> {
        check_holds(base, size)?;
        let (path, fresh) = self.places(path)?;
        progress(format!("copying {} MiB", base.virtual_size >> 20));
        let made = copy_and_grow(base, &fresh, size, progress).await;
        let made = match made {
            Ok(()) => settle(&fresh, &path).await,
            Err(problem) => Err(problem),
        };
        if made.is_err() {
            remove(&fresh).await?;
        }
        made
    }

    async fn make(
        &self,
        path: &str,
        format: DiskFormat,
        extra: &[&str],
        size: DiskSize,
    ) -> Result<(), Problem> {
        let (path, fresh) = self.places(path)?;
        let bytes = size.bytes().to_string();
        let fresh_text = fresh.to_string_lossy().into_owned();
        let mut args = vec!["create", "-q", "-f", format.as_str()];
        args.extend(extra);
        args.extend(["--", &fresh_text, &bytes]);
        let made = match qemu_img::run(&args).await {
            Ok(()) => settle(&fresh, &path).await,
            Err(problem) => Err(problem),
        };
        if made.is_err() {
            remove(&fresh).await?;
        }
        made
    }

    /// Writes a small file (a seed) into the pool.
    pub(crate) async fn write_file(&self, path: &str, content: &[u8]) -> Result<(), Problem> {
        let (path, fresh) = self.places(path)?;
        let written = match fs_err::tokio::write(&fresh, content).await {
            Ok(()) => settle(&fresh, &path).await,
            Err(error) => Err(io_problem("cannot write", &path, &error)),
        };
        if written.is_err() {
            remove(&fresh).await?;
        }
        written
    }

    /// The path, which must be directly in the pool, and its temporary neighbour.
    fn places(&self, path: &str) -> Result<(PathBuf, PathBuf), Problem> {
        let path = PathBuf::from(path);
        let name = path.file_name().and_then(|name| name.to_str());
        match name {
            Some(name) if path.parent() == Some(&self.dir) => {
                let fresh = self.dir.join(format!(".new-{name}"));
                Ok((path, fresh))
            }
            _ => Err(Problem::new(
                ErrorCode::Internal,
                format!("{} is not in the pool", path.display()),
            )),
        }
    }
}

#[async_trait]
impl Store for Files {
    fn formats(&self) -> &'static [DiskFormat] {
        &[DiskFormat::Qcow2, DiskFormat::Raw]
    }

    fn measured_pool(&self) -> Option<&str> {
        Some(&self.pool)
    }

    async fn ready(&self) -> Result<(), Problem> {
        Ok(())
    }

    fn rbd(&self) -> Option<&RbdPool> {
        None
    }

    fn fresh(&self, target: &str, vm: VmId, format: DiskFormat) -> String {
        self.path(&fresh_name(target, vm, format.as_str()))
    }

    fn holds(&self, source: &str) -> bool {
        self.places(source).is_ok()
    }

    async fn create(
        &self,
        path: &str,
        new: NewVolume<'_>,
        progress: Tell<'_>,
    ) -> Result<(), Problem> {
        match (new.base, new.format) {
            (None, format) => self.make(path, format, &[], new.size).await,
            (Some(base), DiskFormat::Qcow2) => self.create_overlay(base, path, new.size).await,
            (Some(base), DiskFormat::Raw) => self.create_copy(base, path, new.size, progress).await,
        }
    }

    async fn grow(&self, path: &str, size: DiskSize) -> Result<(), Problem> {
        let (path, _) = self.places(path)?;
        // The name is ours, and so tells the format.
        let raw = path.extension().is_some_and(|extension| extension == "raw");
        let format = if raw { DiskFormat::Raw } else { DiskFormat::Qcow2 }.as_str();
        let path = path.to_string_lossy().into_owned();
        let bytes = size.bytes().to_string();
        qemu_img::run(&["resize", "-q", "-f", format, "--", &path, &bytes]).await
    }

    async fn info(&self, _: &str) -> Result<Option<VolumeInfo>, Problem> {
        Ok(None)
    }

    async fn delete(&self, path: &str) -> Result<(), Problem> {
        let (path, fresh) = self.places(path)?;
        remove(&fresh).await?;
        remove(&path).await
    }
}

async fn copy_and_grow(
    base: &Base,
    fresh: &Path,
    size: DiskSize,
    progress: Tell<'_>,
) -> Result<(), Problem> {
    let (from, to) = (base.path.to_string_lossy(), fresh.to_string_lossy());
    let format = base.format.as_str();
    let args = ["-f", format, "-O", "raw", "-m", "1", "-W", "--", &from, &to];
    qemu_img::convert(&args, None, progress).await?;
    qemu_img::run(&["resize", "-q", "-f", "raw", "--", &to, &size.bytes().to_string()]).await
}

/// Makes the finished file durable under its name.
async fn settle(fresh: &Path, path: &Path) -> Result<(), Problem> {
    let (fresh, path) = (fresh.to_owned(), path.to_owned());
    let work = move || -> Result<(), Problem> {
        let bad = |error: std::io::Error| io_problem("cannot finish", &path, &error);
        let file = fs_err::File::open(&fresh).map_err(bad)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(bad)?;
        file.sync_all().map_err(bad)?;
        fs_err::rename(&fresh, &path).map_err(bad)?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        fs_err::File::open(dir).and_then(|dir| dir.sync_all()).map_err(bad)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?
}

async fn remove(path: &Path) -> Result<(), Problem> {
    match fs_err::tokio::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io_problem("cannot delete", path, &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::inspect::Format;

    const QCOW2: DiskFormat = DiskFormat::Qcow2;

    #[tokio::test]
    async fn a_disk_is_whole_or_absent_and_deleting_twice_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Files::new(dir.path().to_owned(), "vmmgr".to_owned());
        let vm = VmId::new();
        let path = volumes.fresh("vda", vm, QCOW2);
        assert_ne!(path, volumes.fresh("vda", vm, QCOW2));
        volumes.make(&path, QCOW2, &[], DiskSize::parse("16M").unwrap()).await.unwrap();
        let base =
            Base { path: path.clone().into(), format: Format::Qcow2, virtual_size: 16 << 20 };
        let small = volumes
            .create_overlay(&base, &volumes.fresh("vdb", vm, QCOW2), DiskSize::parse("8M").unwrap())
            .await
            .unwrap_err();
        assert_eq!(small.status, 422);
        let broken = Base { path: dir.path().join("absent"), ..base.clone() };
        let over = volumes.fresh("vdb", vm, QCOW2);
        assert!(
            volumes.create_overlay(&broken, &over, DiskSize::parse("1G").unwrap()).await.is_err()
        );
        volumes.create_overlay(&base, &over, DiskSize::parse("1G").unwrap()).await.unwrap();
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 2);
        for _ in 0..2 {
            volumes.delete(&over).await.unwrap();
        }
        assert!(volumes.delete("/etc/passwd").await.is_err());
        assert!(volumes.delete(&format!("{}/../x", dir.path().display())).await.is_err());
    }

    #[tokio::test]
    async fn a_raw_copy_of_a_gold_image_is_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Files::new(dir.path().to_owned(), "vmmgr".to_owned());
        let vm = VmId::new();
        let path = volumes.fresh("vda", vm, QCOW2);
        volumes.make(&path, QCOW2, &[], DiskSize::parse("16M").unwrap()).await.unwrap();
        let base = Base { path: path.into(), format: Format::Qcow2, virtual_size: 16 << 20 };
        let copy = volumes.fresh("vdb", vm, DiskFormat::Raw);
        assert!(copy.ends_with(".raw"));
        let size = DiskSize::parse("32M").unwrap();
        volumes.create_copy(&base, &copy, size, &|_| {}).await.unwrap();
        assert_eq!(fs_err::metadata(&copy).unwrap().len(), 32 << 20);
        volumes.grow(&copy, DiskSize::parse("64M").unwrap()).await.unwrap();
        assert_eq!(fs_err::metadata(&copy).unwrap().len(), 64 << 20);
        // A conversion that breaks off leaves no part of a disk.
        let before = fs_err::read_dir(dir.path()).unwrap().count();
        let broken = Base { format: Format::Raw, path: dir.path().join("absent"), ..base };
        let never = volumes.fresh("vdc", vm, DiskFormat::Raw);
        assert!(volumes.create_copy(&broken, &never, size, &|_| {}).await.is_err());
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), before);
    }
}
