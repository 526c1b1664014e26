//! libvirt's XML as an inventory entry. Guests that others made are read as far as they go.

use roxmltree::{Document, Node};
use vmmgr_common::api::domain::{Disk, Domain, GuestRecord, Nic};
use vmmgr_common::ids::MacAddress;

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
    let named = match protocol.as_str() {
        "http" | "https" => format!("{protocol}://{host}/{}", place.trim_start_matches('/')),
        _ => place.to_owned(),
    };
    Disk {
        device: node.attribute("device").unwrap_or("disk").to_owned(),
        source_type: if source.is_none() {
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
    use vmmgr_common::api::domain::DomainState;
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
             <disk type='network' device='cdrom'><source protocol='https' name='/a.iso'><host name='h'/></source><target dev='sda'/></disk>\
             <disk device='cdrom'><target dev='sdb'/></disk><interface type='user'/></devices></domain>",
        )
        .unwrap();
        assert_eq!(odd.vcpus, 1);
        assert_eq!(odd.memory_kib_max, 2 << 20);
        let kinds: Vec<&str> = odd.disks.iter().map(|d| d.source_type.as_str()).collect();
        assert_eq!(kinds, ["rbd", "https", ""]);
        assert_eq!(odd.disks[1].source, "https://h/a.iso");
        assert!(odd.nics.is_empty());
    }
}
