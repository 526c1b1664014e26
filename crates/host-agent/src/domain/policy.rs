//! The last look at XML before libvirt gets it: an allow-list, whatever made the XML.
//!
//! Templates and values come from people; what matters is the composed document. It may hold the
//! elements below, no foreign namespace (`qemu:` arguments above all), no path outside the folders
//! of this host's pools, images and logs, no disk over the network but images of configured Ceph
//! pools and CD-ROMs of the host's origins, and no network listener.

use std::path::{Component, Path, PathBuf};

use roxmltree::{Document, Node};
use vmmgr_common::error::{ErrorCode, Problem};

use super::cdrom::NetworkIso;
use super::rbd::RbdPool;
use crate::storage::origin::Origins;

/// Namespace of our metadata block.
pub(crate) const METADATA_NAMESPACE: &str = "urn:iso-meta";

const TOP: [&str; 25] = [
    "name",
    "uuid",
    "title",
    "description",
    "metadata",
    "memory",
    "currentMemory",
    "maxMemory",
    "memoryBacking",
    "vcpu",
    "vcpus",
    "iothreads",
    "sysinfo",
    "os",
    "features",
    "cpu",
    "clock",
    "pm",
    "on_poweroff",
    "on_reboot",
    "on_crash",
    "devices",
    "numatune",
    "cputune",
    "resource",
];
/// No `hostdev`, `filesystem`, `shmem`, `redirdev`: they reach into the host.
const DEVICES: [&str; 18] = [
    "emulator",
    "disk",
    "interface",
    "controller",
    "serial",
    "console",
    "channel",
    "input",
    "graphics",
    "video",
    "sound",
    "audio",
    "memballoon",
    "rng",
    "watchdog",
    "tpm",
    "panic",
    "hub",
];
/// Files that every host has and that a guest may be given to read.
const FIXED: [&str; 6] = [
    "/usr/share/OVMF",
    "/usr/share/AAVMF",
    "/usr/share/qemu",
    "/usr/bin",
    "/dev/urandom",
    "/dev/random",
];
/// Elements whose text is prose.
const PROSE: [&str; 4] = ["name", "title", "description", "entry"];

fn refuse(what: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::XmlRefused, what)
        .hint("the template or a variable asks for something that guests may not have")
}

/// Where a guest's disks and files may be.
#[derive(Debug, Default)]
pub(crate) struct Allowed<'a> {
    /// Folders.
    pub(crate) roots: Vec<PathBuf>,
    /// Pools of RBD images.
    pub(crate) rbd: Vec<&'a RbdPool>,
    /// Web servers that a CD-ROM may come from.
    pub(crate) origins: Option<&'a Origins>,
}

/// Judges a `<domain>` document.
pub(crate) fn check(xml: &str, allowed: &Allowed<'_>) -> Result<(), Problem> {
    let document = Document::parse(xml).map_err(|error| refuse(format!("not XML: {error}")))?;
    let root = document.root_element();
    if !root.has_tag_name("domain") {
        return Err(refuse(format!("the document is a <{}>", root.tag_name().name())));
    }
    for child in root.children().filter(Node::is_element) {
        let name = child.tag_name().name();
        if child.tag_name().namespace().is_some() || !TOP.contains(&name) {
            return Err(refuse(format!("element <{name}> is not allowed in <domain>")));
        }
        match name {
            "metadata" => check_metadata(child)?,
            "devices" => {
                for device in child.children().filter(Node::is_element) {
                    check_device(device, allowed)?;
                }
            }
            _ => check_tree(child, &allowed.roots)?,
        }
    }
    Ok(())
}

/// Judges one device's XML.
pub(crate) fn check_fragment(xml: &str, allowed: &Allowed<'_>) -> Result<(), Problem> {
    let document = Document::parse(xml).map_err(|error| refuse(format!("not XML: {error}")))?;
    check_device(document.root_element(), allowed)
}

fn check_metadata(metadata: Node<'_, '_>) -> Result<(), Problem> {
    for child in metadata.descendants().skip(1).filter(Node::is_element) {
        if child.tag_name().namespace() != Some(METADATA_NAMESPACE) {
            return Err(refuse(format!(
                "<{}> is not allowed in <metadata>",
                child.tag_name().name()
            )));
        }
    }
    Ok(())
}

