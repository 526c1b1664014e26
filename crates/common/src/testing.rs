//! For tests of all crates; no service has the feature `testing`.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// First port and how many there are: below those that Linux gives to outgoing connections
/// (`net.ipv4.ip_local_port_range`), one of which would take a port before its listener is there.
const PORTS: (u16, u32) = (20_000, 12_000);

/// A free address of this machine, never given twice by one program.
pub fn free_address() -> SocketAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // Programs that run at the same time begin elsewhere.
        let number = GIVEN
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(std::process::id().wrapping_mul(131));
        let port = PORTS.0 + u16::try_from(number % PORTS.1).unwrap_or_default();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
