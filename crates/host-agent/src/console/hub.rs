//! One serial line of one run of a guest, shared by all who look at it.
//!
//! ```text
//!            +--> history (log files, or a ring) --> viewer: a cursor of its own each
//!  guest --> line                                    viewer
//!            ^--- input, in the order in which it came <--- those who may type
//! ```
//!
//! A viewer holds an offset and no buffer: a slow one costs nobody anything, and falls behind until
//! the history's oldest bytes pass it. The line is read all the time, or the guest would stall.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::history::{LogFile, Ring, epoch};
use crate::hypervisor::SerialLine;

/// Most that one read of the history gives.
const CHUNK: usize = 64 << 10;
/// Chunks of input that may wait for the guest, of all viewers together.
const INPUT: usize = 4;
/// Looks at the log when nothing tells of changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After the guest's end its last bytes still come through virtlogd.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Where the output is kept.
pub(super) enum History {
    /// virtlogd's files.
    Log(Arc<LogFile>),
    /// Memory.
    Ring(Mutex<Ring>),
}

impl History {
    /// An empty ring.
    pub(super) fn ring() -> Self {
        Self::Ring(Mutex::new(Ring::new(epoch())))
    }

    /// Offset behind the last byte.
    pub(super) async fn end(&self) -> std::io::Result<u64> {
        match self {
            Self::Log(log) => {
                let log = log.clone();
                tokio::task::spawn_blocking(move || log.end()).await?
            }
            Self::Ring(ring) => Ok(ring.lock().unwrap_or_else(PoisonError::into_inner).end()),
        }
    }

    /// Bytes from `from` on and the offset of the first.
    pub(super) async fn read(&self, from: u64, limit: usize) -> std::io::Result<(u64, Vec<u8>)> {
        match self {
            Self::Log(log) => {
                let log = log.clone();
                tokio::task::spawn_blocking(move || log.read(from, limit)).await?
            }
            Self::Ring(ring) => {
                Ok(ring.lock().unwrap_or_else(PoisonError::into_inner).read(from, limit))
            }
        }
    }
}

/// How far a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    end: u64,
    over: bool,
}

/// The line.
pub(super) struct Hub {
    run: String,
    history: Arc<History>,
    progress: watch::Receiver<Progress>,
    input: mpsc::Sender<Bytes>,
    tasks: [JoinHandle<()>; 2],
    idle_since: Mutex<Option<Instant>>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Hub {
    /// Begins to follow `line`; `changes` tells that some log file was written.
    pub(super) async fn start(
        run: String,
        line: SerialLine,
        history: History,
        changes: watch::Receiver<u64>,
    ) -> std::io::Result<Arc<Self>> {
        let history = Arc::new(history);
        let start = Progress { end: history.end().await?, over: false };
        let (told, progress) = watch::channel(start);
        let (input, keys) = mpsc::channel(INPUT);
        let (read, write) = line;
        let tasks = [
            tokio::spawn(listen(read, history.clone(), told, changes)),
            tokio::spawn(write_all(write, keys)),
        ];
        let idle_since = Mutex::new(None);
        Ok(Arc::new(Self { run, history, progress, input, tasks, idle_since }))
    }

    /// True while it is this run's and alive.
    pub(super) fn serves(&self, run: &str) -> bool {
        self.run == run && !self.progress.borrow().over
    }

    /// Where the output is kept.
    pub(super) fn history(&self) -> Arc<History> {
        self.history.clone()
    }

    /// How long nobody has looked, given whether somebody does at `now`.
    pub(super) fn idle(&self, watched: bool, now: Instant) -> Duration {
        let mut since = self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        if watched {
            *since = None;
        }
        now - *since.get_or_insert(now)
    }

    /// How long the line stays open when nobody looks: a ring would forget what came meanwhile.
    pub(super) fn patience(&self) -> Duration {
        match *self.history {
            History::Log(_) => Duration::from_secs(5),
            History::Ring(_) => Duration::from_secs(600),
        }
    }

    /// Somebody more; from `from` on, or with the last `recent` bytes, from a line's start.
    pub(super) async fn view(
        self: Arc<Self>,
        from: Option<u64>,
        recent: u64,
    ) -> std::io::Result<Viewer> {
        let progress = self.progress.clone();
        let at = match from {
            Some(from) => self.history.read(from, 0).await?.0,
            None => {
                let wanted = progress.borrow().end.saturating_sub(recent);
                let limit = usize::try_from(recent).unwrap_or(usize::MAX);
                let (start, data) = self.history.read(wanted, limit).await?;
                // All that there is needs no cut.
                let cut = if start < wanted || wanted == 0 || start > wanted {
                    0
                } else {
                    data.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1)
                };
                start + cut as u64
            }
        };
        Ok(Viewer { hub: self, progress, at })
    }
}

/// Reads the line until the guest ends it, and tells how far it is.
async fn listen(
    mut read: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    history: Arc<History>,
    told: watch::Sender<Progress>,
    mut changes: watch::Receiver<u64>,
) {
    let mut buffer = vec![0; 4096];
    let (mut over, mut watched, mut ends) = (false, true, Instant::now());
    loop {
        tokio::select! {
            got = read.read(&mut buffer), if !over => match got {
                Ok(count) if count > 0 => {
                    if let History::Ring(ring) = &*history {
                        ring.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..count]);
                    }
                }
                // A pseudo-terminal whose other side is gone gives an error.
                Ok(_) | Err(_) => (over, ends) = (true, Instant::now() + LAST_WORDS),
            },
            changed = changes.changed(), if watched => watched = changed.is_ok(),
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = tokio::time::sleep_until(ends), if over => {}
        }
        let logged = matches!(*history, History::Log(_));
        match history.end().await {
            Ok(end) => {
                let over = over && (!logged || Instant::now() >= ends);
                let now = Progress { end, over };
                told.send_if_modified(|known| std::mem::replace(known, now) != now);
            }
            Err(error) => tracing::warn!(%error, "a serial log cannot be read"),
        }
        if told.borrow().over {
            return;
        }
    }
}

async fn write_all(
    mut write: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
    mut keys: mpsc::Receiver<Bytes>,
) {
    while let Some(bytes) = keys.recv().await {
        if let Err(error) = write.write_all(&bytes).await {
            tracing::debug!(%error, "a serial line takes no more input");
            return;
        }
    }
}

/// Somebody who looks at a line.
pub(crate) struct Viewer {
    hub: Arc<Hub>,
    progress: watch::Receiver<Progress>,
    at: u64,
}

impl Viewer {
    /// Offset of the next byte.
    pub(crate) const fn offset(&self) -> u64 {
        self.at
    }

    /// What it types; fails once the line is gone.
    pub(crate) fn input(&self) -> mpsc::Sender<Bytes> {
        self.hub.input.clone()
    }

    /// The next bytes; none at the line's end.
    pub(crate) async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        loop {
            let Progress { end, over } = *self.progress.borrow_and_update();
            if end > self.at {
                let (start, data) = match self.hub.history.read(self.at, CHUNK).await {
                    Ok(found) => found,
                    Err(error) => return Some(Err(error)),
                };
                self.at = start + data.len() as u64;
                if !data.is_empty() {
                    return Some(Ok(data.into()));
                }
            }
            if over || self.progress.changed().await.is_err() {
                return None;
            }
        }
    }
}
