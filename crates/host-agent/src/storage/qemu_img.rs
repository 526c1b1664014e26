//! Running qemu-img: fixed arguments, no shell, and its complaint in our words.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout, Command};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

use super::volume::Tell;

/// How often a copy tells how far it is: a proxy takes a connection that says nothing for long for dead.
const TELL_EVERY: Duration = Duration::from_secs(10);

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

/// Runs `convert` and tells now and then how far it is; `input` is what nobody else may read, such as
/// a key.
pub(super) async fn convert<A: AsRef<OsStr>>(
    args: &[A],
    input: Option<Secret<Vec<u8>>>,
    progress: Tell<'_>,
) -> Result<(), Problem> {
    let mut child = Command::new("qemu-img")
        .args(["convert", "-p"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| broken(&error))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let told = async { feed(stdin, input).await };
    let (fed, (), ended) = tokio::join!(told, follow(stdout, progress), child.wait_with_output());
    fed.map_err(|error| broken(&error))?;
    judge(&ended.map_err(|error| broken(&error))?)
}

/// Gives it its input, and the end of it.
async fn feed(stdin: Option<ChildStdin>, input: Option<Secret<Vec<u8>>>) -> std::io::Result<()> {
    let (Some(mut stdin), Some(input)) = (stdin, input) else { return Ok(()) };
    match stdin.write_all(input.expose()).await {
        // One that ends without reading says why itself.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Reads its output, which is percentages and nothing else, to the end.
async fn follow(stdout: Option<ChildStdout>, progress: Tell<'_>) {
    let Some(mut stdout) = stdout else { return };
    let mut tick = tokio::time::interval(TELL_EVERY);
    tick.tick().await;
    let (mut piece, mut percent) = ([0; 256], String::new());
    loop {
        tokio::select! {
            read = stdout.read(&mut piece) => match read {
                Ok(length @ 1..) => {
                    percent = last_percent(&piece[..length]).unwrap_or(percent);
                }
                _ => return,
            },
            _ = tick.tick() => {
                if !percent.is_empty() {
                    progress(format!("copied {percent} %"));
                }
            }
        }
    }
}

/// The whole percents of the last complete `(12.34/100%)`.
fn last_percent(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let (before, _) = text.rsplit_once("/100%)")?;
    let (_, number) = before.rsplit_once('(')?;
    number.split('.').next().map(str::to_owned)
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

/// Sees that QEMU has the driver for `http` or `https`, which Debian packs apart.
pub(crate) async fn reads_over(protocol: &str) -> Result<(), Problem> {
    let output = Command::new("qemu-img")
        .args(["info", "--", &format!("json:{{\"driver\":\"{protocol}\"}}")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("cannot run qemu-img: {error}"))
        })?;
    // With the driver it complains that there is no URL.
    let said = String::from_utf8_lossy(&output.stderr);
    if !said.contains("Unknown driver") {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::HypervisorFailed,
        format!("QEMU of this host cannot read a medium over {protocol}"),
    )
    .hint("install the package qemu-block-extra on the host"))
}

fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    text.lines().next().unwrap_or("no reason given").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Option<Secret<Vec<u8>>> {
        Some(Secret::new(text.as_bytes().to_vec()))
    }

    #[tokio::test]
    async fn a_secret_is_read_from_the_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let (from, to) = (path("from"), path("to"));
        fs_err::write(&from, [7; 1 << 20]).unwrap();
        let args = [
            &["--object", "secret,id=key,format=base64,file=/dev/stdin", "-f", "raw"][..],
            &["-O", "qcow2", "-o", "encrypt.format=aes,encrypt.key-secret=key", &from, &to][..],
        ]
        .concat();
        convert(&args, secret("c2VjcmV0"), &|_| {}).await.unwrap();
        let wrong = convert(&args, secret("!"), &|_| {}).await.unwrap_err();
        assert!(wrong.detail.contains("Base64"), "{wrong}");
        // One that ends before it reads is not a broken pipe but what it says.
        let absent = ["-O", "raw", "/absent/image", &to];
        let said = convert(&absent, secret(&"x".repeat(1 << 20)), &|_| {}).await.unwrap_err();
        assert!(said.detail.contains("/absent/image"), "{said}");
        convert(&["-f", "raw", "-O", "raw", &from, &to], None, &|_| {}).await.unwrap();
    }

    #[test]
    fn the_last_whole_percentage_counts() {
        let said = b"    (0.00/100%)\r    (12.50/100%)\r    (13.";
        assert_eq!(last_percent(said).as_deref(), Some("12"));
        assert_eq!(last_percent(b"(100.00/100%)\r").as_deref(), Some("100"));
        assert_eq!(last_percent(b"0/100%)\r"), None);
        assert_eq!(last_percent(b"    (1"), None);
    }

    #[tokio::test]
    async fn a_driver_that_is_not_installed_is_told_with_its_package() {
        for protocol in ["http", "https"] {
            reads_over(protocol).await.unwrap();
        }
        // As QEMU without its curl module says it of http.
        let problem = reads_over("absent").await.unwrap_err();
        assert_eq!(problem.code, ErrorCode::HypervisorFailed);
        assert!(problem.hint.unwrap().contains("qemu-block-extra"));
    }
}
