//! What can be changed of a guest that exists, and what can be measured of its devices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::MacAddress;

/// Changes to a guest; what is absent stays. All of them are made, or none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DomainChange {
    /// Virtual CPUs. At once up to the guest's maximum; above it from its next start on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 512))]
    pub vcpus: Option<u32>,
    /// Memory in MiB. At once up to the guest's maximum; above it from its next start on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 16, maximum = 16777216))]
    pub memory_mib: Option<u64>,
    /// For people; up to 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 1000))]
    pub description: Option<String>,
    /// Start it with the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<bool>,
    /// Keys to set, and with null to remove; others stay. A key is 1 to 63 of `a-z A-Z 0-9 . _ -`, begins
    /// with a letter or `_`, and is not taken by the guest's own record.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Option<String>>,
}

impl DomainChange {
    /// Asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Keys of the guest's record, and the names that the compat routes show them under: ours to write.
pub const RESERVED_KEYS: [&str; 11] = [
    "tenant",
    "creator",
    "created",
    "ipaddr",
    "gateway",
    "template",
    "meta",
    "create",
    "creater",
    "vm_create",
    "vm_creater",
];

/// Why a metadata key is not taken; none if it is: an XML name of at most 63 of
/// `a-z A-Z 0-9 . _ -` that begins with a letter or `_`, is not reserved and not `xml…`.
#[must_use]
pub fn metadata_key(key: &str) -> Option<&'static str> {
    let first = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !first || !rest || key.len() > 63 || key.to_ascii_lowercase().starts_with("xml") {
        return Some("expected a letter or `_`, then up to 62 of a-z A-Z 0-9 . _ -");
    }
    RESERVED_KEYS.contains(&key).then_some("the key is reserved")
}

/// Room that a disk takes (`virDomainGetBlockInfo`), bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiskUsage {
    /// Target (`vda`).
    pub target: String,
    /// What the guest sees.
    pub capacity_bytes: u64,
    /// What the host gave to it so far.
    pub allocation_bytes: u64,
    /// Length of its file.
    pub physical_bytes: u64,
}

/// Counters of an interface since the guest's start (`virDomainInterfaceStats`), seen from the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NicStats {
    /// Which.
    pub mac: MacAddress,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// To be sent and dropped.
    pub tx_dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_keys_are_xml_names_and_not_ours() {
        for good in ["owner", "_x", "cost-center.v1"] {
            assert_eq!(metadata_key(good), None, "{good}");
        }
        for bad in ["", "1a", "a b", "a:b", "tenant", "ipaddr", "vm_creater", "XmlThing", "ключ"]
        {
            assert!(metadata_key(bad).is_some(), "{bad}");
        }
        assert!(metadata_key(&"x".repeat(64)).is_some());
    }
}
