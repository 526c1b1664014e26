//! The kernel's neighbour table, mirrored.
//!
//! ```text
//!  start, or events were lost: dump -> mirror
//!  a look-up:   take what the kernel has queued -> mirror -> answer
//! ```
//!
//! The kernel queues an event on our socket in the same step in which it changes an entry, and a
//! look-up takes the queue first. So a look-up sees what `/proc/net/arp` would have shown, for one
//! system call that finds the queue empty instead of a read of the whole table. Only the kernel and
//! root can write to that queue.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use vmmgr_common::ids::MacAddress;

use crate::caller::{NeighbourTable, one};

/// `RTMGRP_NEIGH`: changes of neighbours.
const GROUP_NEIGHBOURS: u32 = 4;
/// Room for events between two look-ups; about a thousand. What is lost costs a dump.
const QUEUE: usize = 1 << 20;
/// A dump comes in parts of at most 32 KiB.
const PART: usize = 64 << 10;
/// Dumps in a row that a busy table may spoil.
const TRIES: u32 = 8;

const DONE: u16 = 3;
const ERROR: u16 = 2;
const NEW_NEIGHBOUR: u16 = 28;
const DEL_NEIGHBOUR: u16 = 29;
const GET_NEIGHBOUR: u16 = 30;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x301;
/// `NLM_F_DUMP_INTR`: the table changed meanwhile.
const INTERRUPTED: u16 = 0x10;
const AF_INET: u8 = 2;
/// `NUD_VALID`: the states in which the hardware address is known.
const VALID: u16 = 0x80 | 0x40 | 0x02 | 0x10 | 0x04 | 0x08;
/// `NDA_DST` and `NDA_LLADDR`.
const DESTINATION: u16 = 1;
const HARDWARE: u16 = 2;

/// The table of this network namespace.
pub(crate) struct KernelTable(Mutex<State>);

struct State {
    events: OwnedFd,
    mirror: Mirror,
    /// False until a dump is whole, and after events were lost.
    whole: bool,
    buffer: Vec<u8>,
}

impl KernelTable {
    /// Reads the table and begins to follow it.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let events = rustix::net::socket_with(family, kind, flags, None)?;
        rustix::net::sockopt::set_socket_recv_buffer_size(&events, QUEUE)?;
        rustix::net::bind(&events, &SocketAddrNetlink::new(0, GROUP_NEIGHBOURS))?;
        let (mirror, buffer) = (Mirror::default(), vec![0; PART]);
        let mut state = State { events, mirror, whole: false, buffer };
        state.follow()?;
        Ok(Self(Mutex::new(state)))
    }
}

impl NeighbourTable for KernelTable {
    fn behind(&self, address: Ipv4Addr, device: Option<u32>) -> io::Result<Option<MacAddress>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.follow()?;
        Ok(state.mirror.behind(address, device))
    }
}

impl State {
    /// Brings the mirror up to now.
    fn follow(&mut self) -> io::Result<()> {
        for _ in 0..TRIES {
            if self.whole {
                match self.take() {
                    Ok(_) => return Ok(()),
                    Err(error) if lost(&error) => self.whole = false,
                    Err(error) => return Err(error),
                }
            }
            match self.dump() {
                Ok(whole) => self.whole = whole,
                Err(error) if lost(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the neighbour table changes faster than it can be read"))
    }

    fn dump(&mut self) -> io::Result<bool> {
        // What is queued is older than the dump; it must not be taken for its end.
        while self.take()?.is_some() {}
        self.mirror.clear();
        rustix::net::send(&self.events, &dump_request(), SendFlags::empty())?;
        Ok(matches!(self.take()?, Some(End::Whole)))
    }

    /// Takes what is queued, up to the end of a dump if there is one.
    fn take(&mut self) -> io::Result<Option<End>> {
        let mut spoilt = false;
        loop {
            match rustix::net::recv(&self.events, &mut self.buffer[..], RecvFlags::TRUNC) {
                Ok((_, length)) if length > self.buffer.len() => {
                    return Err(io::Error::from(rustix::io::Errno::NOBUFS));
                }
                Ok((_, length)) => {
                    let heard = self.mirror.hear(&self.buffer[..length])?;
                    spoilt |= heard.interrupted;
                    if heard.done {
                        return Ok(Some(if spoilt { End::Spoilt } else { End::Whole }));
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Of a dump.
enum End {
    Whole,
    Spoilt,
}

/// Events did not fit: the mirror cannot be trusted.
fn lost(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

fn dump_request() -> Vec<u8> {
    const LENGTH: u32 = 16 + 12;
    let mut bytes = Vec::new();
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(GET_NEIGHBOUR.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    // Sequence and port; then `struct ndmsg`, of which only the family counts.
    bytes.extend([0; 8]);
    bytes.push(AF_INET);
    bytes.extend([0; 11]);
    bytes
}

/// Resolved IPv4 neighbours: interface index and hardware address behind each address. The kernel's
/// `gc_thresh3` bounds them.
#[derive(Default)]
struct Mirror(HashMap<Ipv4Addr, Vec<(u32, MacAddress)>>);

/// What a datagram said beside changes.
#[derive(Default)]
struct Heard {
    done: bool,
    interrupted: bool,
}

impl Mirror {
    fn clear(&mut self) {
        self.0.clear();
    }

    fn behind(&self, address: Ipv4Addr, device: Option<u32>) -> Option<MacAddress> {
        let all = self.0.get(&address)?;
        one(all.iter().filter(|(on, _)| device.is_none_or(|d| d == *on)).map(|(_, mac)| *mac))
    }

    /// Applies one datagram.
    fn hear(&mut self, mut bytes: &[u8]) -> io::Result<Heard> {
        let mut heard = Heard::default();
        while let Some(length) = u32_at(bytes, 0) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let (Some(kind), Some(flags)) = (u16_at(bytes, 4), u16_at(bytes, 6)) else { break };
            let Some(body) = bytes.get(16..length) else { break };
            heard.interrupted |= flags & INTERRUPTED != 0;
            match kind {
                DONE => heard.done = true,
                ERROR => {
                    let code = u32_at(body, 0).unwrap_or_default().cast_signed();
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                NEW_NEIGHBOUR | DEL_NEIGHBOUR => self.change(kind == NEW_NEIGHBOUR, body),
                _ => {}
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(heard)
    }

    /// `struct ndmsg`: family, 3 bytes, interface, state, flags, type; then attributes.
    fn change(&mut self, there: bool, body: &[u8]) {
        let (Some(device), Some(state)) = (u32_at(body, 4), u16_at(body, 8)) else { return };
        let Some(address) = attribute(body, DESTINATION).and_then(|b| <[u8; 4]>::try_from(b).ok())
        else {
            return;
        };
        if body[0] != AF_INET {
            return;
        }
        let address = Ipv4Addr::from(address);
        let mac = attribute(body, HARDWARE)
            .and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())
            .and_then(MacAddress::from_bytes)
            .filter(|_| there && state & VALID != 0);
        let known = self.0.entry(address).or_default();
        known.retain(|(on, _)| *on != device);
        known.extend(mac.map(|mac| (device, mac)));
        if known.is_empty() {
            self.0.remove(&address);
        }
    }
}

/// The first attribute of that type: length, type, bytes, padded to 4.
fn attribute(body: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = body.get(12..)?;
    loop {
        let (length, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        let bytes = rest.get(4..length)?;
        if kind == wanted {
            return Some(bytes);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
