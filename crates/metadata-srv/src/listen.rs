//! The guests' listeners: plain HTTP, one request a connection, bounded in number and time.
//!
//! A connection over a bound is closed at once: cloud-init before 23 has no read timeout, so a
//! connection that is accepted and then left alone hangs its boot.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{interval, sleep, timeout};
use vmmgr_common::server::Readiness;

use crate::config::{GuestListen, Limits};
use crate::serve::{Guests, Via};

/// How often a bridge that is missing, or was made anew, is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// A request line and some headers; hyper takes no less than 8 KiB.
const LARGEST_HEAD: usize = 8 * 1024;
const MOST_HEADERS: usize = 32;
/// Name of the condition on `/readyz`.
const CONDITION: &str = "guest-listener";

/// What all listeners share: bounds on open connections, and how they do.
pub(crate) struct Bounds {
    limits: Limits,
    ready: Readiness,
    failing: Mutex<BTreeMap<SocketAddrV4, String>>,
    all: Arc<Semaphore>,
    each: Mutex<HashMap<Ipv4Addr, usize>>,
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
        Arc::new(Self { limits, ready, failing, all, each })
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

    fn enter(self: &Arc<Self>, peer: Ipv4Addr) -> Option<Slot> {
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
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
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Listens for ever, again whenever the bridge was made anew.
pub(crate) async fn run(guests: Arc<Guests>, bounds: Arc<Bounds>, listen: GuestListen) {
    let listen = Arc::new(listen);
    let mut told = false;
    loop {
        let index = bridge_index(&listen);
        match open(&listen, bounds.limits.ttl) {
            Ok(listener) => {
                told = false;
                bounds.tell(listen.address, Ok(()));
                tracing::info!(address = %listen.address, bridge = listen.bridge, "listening for guests");
                serve(&listener, &guests, &bounds, &listen, &index).await;
                tracing::info!(address = %listen.address, "the bridge changed");
            }
            Err(error) => {
                bounds.tell(listen.address, Err(error.to_string()));
                if !told {
                    tracing::warn!(address = %listen.address, bridge = listen.bridge, %error, "cannot listen for guests, trying on");
                    told = true;
                }
                sleep(LOOK).await;
            }
        }
    }
}

/// Which interface a name stands for now: a listener stays bound to the one it was made with.
fn bridge_index(listen: &GuestListen) -> Option<String> {
    let bridge = listen.bridge.as_ref()?;
    fs_err::read_to_string(format!("/sys/class/net/{bridge}/ifindex")).ok()
}

async fn serve(
    listener: &TcpListener,
    guests: &Arc<Guests>,
    bounds: &Arc<Bounds>,
    listen: &Arc<GuestListen>,
    index: &Option<String>,
) {
    let mut look = interval(LOOK);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let IpAddr::V4(peer) = peer.ip() else { continue };
                    take(stream, peer, guests, bounds, listen);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a guest's connection");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            _ = look.tick() => if bridge_index(listen) != *index {
                return;
            },
        }
    }
}

fn take(
    stream: TcpStream,
    peer: Ipv4Addr,
    guests: &Arc<Guests>,
    bounds: &Arc<Bounds>,
    listen: &Arc<GuestListen>,
) {
    let Some(slot) = bounds.enter(peer) else {
        metrics::counter!("vmmgr_seed_connections_refused_total").increment(1);
        return;
    };
    let (guests, listen) = (Arc::clone(guests), Arc::clone(listen));
    tokio::spawn(async move {
        let budget = Duration::from_millis(slot.bounds.limits.request_ms);
        let service = service_fn(|request| {
            let (guests, listen) = (&guests, &listen);
            async move {
                let bridge = listen.bridge.as_deref();
                let via = Via { peer, listen: listen.address, bridge };
                Ok::<_, Infallible>(guests.answer(&request, via).await)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(budget)
            .keep_alive(false)
            // Refusals are the same to the byte, whenever they are sent.
            .auto_date_header(false)
            .max_headers(MOST_HEADERS)
            .max_buf_size(LARGEST_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        let end = match timeout(budget, connection).await {
            Ok(Ok(())) => "done",
            Ok(Err(_)) => "broken",
            Err(_) => "late",
        };
        metrics::counter!("vmmgr_seed_connections_total", "end" => end).increment(1);
    });
}

#[cfg(test)]
mod tests;
