//! A guest's consoles: its screen, its serial line, and a picture of the screen.
//!
//! ```text
//!  vnc, spice: hypervisor --socket of the guest--> handler <--mTLS upgrade--> vnc-proxy
//!  serial:     hub (one a guest) --cursor--------> handler <--mTLS upgrade--> vnc-proxy
//! ```
//!
//! Each is bound to a run of the guest: a console that was asked for before a restart is not opened
//! after it.

mod graphics;
mod history;
mod hub;
mod picture;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use vmmgr_common::api::console::{ConsoleInfo, ConsoleKind};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;

use self::graphics::{Consoles as Found, Listener, Screen};
use self::history::LogFile;
use self::hub::{History, Hub};
use crate::hypervisor::{Hypervisor, LiveDomain};

pub(crate) use self::history::HistoryDirs;
pub(crate) use self::hub::Viewer;

/// What a viewer without an offset is told of the past, bytes: about a screen full of text.
const RECENT: u64 = 8 << 10;
/// Most that one answer of the history gives, and what it gives when it is not told.
const MOST_HISTORY: u64 = 1 << 20;
/// A port of this very host answers at once or not at all.
const CONNECT: Duration = Duration::from_secs(3);
/// Between looks for lines that nobody looks at.
const SWEEP: Duration = Duration::from_secs(5);

/// A guest's own bytes, both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Consoles of all guests of this host.
pub(crate) struct Consoles {
    hypervisor: Arc<dyn Hypervisor>,
    history: HistoryDirs,
    changes: tokio::sync::watch::Receiver<u64>,
    hubs: Mutex<HashMap<VmId, Arc<Hub>>>,
    logs: Mutex<HashMap<VmId, Arc<LogFile>>>,
    /// One at a time is made: two would both read the line.
    making: tokio::sync::Mutex<()>,
}

fn broken(vm: VmId, what: &str, error: &std::io::Error) -> Problem {
    Problem::new(ErrorCode::HypervisorFailed, format!("guest {vm}: {what}: {error}"))
}

fn absent(vm: VmId, kind: ConsoleKind) -> Problem {
    let kind = kind.as_str();
    Problem::new(ErrorCode::NoSuchConsole, format!("guest {vm} has no {kind} console"))
}

impl Consoles {
    /// Serves from now on.
    pub(crate) fn start(
        hypervisor: Arc<dyn Hypervisor>,
        history: HistoryDirs,
    ) -> std::io::Result<Arc<Self>> {
        fs_err::create_dir_all(&history.anchors)?;
        let consoles = Arc::new(Self {
            hypervisor,
            changes: watch::changes(&history.logs),
            history,
            hubs: Mutex::default(),
            logs: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        });
        tokio::spawn(sweep(Arc::downgrade(&consoles)));
        Ok(consoles)
    }

    fn hubs(&self) -> MutexGuard<'_, HashMap<VmId, Arc<Hub>>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log of a guest; none for guests whose line goes elsewhere.
    fn log(&self, vm: VmId) -> Option<Arc<LogFile>> {
        let path = self.history.log(vm);
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if !path.exists() {
            logs.remove(&vm);
            return None;
        }
        let anchor = self.history.anchor(vm);
        Some(logs.entry(vm).or_insert_with(|| Arc::new(LogFile::new(path, anchor))).clone())
    }

    /// What can be opened now.
    pub(crate) async fn info(&self, vm: VmId) -> Result<ConsoleInfo, Problem> {
        let LiveDomain { run, xml } = self.hypervisor.live(vm).await?;
        Ok(ConsoleInfo { run, kinds: Found::of(&xml).kinds() })
    }

    async fn found(&self, vm: VmId, run: &str) -> Result<Found, Problem> {
        let live = self.hypervisor.live(vm).await?;
        if live.run == run {
            return Ok(Found::of(&live.xml));
        }
        let said = format!("guest {vm} was restarted since this console was asked for");
        Err(Problem::new(ErrorCode::WrongState, said).hint("ask for the console again"))
    }