fn check_device(device: Node<'_, '_>, allowed: &Allowed<'_>) -> Result<(), Problem> {
    let name = device.tag_name().name();
    if !DEVICES.contains(&name) {
        return Err(refuse(format!("device <{name}> is not allowed")));
    }
    let kinds: &[&str] = match name {
        "disk" => &["file", "network"],
        "interface" => &["bridge", "network"],
        "serial" | "console" => &["pty"],
        "channel" => &["unix", "spicevmc"],
        _ => &[],
    };
    let kind = device.attribute("type").unwrap_or_default();
    if !kinds.is_empty() && !kinds.contains(&kind) {
        return Err(refuse(format!("<{name} type='{kind}'> is not allowed")));
    }
    if name == "graphics" {
        check_graphics(device)?;
    }
    if name == "disk" {
        check_disk(device)?;
        if kind == "network" {
            if device.attribute("device") == Some("cdrom") {
                check_network_cdrom(device, allowed.origins)?;
            } else {
                check_network_disk(device, &allowed.rbd)?;
            }
        }
    }
    check_tree(device, &allowed.roots)
}

/// A screen is reached through its socket; a port would be open to the network.
fn check_graphics(graphics: Node<'_, '_>) -> Result<(), Problem> {
    let listens: Vec<_> = graphics.children().filter(|n| n.has_tag_name("listen")).collect();
    let closed = |node: &Node<'_, '_>| matches!(node.attribute("type"), Some("socket" | "none"));
    if listens.is_empty() || !listens.iter().all(closed) {
        return Err(refuse("<graphics> may only listen on a socket"));
    }
    match ["port", "listen", "autoport", "websocket", "passwd"]
        .iter()
        .find(|name| graphics.has_attribute(**name))
    {
        Some(name) => Err(refuse(format!("<graphics {name}=…> is not allowed"))),
        None => Ok(()),
    }
}

/// A probed format would let a guest write a header that names a file of the host.
fn check_disk(disk: Node<'_, '_>) -> Result<(), Problem> {
    let driver =
        disk.children().find(|n| n.has_tag_name("driver")).and_then(|n| n.attribute("type"));
    if !matches!(driver, Some("qcow2" | "raw")) {
        return Err(refuse("<disk> needs a driver of type qcow2 or raw"));
    }
    match disk.descendants().find(|n| {
        n.has_tag_name("backingStore") || n.has_tag_name("mirror") || n.has_tag_name("dataStore")
    }) {
        Some(odd) => Err(refuse(format!("<{}> is not allowed", odd.tag_name().name()))),
        None => Ok(()),
    }
}

/// An image of a configured pool, reached as the configuration says; raw, because a format inside an
/// image could name something else again.
fn check_network_disk(disk: Node<'_, '_>, pools: &[&RbdPool]) -> Result<(), Problem> {
    let child = |name: &str| disk.children().find(|n| n.has_tag_name(name));
    let source = child("source").filter(|n| n.attribute("protocol") == Some("rbd"));
    let known = source.is_some_and(|source| pools.iter().any(|pool| pool.allows(source)));
    let raw = child("driver").and_then(|n| n.attribute("type")) == Some("raw");
    let sources = disk.children().filter(|n| n.has_tag_name("source")).count();
    let plain = disk.attribute("device") == Some("disk") && child("auth").is_none();
    if known && raw && plain && sources == 1 {
        return Ok(());
    }
    Err(refuse("<disk type='network'> is only allowed for a raw image of a configured Ceph pool"))
}

/// An ISO from a listed web server, and nothing but it: QEMU asks for it from the host's network.
fn check_network_cdrom(disk: Node<'_, '_>, origins: Option<&Origins>) -> Result<(), Problem> {
    let sources: Vec<_> = disk.descendants().filter(|n| n.has_tag_name("source")).collect();
    let iso = match sources.as_slice() {
        [source] if source.parent() == Some(disk) => NetworkIso::of_source(*source),
        _ => None,
    };
    let raw =
        disk.children().any(|n| n.has_tag_name("driver") && n.attribute("type") == Some("raw"));
    let parts = ["driver", "source", "target", "readonly"];
    let mut elements = disk.children().filter(Node::is_element);
    let plain = disk.attribute("device") == Some("cdrom")
        && elements.all(|n| parts.contains(&n.tag_name().name()));
    let (Some(iso), true, true) = (iso, raw, plain) else {
        return Err(refuse("<disk type='network'> may only be a raw CD-ROM over http or https"));
    };
    match origins.map(|origins| origins.judge(&iso.url.to_string())) {
        Some(Ok(_)) => Ok(()),
        Some(Err(problem)) => Err(refuse(problem.detail)),
        None => Err(refuse("<disk type='network'> is not allowed")),
    }
}

