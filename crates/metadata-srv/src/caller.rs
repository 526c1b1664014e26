//! Who is behind a guest's address, as the kernel knows it; nothing the guest writes counts.

use std::io;
use std::net::Ipv4Addr;

use vmmgr_common::ids::MacAddress;

use crate::wire::Head;

/// Resolved neighbours.
pub(crate) trait NeighbourTable: Send + Sync {
    /// The one hardware address behind `address` on the interface with index `device` (on any when
    /// `None`). Nobody when two interfaces disagree: either could be asking.
    fn behind(&self, address: Ipv4Addr, device: Option<u32>) -> io::Result<Option<MacAddress>>;
}

/// The one address that all of `macs` are.
pub(crate) fn one(mut macs: impl Iterator<Item = MacAddress>) -> Option<MacAddress> {
    let first = macs.next()?;
    macs.all(|mac| mac == first).then_some(first)
}

/// Whether a proxy stands between: then the address is not the guest's, and a program inside a
/// guest may have been tricked into asking.
pub(crate) fn forwarded(head: &Head<'_, '_>) -> bool {
    head.names().any(|name| {
        let spelt = name.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'_');
        // Some proxies take `_` for `-`.
        let name = if spelt { &name.to_ascii_lowercase().replace('_', "-") } else { name };
        name.starts_with("x-forwarded")
            || name.starts_with("x-original")
            || matches!(name, "forwarded" | "x-real-ip" | "x-client-ip" | "true-client-ip" | "via")
    })
}

/// Whether the one `Host` is the literal address, with or without the port: a name here is DNS
/// rebinding.
pub(crate) fn host_is(head: &Head<'_, '_>, address: &str) -> bool {
    let mut hosts = head.all("host");
    let bare = address.rsplit_once(':').map_or(address, |(bare, _)| bare);
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host == address.as_bytes() || host == bare.as_bytes(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::with_head;

    fn headers<T>(pairs: &[(&str, &str)], look: impl FnOnce(&Head<'_, '_>) -> T) -> T {
        with_head("GET", "/", pairs, look)
    }

    #[test]
    fn equal_addresses_are_nobody_unless_they_agree() {
        let mac = |last: u8| MacAddress::from_bytes([0x52, 0x54, 0, 0, 0, last]).unwrap();
        assert_eq!(one([].into_iter()), None);
        assert_eq!(one([mac(1)].into_iter()), Some(mac(1)));
        assert_eq!(one([mac(1), mac(1)].into_iter()), Some(mac(1)));
        assert_eq!(one([mac(1), mac(2)].into_iter()), None);
    }

    #[test]
    fn every_spelling_of_a_forwarding_header_is_seen() {
        for name in [
            "X-Forwarded-For",
            "x-forwarded-for",
            "X-FORWARDED-HOST",
            "Forwarded",
            "X-Real-IP",
            "X_Forwarded_For",
            "via",
            "Via",
            "X-Original-URL",
        ] {
            assert!(headers(&[(name, "169.254.10.2")], forwarded), "{name}");
        }
        assert!(!headers(&[("host", "169.254.169.254"), ("Accept", "*/*")], forwarded));
    }

    #[test]
    fn host_must_be_the_literal_address() {
        let is = |pairs: &[(&str, &str)]| headers(pairs, |h| host_is(h, "169.254.169.254:80"));
        assert!(is(&[("host", "169.254.169.254")]));
        assert!(is(&[("HOST", "169.254.169.254:80")]));
        for bad in
            ["", "metadata.test", "169.254.169.254.", "169.254.169.254:8080", "2852039166", "[::1]"]
        {
            assert!(!is(&[("host", bad)]), "{bad}");
        }
        assert!(!is(&[]));
        assert!(!is(&[("host", "169.254.169.254"), ("host", "evil.test")]));
    }
}
