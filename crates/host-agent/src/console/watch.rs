//! Tells that a file in a folder was written, without saying which: a look at a file is cheap.

use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Counts changes in `dir`. Where the kernel has no watch left, nothing is counted, and whoever
/// waits looks by itself now and then.
pub(super) fn changes(dir: &Path) -> watch::Receiver<u64> {
    let (count, changes) = watch::channel(0);
    match watch_dir(dir) {
        Ok(events) => drop(tokio::spawn(count_changes(events, count))),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "serial logs are polled instead of watched");
        }
    }
    changes
}

fn watch_dir(dir: &Path) -> std::io::Result<pipe::Receiver> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(
        &events,
        dir,
        WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO,
    )?;
    // To tokio it is one more descriptor that becomes readable.
    pipe::Receiver::from_owned_fd_unchecked(events)
}

async fn count_changes(mut events: pipe::Receiver, count: watch::Sender<u64>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match events.read(&mut buffer).await {
            Ok(_) => count.send_modify(|count| *count += 1),
            Err(error) => {
                tracing::warn!(%error, "serial logs are no longer watched");
                return;
            }
        }
    }
}
