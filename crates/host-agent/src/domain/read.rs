//! libvirt's XML as an inventory entry. Guests that others made are read as far as they go.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};
use vmmgr_common::api::domain::{Disk, Domain, DomainState, GuestRecord, Nic};
use vmmgr_common::api::snapshot::Snapshot;
use vmmgr_common::api::tuning::RESERVED_KEYS;
use vmmgr_common::ids::MacAddress;

use super::cdrom::NetworkIso;
use super::policy::METADATA_NAMESPACE;
use crate::hypervisor::RawDomain;

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|n| n.has_tag_name(name))
}

fn text(node: Node<'_, '_>, name: &str) -> String {
    child(node, name).and_then(|n| n.text()).unwrap_or_default().to_owned()
}

fn attribute(node: Option<Node<'_, '_>>, name: &str) -> String {
    node.and_then(|n| n.attribute(name)).unwrap_or_default().to_owned()
}

/// Reads what libvirt gave; none if it is not a domain document.
pub(crate) fn parse(raw: &RawDomain) -> Option<Domain> {
    let document = Document::parse(&raw.xml).ok()?;
    let root = document.root_element();
    if !root.has_tag_name("domain") {
        return None;
    }
    let vcpu = child(root, "vcpu");
    let vcpus_max = vcpu.and_then(|n| n.text()?.trim().parse().ok()).unwrap_or(1);
    let vcpus = vcpu.and_then(|n| n.attribute("current")?.parse().ok()).unwrap_or(vcpus_max);
    let devices = child(root, "devices");
    let all = |name: &'static str| {
        devices.into_iter().flat_map(|n| n.children()).filter(move |n| n.has_tag_name(name))
    };
    Some(Domain {
        id: raw.id,
        name: text(root, "name"),
        description: text(root, "description"),
        arch: attribute(child(root, "os").and_then(|os| child(os, "type")), "arch"),
        state: raw.state,
        vcpus,
        vcpus_max,
        memory_kib: raw.memory_kib,
        memory_kib_max: memory_kib(child(root, "memory")),
        cpu_time_ns: raw.cpu_time_ns,
        autostart: raw.autostart,
        disks: all("disk").map(disk).collect(),
        nics: all("interface").filter_map(nic).collect(),
        graphics: all("graphics").next().and_then(|n| n.attribute("type")).map(str::to_owned),
        record: child(root, "metadata").map(record).unwrap_or_default(),
        metadata: block(root).map(metadata).unwrap_or_default(),
    })
}

/// Our element in `<metadata>`.
fn block<'a, 'i>(root: Node<'a, 'i>) -> Option<Node<'a, 'i>> {
    let metadata = child(root, "metadata")?;
    metadata.children().find(|n| n.has_tag_name((METADATA_NAMESPACE, "meta")))
}

/// What callers keep in it; our own keys are the record's.
fn metadata(block: Node<'_, '_>) -> BTreeMap<String, String> {
    let own = block.children().filter(|n| n.tag_name().namespace() == Some(METADATA_NAMESPACE));
    own.map(|n| (n.tag_name().name().to_owned(), n.text().unwrap_or_default().to_owned()))
        .filter(|(key, _)| !RESERVED_KEYS.contains(&key.as_str()))
        .collect()
}

/// All keys and values of our element in a definition, in their order.
pub(crate) fn metadata_rows(xml: &str) -> Vec<(String, String)> {
    let Ok(document) = Document::parse(xml) else { return Vec::new() };
    let Some(block) = block(document.root_element()) else { return Vec::new() };
    block
        .children()
        .filter(Node::is_element)
        .map(|n| (n.tag_name().name().to_owned(), n.text().unwrap_or_default().to_owned()))
        .collect()
}

/// Memory of a definition, present and most, KiB.
pub(crate) fn memory_levels(xml: &str) -> Option<(u64, u64)> {
    let document = Document::parse(xml).ok()?;
    let root = document.root_element();
    let most = memory_kib(child(root, "memory"));
    let now = child(root, "currentMemory").map_or(most, |node| memory_kib(Some(node)));
    Some((now, most))
}

