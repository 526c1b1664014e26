//! Running qemu-img: fixed arguments, no shell, and its complaint in our words.

use std::ffi::OsStr;
use std::path::Path;
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
    let line = complaint(&output.stderr);
    let code = if line.contains("No space left") || line.contains("Disk quota") {
        ErrorCode::NoSpace
    } else {
        ErrorCode::Internal
    };
    Err(Problem::new(code, format!("qemu-img failed: {line}")))
}

/// Reads all tables of a qcow2 image whose header was judged: one that was cut off has clusters
/// behind its end. Leaked clusters are harmless.
pub(super) async fn check(path: &Path) -> Result<(), Problem> {
    const SOUND: i32 = 0;
    const LEAKS: i32 = 3;
    let output = Command::new("qemu-img")
        .args(["check", "-q", "-f", "qcow2", "--"])
        .arg(path)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("cannot run qemu-img: {error}"))
        })?;
    match output.status.code() {
        Some(SOUND | LEAKS) => Ok(()),
        _ => {
            let why = format!("the image is damaged: {}", complaint(&output.stderr));
            Err(Problem::new(ErrorCode::UnfitImage, why).hint("copy it again from its origin"))
        }
    }
}

fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    text.lines().next().unwrap_or("no reason given").trim().to_owned()
}
