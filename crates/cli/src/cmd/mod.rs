//! The commands, one file per noun.

pub(crate) mod address;
pub(crate) mod audit;
pub(crate) mod console;
pub(crate) mod device;
pub(crate) mod event;
pub(crate) mod host;
pub(crate) mod link;
pub(crate) mod nginx;
pub(crate) mod operation;
pub(crate) mod pki;
pub(crate) mod records;
pub(crate) mod seed;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod token;
pub(crate) mod transfer;
pub(crate) mod tuning;
pub(crate) mod user;
pub(crate) mod vm;

use vmmgr_common::api::operation::Operation;

use crate::failure::Failure;
use crate::output::{self, Format};

/// A part of a path; names with other characters exist nowhere.
pub(crate) fn part(name: &str) -> Result<&str, Failure> {
    let fits = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
        && name.bytes().any(|b| b != b'.');
    if fits {
        Ok(name)
    } else {
        Err(Failure::Usage(format!("`{}` is no name", name.escape_debug())))
    }
}

/// Prints what an operation came to.
pub(crate) fn done(
    format: Format,
    operation: &Operation,
    name: &str,
    said: &str,
) -> Result<(), Failure> {
    let value = serde_json::to_value(operation).map_err(Failure::local)?;
    output::one(format, &value, name, said)
}
