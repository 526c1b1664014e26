//! A fixed address, in the two languages that cloud-init reads.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use vmmgr_common::api::seed::StaticNetwork;
use vmmgr_common::error::Problem;
use vmmgr_common::ids::MacAddress;

use super::validate;

/// Name in the guest when the spec names none.
const DEFAULT_INTERFACE: &str = "eth0";

/// `network-config`, version 2 (netplan's).
#[derive(Serialize)]
pub(super) struct NetworkConfig {
    version: u8,
    ethernets: BTreeMap<String, Ethernet>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Ethernet {
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    select: Option<Match>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_name: Option<String>,
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nameservers: Option<NameServers>,
}

#[derive(Serialize)]
struct Match {
    macaddress: String,
}

#[derive(Serialize)]
struct Route {
    to: &'static str,
    via: String,
}

#[derive(Serialize)]
struct NameServers {
    addresses: Vec<String>,
}

impl NetworkConfig {
    /// Where the spec names no interface, the guest's first NIC is found by `mac` and named
    /// `eth0`: images differ in what they call it.
    pub(super) fn new(fixed: &StaticNetwork, mac: Option<MacAddress>) -> Result<Self, Problem> {
        let (address, _) = validate::address(&fixed.address)?;
        let name = fixed.interface.clone().unwrap_or_else(|| DEFAULT_INTERFACE.to_owned());
        let select = match fixed.interface {
            Some(_) => None,
            None => mac.map(|mac| Match { macaddress: mac.to_string() }),
        };
        // The word `default` is newer than 22.4.2, `gateway4` is deprecated: this works in all.
        let everywhere = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let route = |via: &String| Route { to: everywhere, via: via.clone() };
        let ethernet = Ethernet {
            set_name: select.is_some().then(|| name.clone()),
            select,
            addresses: vec![fixed.address.clone()],
            routes: fixed.gateway.iter().map(route).collect(),
            nameservers: (!fixed.dns.is_empty())
                .then(|| NameServers { addresses: fixed.dns.clone() }),
        };
        Ok(Self { version: 2, ethernets: BTreeMap::from([(name, ethernet)]) })
    }
}

/// The same as `interfaces(5)`.
pub(super) fn interfaces(fixed: &StaticNetwork) -> Result<String, Problem> {
    let (address, prefix) = validate::address(&fixed.address)?;
    let name = fixed.interface.as_deref().unwrap_or(DEFAULT_INTERFACE);
    let (family, netmask) = match address {
        IpAddr::V4(_) => ("inet", netmask(prefix)),
        IpAddr::V6(_) => ("inet6", prefix.to_string()),
    };
    let mut lines = vec![
        "auto lo".to_owned(),
        "iface lo inet loopback".to_owned(),
        format!("auto {name}"),
        format!("iface {name} {family} static"),
        format!("  address {address}"),
        format!("  netmask {netmask}"),
    ];
    lines.extend(fixed.gateway.iter().map(|gateway| format!("  gateway {gateway}")));
    if !fixed.dns.is_empty() {
        lines.push(format!("  dns-nameservers {}", fixed.dns.join(" ")));
    }
    Ok(lines.join("\n") + "\n")
}

fn netmask(prefix: u8) -> String {
    let bits = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    std::net::Ipv4Addr::from(bits).to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn netmasks() {
        assert_eq!(super::netmask(0), "0.0.0.0");
        assert_eq!(super::netmask(20), "255.255.240.0");
        assert_eq!(super::netmask(32), "255.255.255.255");
    }
}