    /// The screen of the run `run`.
    pub(crate) async fn screen(
        &self,
        vm: VmId,
        kind: ConsoleKind,
        run: &str,
    ) -> Result<Box<dyn Stream>, Problem> {
        let found = self.found(vm, run).await?;
        let screen = found.screens.into_iter().find(|screen| screen.kind == kind);
        let screen = screen.ok_or_else(|| absent(vm, kind))?;
        match self.hypervisor.open_graphics(vm, run, screen.index).await {
            Ok(socket) => {
                let ready =
                    socket.set_nonblocking(true).and_then(|()| UnixStream::from_std(socket));
                let stream = ready.map_err(|error| broken(vm, "the screen's socket", &error))?;
                Ok(Box::new(stream))
            }
            Err(refusal) => connect(vm, &screen).await.unwrap_or_else(|| Err(refusal.into())),
        }
    }

    /// Somebody who looks at the serial line of the run `run`, from an offset on if given.
    pub(crate) async fn serial(
        &self,
        vm: VmId,
        run: &str,
        from: Option<u64>,
    ) -> Result<Viewer, Problem> {
        let hub = self.hub(vm, run).await?;
        let viewer = hub.view(from, RECENT).await;
        viewer.map_err(|error| broken(vm, "its serial history", &error))
    }

    async fn hub(&self, vm: VmId, run: &str) -> Result<Arc<Hub>, Problem> {
        let _turn = self.making.lock().await;
        let pty = self.found(vm, run).await?.pty.ok_or_else(|| absent(vm, ConsoleKind::Serial))?;
        let known = self.hubs().get(&vm).cloned();
        if let Some(hub) = known.filter(|hub| hub.serves(run)) {
            return Ok(hub);
        }
        let line = self.hypervisor.open_serial(vm, &pty).await?;
        // The name of a pseudo-terminal is used again: was it still this guest's?
        self.found(vm, run).await?;
        let history = self.log(vm).map_or_else(History::ring, History::Log);
        let hub = Hub::start(run.to_owned(), line, history, self.changes.clone()).await;
        let hub = hub.map_err(|error| broken(vm, "its serial history", &error))?;
        self.hubs().insert(vm, hub.clone());
        Ok(hub)
    }

    /// What the serial line said, from an offset or from the oldest on, and the first byte's offset.
    pub(crate) async fn history(
        &self,
        vm: VmId,
        from: Option<u64>,
        limit: u64,
    ) -> Result<(u64, Vec<u8>), Problem> {
        self.hypervisor.domain(vm).await?;
        let history = match (self.log(vm), self.hubs().get(&vm)) {
            (Some(log), _) => Arc::new(History::Log(log)),
            (None, Some(hub)) => hub.history(),
            (None, None) => {
                let said = format!("guest {vm} keeps no history of its serial line");
                return Err(Problem::new(ErrorCode::NoSuchConsole, said));
            }
        };
        let limit = if limit == 0 { MOST_HISTORY } else { limit.min(MOST_HISTORY) };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let read = history.read(from.unwrap_or(0), limit).await;
        read.map_err(|error| broken(vm, "its serial history", &error))
    }

    /// The screen as PNG.
    pub(crate) async fn screenshot(&self, vm: VmId) -> Result<Vec<u8>, Problem> {
        let kinds = self.info(vm).await?.kinds;
        if kinds.iter().all(|kind| *kind == ConsoleKind::Serial) {
            let said = format!("guest {vm} has no screen");
            return Err(Problem::new(ErrorCode::NoSuchConsole, said));
        }
        let data = self.hypervisor.screenshot(vm).await?;
        let made = tokio::task::spawn_blocking(move || picture::png(data)).await;
        made.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?.map_err(|why| {
            Problem::new(
                ErrorCode::HypervisorFailed,
                format!("guest {vm}: the screenshot is {why}"),
            )
        })
    }
}

/// The way to a screen that the hypervisor does not hand out; none where QEMU listens nowhere.
async fn connect(vm: VmId, screen: &Screen) -> Option<Result<Box<dyn Stream>, Problem>> {
    let listener = screen.listener.as_ref()?;
    let connecting = async {
        Ok::<Box<dyn Stream>, std::io::Error>(match listener {
            Listener::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Listener::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    };
    let connected = tokio::time::timeout(CONNECT, connecting).await;
    let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    Some(connected.map_err(|error| broken(vm, "the screen's listener", &error)))
}

/// Closes lines that nobody looks at, until the consoles are gone.
async fn sweep(consoles: Weak<Consoles>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(consoles) = consoles.upgrade() else { return };
        let now = Instant::now();
        consoles.hubs().retain(|_, hub| {
            let watched = Arc::strong_count(hub) > 1;
            watched || hub.idle(watched, now) < hub.patience()
        });
    }
}
