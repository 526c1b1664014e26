//! Records on disk, one file a guest, so that a restart is invisible.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use serde::{Deserialize, Serialize};
use vmmgr_common::api::seed::SeedRecord;
use vmmgr_common::ids::VmId;

const SUFFIX: &str = ".json";
const UNFINISHED: &str = ".tmp";

/// One file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    /// Specs the guest has had, from 1.
    pub(crate) generation: u32,
    /// When the guest first read the part with secrets, seconds since 1970.
    #[serde(default)]
    pub(crate) read_at: Option<i64>,
    /// What the agent wrote.
    pub(crate) record: SeedRecord,
}

/// A folder that only we read.
#[derive(Debug)]
pub(crate) struct Snapshots(PathBuf);

impl Snapshots {
    /// Makes the folder if it is not there and closes it to others.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        Ok(Self(folder.to_owned()))
    }

    /// Reads all; removes what a crash left unfinished. An unreadable file costs its own guest
    /// the seed, not everybody.
    pub(crate) fn load(&self) -> io::Result<Vec<Saved>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            if name.ends_with(UNFINISHED) {
                fs::remove_file(&path)?;
            } else if let Some(vm) = name.strip_suffix(SUFFIX) {
                match read(&path, vm) {
                    Ok(saved) => all.push(saved),
                    Err(error) => {
                        tracing::error!(vm.id = vm, %error, "skipped an unreadable seed; write it again");
                    }
                }
            }
        }
        Ok(all)
    }

    /// Replaces a guest's file; on the disk when this returns.
    pub(crate) fn write(&self, saved: &Saved) -> io::Result<()> {
        let vm = saved.record.vm;
        let unfinished = self.0.join(format!("{vm}{UNFINISHED}"));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(&serde_json::to_vec(saved)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path(vm))?;
        self.sync()
    }

    /// Removes a guest's file, with nothing left under another name.
    pub(crate) fn remove(&self, vm: VmId) -> io::Result<()> {
        match fs::remove_file(self.path(vm)) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn path(&self, vm: VmId) -> PathBuf {
        self.0.join(format!("{vm}{SUFFIX}"))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }
}

fn read(path: &Path, vm: &str) -> io::Result<Saved> {
    let saved: Saved = serde_json::from_slice(&fs::read(path)?)?;
    if saved.record.vm.to_string() == vm {
        Ok(saved)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the file is named after another guest"))
    }
}
