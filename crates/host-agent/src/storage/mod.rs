//! Disks and images on this host. What qemu-img is asked to do is fixed by us, word for word.

mod download;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod label;
pub(crate) mod origin;
pub(crate) mod qemu_img;
pub(crate) mod remote_iso;
mod scp;
mod sink;
pub(crate) mod volume;

use std::path::Path;

use vmmgr_common::error::{ErrorCode, Problem};

/// An I/O error on `path` as a problem; a full disk has a code of its own.
pub(crate) fn io_problem(what: &str, path: &Path, error: &std::io::Error) -> Problem {
    let code = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorCode::NoSpace,
        _ => ErrorCode::Internal,
    };
    Problem::new(code, format!("{what} {}: {error}", path.display()))
}
