//! Keys of this gateway: 32 random bytes in a file of its own.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use vmmgr_common::error::Problem;

use crate::store::failed;

/// The key in `dir/name`, made when it is not there.
pub(crate) fn open(dir: &Path, name: &str) -> Result<Vec<u8>, Problem> {
    let path = dir.join(name);
    match fs_err::read(&path) {
        Ok(key) if key.len() == 32 => Ok(key),
        Ok(_) => Err(failed(format!("{} is not a key of 32 bytes", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(&path),
        Err(error) => Err(failed(error)),
    }
}

fn make(path: &Path) -> Result<Vec<u8>, Problem> {
    let key = rand::random::<[u8; 32]>().to_vec();
    let write = || -> std::io::Result<()> {
        if let Some(dir) = path.parent() {
            fs_err::create_dir_all(dir)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
        std::io::Write::write_all(&mut file, &key)?;
        file.sync_all()
    };
    write().map_err(failed)?;
    Ok(key)
}
