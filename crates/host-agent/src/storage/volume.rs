//! Volumes of guests in the local pool.
//!
//! A volume appears under its name only when it is whole: it is made under a temporary name and
//! renamed. A path is never used twice, so a late delete cannot hit a newer disk.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use vmmgr_common::api::disk::DiskSize;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;

use super::image::Base;
use super::{io_problem, qemu_img};

/// The pool's folder.
pub(crate) struct Volumes {
    dir: PathBuf,
}

impl Volumes {
    /// Volumes in `dir`, which libvirt's pool has made.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The pool's folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A fresh path for the guest's disk at `target`.
    pub(crate) fn path_for(&self, target: &str, vm: VmId) -> String {
        let random = uuid::Uuid::new_v4().simple().to_string();
        self.dir
            .join(format!("{target}-{vm}-{}.qcow2", &random[..8]))
            .to_string_lossy()
            .into_owned()
    }

    /// A fresh path for the guest's seed.
    pub(crate) fn seed_path(&self, vm: VmId) -> String {
        let random = uuid::Uuid::new_v4().simple().to_string();
        self.dir.join(format!("cidata-{vm}-{}.iso", &random[..8])).to_string_lossy().into_owned()
    }

    /// A thin disk of `size` over `base`.
    pub(crate) async fn create_overlay(
        &self,
        base: &Base,
        path: &str,
        size: DiskSize,
    ) -> Result<(), Problem> {
        if size.bytes() < base.virtual_size {
            return Err(Problem::new(
                ErrorCode::InvalidValue,
                format!(
                    "size: {} bytes are asked for, the gold image holds {}",
                    size.bytes(),
                    base.virtual_size
                ),
            )
            .hint("ask for at least the gold image's size"));
        }
        let backing = base.path.to_string_lossy().into_owned();
        let format = base.format.as_str();
        self.create(path, &["-b", &backing, "-F", format], size).await
    }

    /// An empty thin disk.
    pub(crate) async fn create_blank(&self, path: &str, size: DiskSize) -> Result<(), Problem> {
        self.create(path, &[], size).await
    }

    async fn create(&self, path: &str, extra: &[&str], size: DiskSize) -> Result<(), Problem> {
        let (path, fresh) = self.places(path)?;
        let bytes = size.bytes().to_string();
        let fresh_text = fresh.to_string_lossy().into_owned();
        let mut args = vec!["create", "-q", "-f", "qcow2"];
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

    /// Makes a disk that no guest has open larger.
    pub(crate) async fn grow(&self, path: &str, size: DiskSize) -> Result<(), Problem> {
        let (path, _) = self.places(path)?;
        let path = path.to_string_lossy().into_owned();
        qemu_img::run(&["resize", "-q", "-f", "qcow2", "--", &path, &size.bytes().to_string()])
            .await
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

    /// Deletes a volume; one that is not there is fine.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Problem> {
        let (path, fresh) = self.places(path)?;
        remove(&fresh).await?;
        remove(&path).await
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

    #[tokio::test]
    async fn a_disk_is_whole_or_absent_and_deleting_twice_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(dir.path().to_owned());
        let vm = VmId::new();
        let path = volumes.path_for("vda", vm);
        assert_ne!(path, volumes.path_for("vda", vm));
        volumes.create_blank(&path, DiskSize::parse("16M").unwrap()).await.unwrap();
        let base =
            Base { path: path.clone().into(), format: Format::Qcow2, virtual_size: 16 << 20 };
        let small = volumes
            .create_overlay(&base, &volumes.path_for("vdb", vm), DiskSize::parse("8M").unwrap())
            .await
            .unwrap_err();
        assert_eq!(small.status, 422);
        let broken = Base { path: dir.path().join("absent"), ..base.clone() };
        let over = volumes.path_for("vdb", vm);
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
}
