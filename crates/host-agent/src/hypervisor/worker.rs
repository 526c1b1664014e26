//! Threads that call libvirt, and the one that keeps the connection.
//!
//! A call is a closure on the shared connection. The caller waits with a deadline; a call that
//! libvirt never answers costs one thread until the keep-alive closes the connection, and never
//! the service.

use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};
use virt::connect::Connect;

use super::events::{self, Event, Subscription};
use super::{HypervisorError, Notice};

/// Calls that may wait for a free thread.
const QUEUE: usize = 256;
/// Between attempts to reach libvirtd.
const RETRY: Duration = Duration::from_millis(250);
/// Between looks at a connection that says nothing.
const PROBE: Duration = Duration::from_secs(2);
/// libvirt's own keep-alive: a ping each 2 s, dead after 3 without answer.
const KEEP_ALIVE: (i32, u32) = (2, 3);

type Job = Box<dyn FnOnce(Option<&Connect>) + Send>;

/// The threads and the connection that they share.
pub(super) struct Pool {
    jobs: SyncSender<Job>,
    connection: Arc<RwLock<Option<Connect>>>,
    notices: broadcast::Sender<Notice>,
}

impl Pool {
    /// Starts `workers` threads and one that connects to `uri` and stays connected.
    pub(super) fn start(uri: String, workers: usize) -> std::io::Result<Self> {
        events::start_loop();
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let (notices, _) = broadcast::channel(4096);
        let connection = Arc::new(RwLock::new(None));
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..workers.max(1) {
            let (queue, connection) = (queue.clone(), connection.clone());
            std::thread::Builder::new()
                .name(format!("libvirt-{number}"))
                .spawn(move || work(&queue, &connection))?;
        }
        let keeper = Keeper { uri, connection: connection.clone(), notices: notices.clone() };
        std::thread::Builder::new().name("libvirt-connect".into()).spawn(move || keeper.run())?;
        Ok(Self { jobs, connection, notices })
    }

    pub(super) fn connected(&self) -> bool {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Runs `work` on a thread with the connection; `name` and `within` name the call when late.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        within: Duration,
        work: impl FnOnce(&Connect) -> Result<T, HypervisorError> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let late = HypervisorError::Deadline { call: name, after: within };
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more: done now it would undo what the caller did since.
            if answer.is_closed() {
                tracing::warn!(call = name, "left out a call to libvirt that came too late");
                return;
            }
            let outcome = match connection {
                Some(connection) => work(connection),
                None => Err(HypervisorError::Unreachable),
            };
            if answer.send(outcome).is_err() {
                tracing::warn!(call = name, "libvirt answered after the deadline");
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(late),
            Err(TrySendError::Disconnected(_)) => return Err(HypervisorError::Unreachable),
        }
        match tokio::time::timeout(within, result).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(HypervisorError::Unreachable),
            Err(_) => Err(late),
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, connection: &RwLock<Option<Connect>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // A clone shares libvirt's handle: a reconnect does not wait for calls on the old one.
        let handle = connection.read().unwrap_or_else(PoisonError::into_inner).clone();
        let run = std::panic::AssertUnwindSafe(|| {
            job(handle.as_ref());
            drop(handle);
        });
        if std::panic::catch_unwind(run).is_err() {
            tracing::error!("a call to libvirt panicked");
        }
    }
}

struct Keeper {
    uri: String,
    connection: Arc<RwLock<Option<Connect>>>,
    notices: broadcast::Sender<Notice>,
}

impl Keeper {
    fn run(&self) {
        let mut complained = false;
        loop {
            let (closed, wait) = channel();
            match self.open(closed) {
                Ok((connection, subscription)) => {
                    complained = false;
                    self.set(Some(connection.clone()), Notice::Connected);
                    tracing::info!(uri = self.uri, "connected to libvirt");
                    watch(&connection, &wait);
                    tracing::warn!(uri = self.uri, "lost libvirt");
                    self.set(None, Notice::Lost);
                    let end = std::panic::AssertUnwindSafe(|| {
                        subscription.end(&connection);
                        drop(connection);
                    });
                    if std::panic::catch_unwind(end).is_err() {
                        tracing::error!("the lost connection could not be freed");
                    }
                }
                Err(error) => {
                    if !complained {
                        tracing::warn!(uri = self.uri, %error, "libvirt cannot be reached; trying on");
                        complained = true;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    fn open(&self, closed: Sender<()>) -> Result<(Connect, Subscription), virt::error::Error> {
        let connection = Connect::open(Some(&self.uri))?;
        if let Err(error) = connection.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1) {
            tracing::debug!(%error, "this libvirt driver has no keep-alive");
        }
        let notices = self.notices.clone();
        let subscription = Subscription::new(&connection, move |event| match event {
            // Nobody listening, or nobody waiting any more, is fine for both.
            Event::Domain(vm) => drop(notices.send(Notice::Dirty(vm))),
            Event::Closed => drop(closed.send(())),
        })?;
        Ok((connection, subscription))
    }

    fn set(&self, connection: Option<Connect>, notice: Notice) {
        let old = std::mem::replace(
            &mut *self.connection.write().unwrap_or_else(PoisonError::into_inner),
            connection,
        );
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(old))).is_err() {
            tracing::error!("the old connection could not be freed");
        }
        drop(self.notices.send(notice));
    }
}

/// Returns when the connection is dead.
fn watch(connection: &Connect, closed: &Receiver<()>) {
    loop {
        match closed.recv_timeout(PROBE) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if !matches!(connection.is_alive(), Ok(true)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_is_not_made() {
        let pool = Pool::start("test:///default".into(), 1).unwrap();
        tokio::time::timeout(Duration::from_secs(10), async {
            while !pool.connected() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        let (release, held) = channel::<()>();
        let short = Duration::from_millis(50);
        let stuck = pool.call("stuck", short, move |_| Ok(held.recv().is_ok())).await;
        assert_eq!(stuck, Err(HypervisorError::Deadline { call: "stuck", after: short }));
        let made = Arc::new(AtomicBool::new(false));
        let mark = made.clone();
        let late = pool.call("late", short, move |_| Ok(mark.swap(true, Ordering::SeqCst))).await;
        assert_eq!(late, Err(HypervisorError::Deadline { call: "late", after: short }));
        release.send(()).unwrap();
        let long = Duration::from_secs(10);
        assert_eq!(pool.call("next", long, |_| Ok(7)).await, Ok(7));
        assert!(!made.load(Ordering::SeqCst));
    }
}
