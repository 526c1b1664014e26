//! Running one program: fixed arguments, a clean environment, a process group of its own that does
//! not outlive its time.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

use super::lines::Lines;

/// The whole environment.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];
/// Lines that are passed on; an operation keeps a thousand in all.
const MOST_SHOWN: usize = 400;
/// Lines that a failure repeats.
const LAST: usize = 5;
/// How long output may stay open behind the end of the program: what it left in the background may
/// have it.
const LATE: Duration = Duration::from_secs(1);

/// One run.
pub(super) struct Call<'a> {
    /// The program.
    pub(super) path: &'a Path,
    /// Its arguments.
    pub(super) arguments: &'a [&'a str],
    /// What it reads.
    pub(super) input: String,
    /// How long it may take.
    pub(super) within: Duration,
}

/// Why it did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It could not be started, or not be waited for.
    #[error("it cannot be run: {0}")]
    System(#[from] std::io::Error),
    /// It ended with something else than 0.
    #[error("it ended with {status}{}", said(.last))]
    Status { status: ExitStatus, last: Vec<String> },
    /// It took too long and was killed, with all that it had started.
    #[error("it was killed after {} s{}", .within.as_secs_f32(), said(.last))]
    Killed { within: Duration, last: Vec<String> },
}

fn said(last: &[String]) -> String {
    if last.is_empty() { String::new() } else { format!("; last it said: {}", last.join(" / ")) }
}

/// What it has said so far.
struct Heard<'a> {
    progress: &'a (dyn Fn(String) + Send + Sync),
    so_far: Mutex<(usize, VecDeque<String>)>,
}

impl Heard<'_> {
    fn line(&self, line: String) {
        let mut so_far = self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, last) = &mut *so_far;
        *count += 1;
        if last.len() == LAST {
            last.pop_front();
        }
        last.push_back(line.clone());
        if *count <= MOST_SHOWN {
            (self.progress)(line);
        } else if *count == MOST_SHOWN + 1 {
            (self.progress)("(what else it says is not shown)".to_owned());
        }
    }

    fn last(&self) -> Vec<String> {
        let so_far = self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        so_far.1.iter().cloned().collect()
    }
}

/// Kills the whole group unless it was told that the leader has ended: also when whoever waits for
/// it goes away.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn kill(&mut self) {
        if let Some(leader) = self.0.take()
            && let Err(error) = kill_process_group(leader, Signal::KILL)
        {
            tracing::debug!(%error, "a device hook was gone before it was killed");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn hear(output: Option<impl AsyncRead + Unpin>, heard: &Heard<'_>) {
    let Some(mut output) = output else { return };
    let (mut lines, mut piece) = (Lines::default(), [0_u8; 8192]);
    // An output that breaks has nothing more to say.
    while let Ok(length @ 1..) = output.read(&mut piece).await {
        lines.push(&piece[..length], &mut |line| heard.line(line));
    }
    lines.end(&mut |line| heard.line(line));
}

async fn tell(input: Option<ChildStdin>, text: &str) {
    let Some(mut input) = input else { return };
    if let Err(error) = input.write_all(text.as_bytes()).await {
        tracing::debug!(%error, "a device hook did not read all that it was told");
    }
}

/// Runs it to its end.
pub(super) async fn run(
    call: Call<'_>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Failure> {
    let mut child = Command::new(call.path)
        .args(call.arguments)
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group::of(&child);
    let heard = Heard { progress, so_far: Mutex::default() };
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talk = async {
        tokio::join!(tell(input, &call.input), hear(output, &heard), hear(errors, &heard))
    };
    let (mut talk, mut talks) = (std::pin::pin!(talk), true);
    let whole = async {
        tokio::select! {
            status = child.wait() => status,
            _ = &mut talk => {
                talks = false;
                child.wait().await
            }
        }
    };
    let ended = tokio::time::timeout(call.within, whole).await;
    if ended.is_err() {
        group.kill();
        child.wait().await?;
    }
    // From here on the group's number may be somebody else's.
    group.0 = None;
    if talks {
        drop(tokio::time::timeout(LATE, talk).await);
    }
    let last = heard.last();
    match ended {
        Err(_) => Err(Failure::Killed { within: call.within, last }),
        Ok(status) => match status? {
            status if status.success() => Ok(()),
            status => Err(Failure::Status { status, last }),
        },
    }
}