/// CPUs of a definition, present and most.
pub(crate) fn vcpu_levels(xml: &str) -> Option<(u64, u64)> {
    let document = Document::parse(xml).ok()?;
    let vcpu = child(document.root_element(), "vcpu")?;
    let most = vcpu.text()?.trim().parse().ok()?;
    let now = vcpu.attribute("current").map_or(Ok(most), str::parse).ok()?;
    Some((now, most))
}

/// True if the firmware is a flash image (UEFI).
pub(crate) fn has_pflash(xml: &str) -> bool {
    let Ok(document) = Document::parse(xml) else { return false };
    document
        .descendants()
        .any(|n| n.has_tag_name("loader") && n.attribute("type") == Some("pflash"))
}

/// Machine type of a definition (`pc-q35-7.2`).
pub(crate) fn machine(xml: &str) -> String {
    let Ok(document) = Document::parse(xml) else { return String::new() };
    let os = child(document.root_element(), "os");
    attribute(os.and_then(|os| child(os, "type")), "machine")
}

/// Target and format of each writable disk that has a source.
pub(crate) fn disk_formats(xml: &str) -> Vec<(String, String)> {
    let Ok(document) = Document::parse(xml) else { return Vec::new() };
    document
        .descendants()
        .filter(|n| n.has_tag_name("disk"))
        .filter(|n| child(*n, "readonly").is_none() && child(*n, "source").is_some())
        .map(|n| (attribute(child(n, "target"), "dev"), attribute(child(n, "driver"), "type")))
        .collect()
}

/// Disks as target and source, and addresses of interfaces.
type Devices = (Vec<(String, String)>, Vec<MacAddress>);

/// Disks (target and source) and interfaces (address) of the first `<domain>` in a document.
pub(crate) fn devices(xml: &str) -> Option<Devices> {
    let document = Document::parse(xml).ok()?;
    let domain = document.descendants().find(|n| n.has_tag_name("domain"))?;
    let devices = child(domain, "devices")?;
    let all = |name: &'static str| devices.children().filter(move |n| n.has_tag_name(name));
    let mut disks: Vec<(String, String)> = all("disk")
        .map(disk)
        .filter(|disk| disk.device == "disk")
        .map(|disk| (disk.target, disk.source))
        .collect();
    disks.sort();
    Some((disks, all("interface").filter_map(nic).map(|nic| nic.mac).collect()))
}

/// A `<domainsnapshot>`.
pub(crate) fn snapshot(xml: &str, current: bool) -> Option<Snapshot> {
    let document = Document::parse(xml).ok()?;
    let root = document.root_element();
    let seconds: i64 = text(root, "creationTime").parse().ok()?;
    let created = chrono::DateTime::from_timestamp(seconds, 0)?;
    let parent = child(root, "parent").map(|parent| text(parent, "name"));
    Some(Snapshot {
        name: text(root, "name"),
        description: text(root, "description"),
        created: created.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        state: match text(root, "state").as_str() {
            "running" => DomainState::Running,
            "blocked" => DomainState::Blocked,
            "paused" => DomainState::Paused,
            "shutdown" => DomainState::ShuttingDown,
            "crashed" => DomainState::Crashed,
            "pmsuspended" => DomainState::Suspended,
            _ => DomainState::ShutOff,
        },
        current,
        parent,
    })
}

fn memory_kib(node: Option<Node<'_, '_>>) -> u64 {
    let number: u64 = node.and_then(|n| n.text()?.trim().parse().ok()).unwrap_or(0);
    match node.and_then(|n| n.attribute("unit")).unwrap_or("KiB") {
        "b" | "bytes" => number / 1024,
        "MiB" | "M" => number.saturating_mul(1 << 10),
        "GiB" | "G" => number.saturating_mul(1 << 20),
        "TiB" | "T" => number.saturating_mul(1 << 30),
        _ => number,
    }
}