fn check_tree(node: Node<'_, '_>, roots: &[PathBuf]) -> Result<(), Problem> {
    for element in node.descendants().filter(Node::is_element) {
        let name = element.tag_name().name();
        if element.tag_name().namespace().is_some() {
            return Err(refuse(format!("<{name}> is of a foreign namespace")));
        }
        for attribute in element.attributes() {
            if attribute.namespace().is_some() {
                return Err(refuse(format!(
                    "attribute {} of <{name}> is of a foreign namespace",
                    attribute.name()
                )));
            }
            check_path(name, attribute.value(), roots)?;
        }
        if !PROSE.contains(&name) {
            for text in element.children().filter(Node::is_text) {
                check_path(name, text.text().unwrap_or_default().trim(), roots)?;
            }
        }
    }
    Ok(())
}

fn check_path(element: &str, value: &str, roots: &[PathBuf]) -> Result<(), Problem> {
    if !value.starts_with('/') {
        return Ok(());
    }
    let path = Path::new(value);
    let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    let fixed = FIXED.iter().any(|root| path.starts_with(root));
    if plain && (fixed || roots.iter().any(|root| path.starts_with(root) && path != root)) {
        return Ok(());
    }
    Err(refuse(format!("<{element}> names `{}`, which guests may not have", value.escape_debug())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(inner: &str) -> String {
        format!("<domain type='qemu'><name>x</name>{inner}</domain>")
    }

    #[test]
    fn what_reaches_into_the_host_is_refused() {
        let roots = Allowed { roots: vec![PathBuf::from("/pool")], ..Allowed::default() };
        let disk = |source: &str| {
            format!(
                "<devices><disk type='file' device='disk'><driver type='qcow2'/><source file='{source}'/></disk></devices>"
            )
        };
        check(&domain(&disk("/pool/a.qcow2")), &roots).unwrap();
        let bad = [
            "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-x'/></qemu:commandline>".to_owned(),
            disk("/etc/shadow"),
            disk("/pool/../etc/shadow"),
            disk("/pool"),
            "<devices><disk type='block'><driver type='raw'/><source dev='/dev/sda'/></disk></devices>".into(),
            "<devices><disk type='network' device='cdrom'><driver type='raw'/><source protocol='http' name='x'><host name='10.0.0.1'/></source></disk></devices>".into(),
            "<devices><disk type='file'><driver/><source file='/pool/x'/></disk></devices>".into(),
            "<devices><disk type='file'><driver type='qcow2'/><source file='/pool/x'/><backingStore type='file'/></disk></devices>".into(),
            "<devices><hostdev mode='subsystem'/></devices>".into(),
            "<devices><filesystem type='mount'><source dir='/'/></filesystem></devices>".into(),
            "<devices><graphics type='vnc' port='5900' listen='0.0.0.0'/></devices>".into(),
            "<devices><graphics type='vnc'><listen type='address' address='0.0.0.0'/></graphics></devices>".into(),
            "<devices><serial type='tcp'/></devices>".into(),
            "<devices><interface type='direct'/></devices>".into(),
            "<devices><emulator>/tmp/evil</emulator></devices>".into(),
            "<launchSecurity type='sev'/>".into(),
            "<metadata><x xmlns='urn:other'/></metadata>".into(),
            "<os><loader>/etc/passwd</loader></os>".into(),
        ];
        for inner in bad {
            let problem = check(&domain(&inner), &roots).expect_err(&inner);
            assert_eq!(problem.code, ErrorCode::XmlRefused, "{inner}");
        }
        assert!(check("<!DOCTYPE x [<!ENTITY e 'x'>]><domain>&e;</domain>", &roots).is_err());
        assert!(check_fragment("<domain/>", &roots).is_err());
    }

    #[test]
    fn only_raw_images_of_configured_pools_come_over_the_network() {
        let (pool, nowhere) = (crate::domain::rbd::tests::pool(), Allowed::default());
        let allowed = Allowed { rbd: vec![&pool], ..Allowed::default() };
        let good = "<disk type='network' device='disk'><driver name='qemu' type='raw'/>\
                    <source protocol='rbd' name='vms/vda-1.raw'><host name='10.0.0.11' port='6789'/>\
                    <auth username='vmmgr'><secret type='ceph' uuid='00000000-0000-0000-0000-000000000007'/></auth>\
                    </source><target dev='vda' bus='virtio'/></disk>";
        check_fragment(good, &allowed).unwrap();
        assert!(check_fragment(good, &nowhere).is_err());
        let host = "<host name='10.0.0.11' port='6789'/>";
        let auth = &good[good.find("<auth").unwrap()..good.find("</source>").unwrap()];
        let foreign = [
            ("name='vms/", "name='other/"),
            ("vda-1.raw'", "vda-1.raw@snap'"),
            ("vda-1.raw'", "a:conf=/etc/ceph/x'"),
            ("10.0.0.11", "10.0.0.66"),
            ("6789", "6790"),
            (host, ""),
            (host, &format!("{host}<host name='10.0.0.66' port='6789'/>")),
            (host, "<host transport='unix' socket='x'/>"),
            (host, &format!("{host}<config file='ceph.conf'/>")),
            (host, &format!("{host}<snapshot name='s'/>")),
            ("'vmmgr'", "'admin'"),
            ("000007'", "000008'"),
            (auth, ""),
            (auth, &auth.repeat(2)),
            ("type='raw'", "type='qcow2'"),
            ("device='disk'", "device='cdrom'"),
            ("'rbd'", "'http'"),
            ("'rbd' name", "'rbd' tls='no' name"),
            ("<target", "<auth username='x'/><target"),
            ("<target", "<source file='/etc/shadow'/><target"),
        ];
        for (from, to) in foreign {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            let problem = check_fragment(&bad, &allowed).expect_err(&bad);
            assert_eq!(problem.code, ErrorCode::XmlRefused, "{bad}");
        }
    }

    #[test]
    fn only_raw_cdroms_of_listed_servers_come_over_the_network() {
        let origins =
            Origins { allow: vec!["iso.test".into(), "10.0.0.5:81".into()], ..Origins::default() };
        let allowed = Allowed { origins: Some(&origins), ..Allowed::default() };
        let good = "<disk type='network' device='cdrom'><driver name='qemu' type='raw'/>\
                    <source protocol='https' name='a/b.iso'><host name='iso.test' port='443'/><ssl verify='yes'/></source>\
                    <target dev='sda' bus='sata'/><readonly/></disk>";
        check_fragment(good, &allowed).unwrap();
        check_fragment(&good.replace("verify='yes'", "verify='no'"), &allowed).unwrap();
        assert!(check_fragment(good, &Allowed::default()).is_err());
        let foreign = [
            ("'iso.test'", "'other.test'"),
            ("'iso.test'", "'10.0.0.5'"),
            ("'iso.test'", "'169.254.169.254'"),
            ("'https'", "'ftp'"),
            ("'https'", "'nbd'"),
            ("'a/b.iso'", "'/etc/shadow'"),
            ("'a/b.iso'", "'a/b.iso?x=1'"),
            ("'cdrom'", "'disk'"),
            ("'raw'", "'qcow2'"),
            ("<ssl", "<cookies><cookie name='a'>b</cookie></cookies><ssl"),
            ("<ssl", "<host name='other.test'/><ssl"),
            ("<target", "<auth username='x'/><target"),
            ("<target", "<source file='/etc/shadow'/><target"),
            ("<target", "<mirror type='file' file='/tmp/x'/><target"),
            ("<readonly/>", "<readonly/><q:x xmlns:q='urn:q'/>"),
        ];
        for (from, to) in foreign {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            let problem = check_fragment(&bad, &allowed).expect_err(&bad);
            assert_eq!(problem.code, ErrorCode::XmlRefused, "{bad}");
        }
    }
}
