//! The guests' listeners: plain HTTP, connections bounded in number and time, all on one thread.
//!
//! A guest's connection over its own bound is closed at once. Over the bound of all it waits, which
//! is what happens when many guests boot at the same moment; each open one ends within its budget, so
//! that the wait is short even for cloud-init before 23, which has no read timeout.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::Counter;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{interval, sleep};
use vmmgr_common::server::Readiness;

use crate::config::{GuestListen, Limits};
use crate::converse::{Ended, converse};
use crate::serve::{Guests, Via};

/// How often a bridge that is missing, or was made anew, is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// Name of the condition on `/readyz`.
const CONDITION: &str = "guest-listener";
/// Guests that may knock at the same moment; more than the kernel's own bound counts as that.
const BACKLOG: i32 = 4096;

/// What all listeners share: bounds on open connections, and how they do.
pub(crate) struct Bounds {
    limits: Limits,
    ready: Readiness,
    failing: Mutex<BTreeMap<SocketAddrV4, String>>,
    all: Arc<Semaphore>,
    each: Mutex<HashMap<Ipv4Addr, usize>>,
    ended: [Counter; 3],
}

/// One counted connection.
struct Slot {
    bounds: Arc<Bounds>,
    peer: Ipv4Addr,
    _permit: OwnedSemaphorePermit,
}

impl Bounds {
    /// None open.
    pub(crate) fn new(limits: Limits, ready: Readiness) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(limits.connections));
        let (failing, each) = (Mutex::default(), Mutex::default());
        let ended = ["done", "broken", "late"]
            .map(|end| metrics::counter!("vmmgr_seed_connections_total", "end" => end));
        Arc::new(Self { limits, ready, failing, all, each, ended })
    }

    /// Whether there is room for connections that wait for another request.
    fn roomy(&self) -> bool {
        self.all.available_permits() > self.limits.connections / 2
    }

    /// Notes how a listener does; `/readyz` holds when all do well.
    fn tell(&self, address: SocketAddrV4, state: Result<(), String>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            Ok(()) => failing.remove(&address),
            Err(why) => failing.insert(address, why),
        };
        let first = failing.iter().next().map(|(address, why)| format!("{address}: {why}"));
        self.ready.set(CONDITION, first.map_or(Ok(()), Err));
    }

    /// Counts one, when there is room for it; none if its guest has enough.
    async fn enter(self: &Arc<Self>, peer: Ipv4Addr) -> Option<Slot> {
        let permit = Arc::clone(&self.all).acquire_owned().await.ok()?;
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        let open = each.entry(peer).or_default();
        if *open >= self.limits.connections_per_guest {
            return None;
        }
        *open += 1;
        Some(Slot { bounds: Arc::clone(self), peer, _permit: permit })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut each = self.bounds.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = each.get_mut(&self.peer) {
            *open -= 1;
            if *open == 0 {
                each.remove(&self.peer);
            }
        }
    }
}

/// Opens one listener. The address need not be there yet; a bridge must.
pub(crate) fn open(listen: &GuestListen, ttl: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // A new process can take over before the old one is gone.
    socket.set_reuse_port(true)?;
    socket.set_freebind_v4(true)?;
    socket.set_ttl_v4(ttl)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bridge) = &listen.bridge {
        socket.bind_device(Some(bridge.as_bytes()))?;
    }
    socket.bind(&listen.address.into())?;
    defer_accept(&socket)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Has the kernel keep a connection until its guest has asked something: one wake-up a request
/// instead of two, and a guest that only connects costs nothing here. tcp(7), `TCP_DEFER_ACCEPT`.
#[expect(unsafe_code, reason = "no crate has a safe name for this option")]
fn defer_accept(socket: &Socket) -> io::Result<()> {
    // After which a silent guest is handed over all the same, and then is one that takes too long.
    let seconds: libc::c_int = 1;
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT);
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the value is one integer that outlives the call.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const seconds).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Starts the thread that listens for ever. One is enough for 40,000 new connections a second, and
/// the host's other cores are its guests'; several answer slower, each waking for less.
pub(crate) fn start(
    guests: &Arc<Guests>,
    bounds: &Arc<Bounds>,
    listens: &[GuestListen],
) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (guests, bounds, listens) = (Arc::clone(guests), Arc::clone(bounds), listens.to_vec());
    std::thread::Builder::new().name("guests".to_owned()).spawn(move || {
        let all = listens.into_iter().map(|listen| run(&guests, &bounds, listen));
        runtime.block_on(futures_util::future::join_all(all));
    })?;
    Ok(())
}

/// Listens for ever, again whenever the bridge was made anew.
async fn run(guests: &Arc<Guests>, bounds: &Arc<Bounds>, listen: GuestListen) {
    let place = Arc::new(Place::new(listen));
    let mut told = false;
    loop {
        let index = place.bridge_index();
        match open(&place.listen, bounds.limits.ttl) {
            Ok(listener) => {
                told = false;
                bounds.tell(place.listen.address, Ok(()));
                tracing::info!(
                    address = place.text,
                    bridge = place.listen.bridge,
                    "listening for guests"
                );
                serve(&listener, guests, bounds, &place, index).await;
                tracing::info!(address = place.text, "the bridge changed");
            }
            Err(error) => {
                bounds.tell(place.listen.address, Err(error.to_string()));
                if !told {
                    tracing::warn!(address = place.text, bridge = place.listen.bridge, %error, "cannot listen for guests, trying on");
                    told = true;
                }
                sleep(LOOK).await;
            }
        }
    }
}

/// Where one listener is.
struct Place {
    listen: GuestListen,
    /// `address:port`.
    text: String,
}

impl Place {
    fn new(listen: GuestListen) -> Self {
        let text = listen.address.to_string();
        Self { listen, text }
    }

    /// Which interface the bridge's name stands for now: a listener stays bound to the one it was
    /// made with. 0, which no interface has, while there is none.
    fn bridge_index(&self) -> Option<u32> {
        let bridge = self.listen.bridge.as_ref()?;
        let text = fs_err::read_to_string(format!("/sys/class/net/{bridge}/ifindex"));
        Some(text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default())
    }
}

async fn serve(
    listener: &TcpListener,
    guests: &Arc<Guests>,
    bounds: &Arc<Bounds>,
    place: &Arc<Place>,
    bridge: Option<u32>,
) {
    let mut look = interval(LOOK);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let IpAddr::V4(peer) = peer.ip() else { continue };
                    take(stream, peer, guests, bounds, place, bridge).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a guest's connection");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            _ = look.tick() => if place.bridge_index() != bridge {
                return;
            },
        }
    }
}

async fn take(
    mut stream: TcpStream,
    peer: Ipv4Addr,
    guests: &Arc<Guests>,
    bounds: &Arc<Bounds>,
    place: &Arc<Place>,
    bridge: Option<u32>,
) {
    let Some(slot) = bounds.enter(peer).await else {
        metrics::counter!("vmmgr_seed_connections_refused_total").increment(1);
        return;
    };
    let (guests, place) = (Arc::clone(guests), Arc::clone(place));
    tokio::spawn(async move {
        let via = Via { peer, listen: &place.text, bridge };
        let budget = Duration::from_millis(slot.bounds.limits.request_ms);
        let end = converse(&mut stream, &guests, via, budget, || slot.bounds.roomy()).await;
        let at = match end {
            Ended::Done => 0,
            Ended::Broken => 1,
            Ended::Late => 2,
        };
        slot.bounds.ended[at].increment(1);
    });
}

#[cfg(test)]
mod tests;
