//! Who is behind a guest's address, as the kernel knows it; nothing the guest writes counts.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use hyper::header::{HOST, HeaderMap};
use vmmgr_common::ids::MacAddress;

/// A line of the neighbour table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Hardware address.
    pub(crate) mac: MacAddress,
    /// Interface that it is behind.
    pub(crate) device: String,
}

/// Resolved neighbours.
pub(crate) trait NeighbourTable: Send + Sync {
    /// All neighbours with that address; several when several interfaces have it.
    fn behind(&self, address: Ipv4Addr) -> io::Result<Vec<Neighbour>>;
}

/// The kernel's table in its text form.
pub(crate) struct ArpFile(pub(crate) PathBuf);

impl NeighbourTable for ArpFile {
    fn behind(&self, address: Ipv4Addr) -> io::Result<Vec<Neighbour>> {
        Ok(parse(&fs_err::read_to_string(&self.0)?, address))
    }
}

/// `IP address, HW type, Flags, HW address, Mask, Device`, under a heading.
fn parse(table: &str, address: Ipv4Addr) -> Vec<Neighbour> {
    /// `ATF_COM`: the hardware address is known.
    const COMPLETE: u32 = 2;
    let line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [ip, _, flags, mac, _, device] = columns[..] else {
            return None;
        };
        let flags = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
        (ip.parse() == Ok(address) && flags & COMPLETE != 0)
            .then(|| MacAddress::parse(mac).ok())
            .flatten()
            .map(|mac| Neighbour { mac, device: device.to_owned() })
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// The one hardware address behind `address` on `bridge` (anywhere when `None`). Nobody when two
/// interfaces disagree: either could be asking.
pub(crate) fn identify(
    table: &dyn NeighbourTable,
    address: Ipv4Addr,
    bridge: Option<&str>,
) -> io::Result<Option<MacAddress>> {
    let mut macs = table
        .behind(address)?
        .into_iter()
        .filter(|neighbour| bridge.is_none_or(|bridge| bridge == neighbour.device))
        .map(|neighbour| neighbour.mac);
    let first = macs.next();
    Ok(first.filter(|first| macs.all(|mac| mac == *first)))
}

/// Whether a proxy stands between: then the address is not the guest's, and a program inside a
/// guest may have been tricked into asking.
pub(crate) fn forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        // Header names are lower case here; some proxies take `_` for `-`.
        let name = name.as_str().replace('_', "-");
        name.starts_with("x-forwarded")
            || name.starts_with("x-original")
            || matches!(
                name.as_str(),
                "forwarded" | "x-real-ip" | "x-client-ip" | "true-client-ip" | "via"
            )
    })
}

/// Whether the one `Host` is the literal address: a name here is DNS rebinding.
pub(crate) fn host_is(headers: &HeaderMap, listen: SocketAddrV4) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => *host == *listen.to_string() || *host == *listen.ip().to_string(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
169.254.10.2     0x1         0x2         52:54:00:00:00:01     *        br-ext
169.254.10.3     0x1         0x0         00:00:00:00:00:00     *        br-ext
169.254.10.4     0x1         0x2         52:54:00:00:00:04     *        br-ext
169.254.10.4     0x1         0x2         52:54:00:00:00:44     *        br-int
169.254.10.20    0x1         0x6         52:54:00:00:00:20     *        br-ext
garbage
";

    struct Fixed;
    impl NeighbourTable for Fixed {
        fn behind(&self, address: Ipv4Addr) -> io::Result<Vec<Neighbour>> {
            Ok(parse(TABLE, address))
        }
    }

    fn who(address: &str, bridge: Option<&str>) -> Option<String> {
        let mac = identify(&Fixed, address.parse().unwrap(), bridge).unwrap();
        mac.map(|mac| mac.to_string())
    }

    #[test]
    fn a_neighbour_is_known_by_its_resolved_entry() {
        assert_eq!(who("169.254.10.2", None).unwrap(), "52:54:00:00:00:01");
        assert_eq!(who("169.254.10.20", Some("br-ext")).unwrap(), "52:54:00:00:00:20");
        for unknown in ["169.254.10.3", "169.254.10.1", "169.254.10.5"] {
            assert_eq!(who(unknown, None), None, "{unknown}");
        }
    }

    #[test]
    fn the_bridge_decides_between_equal_addresses() {
        assert_eq!(who("169.254.10.4", None), None);
        assert_eq!(who("169.254.10.4", Some("br-int")).unwrap(), "52:54:00:00:00:44");
        assert_eq!(who("169.254.10.2", Some("br-int")), None);
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name: hyper::header::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        map
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
            "X-Original-URL",
        ] {
            assert!(forwarded(&headers(&[(name, "169.254.10.2")])), "{name}");
        }
        assert!(!forwarded(&headers(&[("host", "169.254.169.254"), ("accept", "*/*")])));
    }

    #[test]
    fn host_must_be_the_literal_address() {
        let listen = "169.254.169.254:80".parse().unwrap();
        assert!(host_is(&headers(&[("host", "169.254.169.254")]), listen));
        assert!(host_is(&headers(&[("host", "169.254.169.254:80")]), listen));
        for bad in
            ["", "metadata.test", "169.254.169.254.", "169.254.169.254:8080", "2852039166", "[::1]"]
        {
            assert!(!host_is(&headers(&[("host", bad)]), listen), "{bad}");
        }
        assert!(!host_is(&headers(&[]), listen));
        let twice = headers(&[("host", "169.254.169.254"), ("host", "evil.test")]);
        assert!(!host_is(&twice, listen));
    }
}
