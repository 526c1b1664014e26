//! Keys of this gateway: 32 random bytes in a file of its own.

use std::path::Path;

use vmmgr_common::error::Problem;

use crate::private;
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
    private::write_new(path, &key).map_err(failed)?;
    Ok(key)
}
