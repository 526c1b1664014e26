//! Whose a file is, and who may write to it: what the agent runs must be root's alone.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

fn metadata(path: &Path, owner: u32) -> Result<Metadata, String> {
    let shown = path.display();
    let found = fs_err::symlink_metadata(path).map_err(|error| error.to_string())?;
    if found.is_symlink() {
        return Err(format!("{shown} is a symbolic link"));
    }
    if found.uid() != owner && found.uid() != 0 {
        return Err(format!("{shown} belongs to user {}, not to root", found.uid()));
    }
    Ok(found)
}

fn check_mode(path: &Path, mode: u32) -> Result<(), String> {
    if mode & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    Err(format!("others than root may write to {} (mode {:o})", path.display(), mode & 0o7777))
}

/// A folder whose content only `owner` or root decides, up to the root of the file system: who may
/// rename a folder above it decides as well.
pub(super) fn check_folder(folder: &Path, owner: u32) -> Result<(), String> {
    for path in folder.ancestors() {
        let found = metadata(path, owner)?;
        if !found.is_dir() {
            return Err(format!("{} is not a folder", path.display()));
        }
        // In a sticky folder, such as /tmp, everybody renames but their own.
        if path == folder || found.mode() & STICKY == 0 {
            check_mode(path, found.mode())?;
        }
    }
    Ok(())
}

/// A plain file of `owner` or root that nobody else may write to; gives its mode.
pub(super) fn check_file(path: &Path, owner: u32) -> Result<u32, String> {
    let found = metadata(path, owner)?;
    if !found.is_file() {
        return Err(format!("{} is not a plain file", path.display()));
    }
    check_mode(path, found.mode())?;
    Ok(found.mode())
}
