//! Targets of disks (`vda` … `vdz`, `vdaa` …), and devices in XML.

use roxmltree::{Document, Node};

use super::cdrom::{Inserted, NetworkIso};

/// A device as it stands in a domain's XML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its XML, to the letter.
    pub(crate) xml: String,
    /// `disk`, `interface`.
    pub(crate) element: String,
    /// `disk`, `cdrom` for disks.
    pub(crate) device: String,
    /// File or volume behind it; empty where none is.
    pub(crate) source: String,
    /// Bus of a disk.
    pub(crate) bus: String,
    /// What is in a drive; none if it is something that we do not put into one.
    pub(crate) inserted: Option<Inserted>,
}

/// Letters of the number: 0 is `a`, 25 `z`, 26 `aa`.
fn letters(mut number: usize) -> String {
    let mut text = Vec::new();
    loop {
        text.push(b'a' + u8::try_from(number % 26).unwrap_or_default());
        if number < 26 {
            break;
        }
        number = number / 26 - 1;
    }
    text.iter().rev().map(|byte| char::from(*byte)).collect()
}

/// The first free target with `prefix` (`vd`, `sd`, `hd`) in all of the given XML documents.
pub(crate) fn next_free(prefix: &str, documents: &[&str]) -> String {
    let used: Vec<String> = documents.iter().flat_map(|xml| targets(xml)).collect();
    (0..)
        .map(|number| format!("{prefix}{}", letters(number)))
        .find(|name| !used.contains(name))
        .unwrap_or_default()
}

fn targets(xml: &str) -> Vec<String> {
    let Ok(document) = Document::parse(xml) else { return Vec::new() };
    document.descendants().filter(|n| n.has_tag_name("disk")).filter_map(name_of).collect()
}

/// Target of a disk, address of an interface.
fn name_of(node: Node<'_, '_>) -> Option<String> {
    let child = |name: &str| node.children().find(|n| n.has_tag_name(name));
    match node.tag_name().name() {
        "disk" => child("target")?.attribute("dev").map(str::to_owned),
        "interface" => child("mac")?.attribute("address").map(str::to_lowercase),
        _ => None,
    }
}

/// Name of the device that a fragment describes.
pub(crate) fn device_name(fragment: &str) -> Option<String> {
    name_of(Document::parse(fragment).ok()?.root_element())
}

/// The disk with that target or the interface with that address.
pub(crate) fn find_device(xml: &str, name: &str) -> Option<Found> {
    let document = Document::parse(xml).ok()?;
    let devices = document.root_element().children().find(|n| n.has_tag_name("devices"))?;
    let node = devices.children().find(|node| name_of(*node).as_deref() == Some(name))?;
    let child = |name: &str| node.children().find(|n| n.has_tag_name(name));
    let source = child("source")
        .and_then(|s| {
            ["file", "dev", "name", "bridge", "network"].iter().find_map(|key| s.attribute(*key))
        })
        .unwrap_or_default();
    let inserted = match child("source") {
        None => Some(Inserted::Nothing),
        Some(source) if node.attribute("type") == Some("network") => {
            NetworkIso::of_source(source).map(Inserted::Network)
        }
        // libvirt keeps a `<source>` without a file for a drive that was emptied while it ran.
        Some(source) if node.attribute("type") == Some("file") => {
            let file = source.attribute("file");
            Some(file.map_or(Inserted::Nothing, |path| Inserted::File(path.to_owned())))
        }
        Some(_) => None,
    };
    Some(Found {
        inserted,
        xml: xml[node.range()].to_owned(),
        element: node.tag_name().name().to_owned(),
        device: node.attribute("device").unwrap_or("disk").to_owned(),
        source: source.to_owned(),
        bus: child("target").and_then(|t| t.attribute("bus")).unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_go_on_past_z() {
        for (number, text) in
            [(0, "a"), (25, "z"), (26, "aa"), (27, "ab"), (701, "zz"), (702, "aaa")]
        {
            assert_eq!(letters(number), text);
        }
    }

    #[test]
    fn the_first_hole_is_taken_over_all_documents() {
        let doc = |names: &[&str]| {
            let disks: String = names
                .iter()
                .map(|name| format!("<disk><target dev='{name}' bus='virtio'/></disk>"))
                .collect();
            format!("<domain><devices>{disks}</devices></domain>")
        };
        assert_eq!(next_free("vd", &[&doc(&[])]), "vda");
        assert_eq!(next_free("vd", &[&doc(&["vda", "vdc"]), &doc(&["vdb"])]), "vdd");
        let all: Vec<String> = (0..26).map(|n| format!("vd{}", letters(n))).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(next_free("vd", &[&doc(&all)]), "vdaa");
    }

    #[test]
    fn a_device_is_found_by_target_or_address() {
        let xml = "<domain><devices><disk type='file' device='cdrom'><source file='/i.iso'/><target dev='sda' bus='sata'/></disk>\
                   <interface type='bridge'><mac address='52:54:00:AA:00:01'/><source bridge='br0'/></interface></devices></domain>";
        let disk = find_device(xml, "sda").unwrap();
        assert_eq!(
            (disk.device.as_str(), disk.source.as_str(), disk.bus.as_str()),
            ("cdrom", "/i.iso", "sata")
        );
        assert_eq!(disk.inserted, Some(Inserted::File("/i.iso".to_owned())));
        let emptied = xml.replace("file='/i.iso'", "index='2'");
        assert_eq!(find_device(&emptied, "sda").unwrap().inserted, Some(Inserted::Nothing));
        let foreign = xml.replace("type='file'", "type='block'");
        assert_eq!(find_device(&foreign, "sda").unwrap().inserted, None);
        assert!(disk.xml.starts_with("<disk") && disk.xml.ends_with("</disk>"));
        assert_eq!(find_device(xml, "52:54:00:aa:00:01").unwrap().element, "interface");
        assert!(find_device(xml, "vda").is_none());
        assert_eq!(device_name(&disk.xml).as_deref(), Some("sda"));
    }
}