fn disk(node: Node<'_, '_>) -> Disk {
    let source = child(node, "source");
    let protocol = attribute(source, "protocol");
    let kind = node.attribute("type").unwrap_or_default();
    let place = ["file", "dev", "name", "dir", "volume"]
        .iter()
        .find_map(|key| source.and_then(|n| n.attribute(*key)))
        .unwrap_or_default();
    let host = attribute(source.and_then(|n| child(n, "host")), "name");
    let iso = source.and_then(NetworkIso::of_source);
    let named = match protocol.as_str() {
        "http" | "https" => iso.map_or_else(
            || format!("{protocol}://{host}/{}", place.trim_start_matches('/')),
            |iso| iso.url.to_string(),
        ),
        _ => place.to_owned(),
    };
    Disk {
        device: node.attribute("device").unwrap_or("disk").to_owned(),
        // libvirt keeps a `<source>` without a file for a drive that was emptied while it ran.
        source_type: if source.is_none() || (kind == "file" && place.is_empty()) {
            String::new()
        } else if kind == "network" {
            protocol
        } else {
            kind.to_owned()
        },
        target: attribute(child(node, "target"), "dev"),
        bus: attribute(child(node, "target"), "bus"),
        source: named,
    }
}

fn nic(node: Node<'_, '_>) -> Option<Nic> {
    let source = child(node, "source");
    let place =
        ["bridge", "network", "dev"].iter().find_map(|key| source.and_then(|n| n.attribute(*key)));
    Some(Nic {
        kind: node.attribute("type").unwrap_or_default().to_owned(),
        mac: MacAddress::parse(&attribute(child(node, "mac"), "address")).ok()?,
        source: place.unwrap_or_default().to_owned(),
        model: attribute(child(node, "model"), "type"),
        tap: child(node, "target").and_then(|n| n.attribute("dev")).map(str::to_owned),
    })
}

fn record(metadata: Node<'_, '_>) -> GuestRecord {
    let value = |name: &str| {
        metadata
            .descendants()
            .find(|n| n.has_tag_name((METADATA_NAMESPACE, name)))
            .and_then(|n| n.text())
            .unwrap_or_default()
            .to_owned()
    };
    GuestRecord {
        tenant: value("tenant"),
        creator: value("creator"),
        created: value("created"),
        ipaddr: value("ipaddr"),
        gateway: value("gateway"),
        template: value("template"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmmgr_common::ids::VmId;

    fn read(xml: &str) -> Option<Domain> {
        parse(&RawDomain {
            id: VmId::new(),
            xml: xml.to_owned(),
            state: DomainState::ShutOff,
            memory_kib: 1024,
            cpu_time_ns: 0,
            autostart: false,
        })
    }

    #[test]
    fn guests_of_others_are_read_as_far_as_they_go() {
        assert!(read("<domain/>").unwrap().disks.is_empty());
        assert!(read("<network/>").is_none() && read("").is_none() && read("<domain").is_none());
        let odd = read(
            "<domain><vcpu current='x'>y</vcpu><memory unit='GiB'>2</memory><devices>\
             <disk type='network' device='disk'><source protocol='rbd' name='pool/v'/><target dev='vda'/></disk>\
             <disk type='network' device='cdrom'><source protocol='https' name='/a.iso'><host name='h' port='8443'/></source><target dev='sda'/></disk>\
             <disk device='cdrom'><target dev='sdb'/></disk>\
             <disk type='file' device='cdrom'><source index='2'/><target dev='sdc'/></disk><interface type='user'/></devices></domain>",
        )
        .unwrap();
        assert_eq!(odd.vcpus, 1);
        assert_eq!(odd.memory_kib_max, 2 << 20);
        let kinds: Vec<&str> = odd.disks.iter().map(|d| d.source_type.as_str()).collect();
        assert_eq!(kinds, ["rbd", "https", "", ""]);
        assert_eq!(odd.disks[1].source, "https://h:8443/a.iso");
        assert!(odd.nics.is_empty());
    }
}
