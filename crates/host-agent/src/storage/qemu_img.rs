//! Running qemu-img: fixed arguments, no shell, and its complaint in our words.

use std::ffi::OsStr;
use std::process::Stdio;

use tokio::process::Command;
use vmmgr_common::error::{ErrorCode, Problem};

/// Runs `qemu-img` with `args`; killed when the caller goes away.
pub(super) async fn run<A: AsRef<OsStr>>(args: &[A]) -> Result<(), Problem> {
    let output = Command::new("qemu-img")
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("cannot run qemu-img: {error}"))
        })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().next().unwrap_or("no reason given").trim();
    let code = if line.contains("No space left") || line.contains("Disk quota") {
        ErrorCode::NoSpace
    } else {
        ErrorCode::Internal
    };
    Err(Problem::new(code, format!("qemu-img failed: {line}")))
}
