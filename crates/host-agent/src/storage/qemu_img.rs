//! Running qemu-img: fixed arguments, no shell, and its complaint in our words.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

/// Runs `qemu-img` with `args`; killed when the caller goes away.
pub(super) async fn run<A: AsRef<OsStr>>(args: &[A]) -> Result<(), Problem> {
    let output = Command::new("qemu-img")
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| broken(&error))?;
    judge(&output)
}

/// Runs it with something to read that nobody else may.
pub(super) async fn run_with<A: AsRef<OsStr>>(
    args: &[A],
    input: Secret<Vec<u8>>,
) -> Result<(), Problem> {
    let mut child = Command::new("qemu-img")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| broken(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        let written = stdin.write_all(input.expose()).await;
        // One that ends without reading says why itself.
        written.or_else(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(broken(&error)),
        })?;
    }
    judge(&child.wait_with_output().await.map_err(|error| broken(&error))?)
}

fn broken(error: &std::io::Error) -> Problem {
    Problem::new(ErrorCode::Internal, format!("cannot run qemu-img: {error}"))
}

fn judge(output: &Output) -> Result<(), Problem> {
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
        .map_err(|error| broken(&error))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A secret that qemu-img reads from its input, as the key of Ceph is.
    fn secret(text: &str) -> Secret<Vec<u8>> {
        Secret::new(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_secret_is_read_from_the_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk").to_string_lossy().into_owned();
        let object = ["--object", "secret,id=key,format=base64,file=/dev/stdin"];
        let mut create = vec!["create", "-q", "-f", "qcow2"];
        create.extend(object);
        create.extend(["-o", "encrypt.format=aes,encrypt.key-secret=key", "--", &path, "1M"]);
        run_with(&create, secret("c2VjcmV0")).await.unwrap();
        let wrong = run_with(&create, secret("!")).await.unwrap_err();
        assert!(wrong.detail.contains("Base64"), "{wrong}");
        // One that ends before it reads is not a broken pipe but what it says.
        let absent = ["info", "--", "/absent/image"];
        let said = run_with(&absent, secret(&"x".repeat(1 << 20))).await.unwrap_err();
        assert!(said.detail.contains("/absent/image"), "{said}");
    }
}
