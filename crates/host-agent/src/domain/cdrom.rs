//! What is in a CD-ROM drive, as plans have it and as it stands in a guest's XML.

use roxmltree::Node;
use vmmgr_common::api::iso::IsoUrl;

/// The content of a drive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Inserted {
    /// Nothing.
    #[default]
    Nothing,
    /// A file on this host.
    File(String),
    /// An ISO that QEMU reads from a web server.
    Network(NetworkIso),
}

/// An ISO on a web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkIso {
    /// Where.
    pub(crate) url: IsoUrl,
    /// Whether the server has to prove who it is; `https` only.
    pub(crate) tls_verify: bool,
}

impl NetworkIso {
    /// The server as `<host>` has it: an IPv6 address without brackets.
    pub(crate) fn host(&self) -> &str {
        self.url.url().host_str().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// The port that is connected to.
    pub(crate) fn port(&self) -> u16 {
        self.url.url().port_or_known_default().unwrap_or_default()
    }

    /// Reads a `<source>` that is exactly what we write; none for anything more or else.
    pub(crate) fn of_source(source: Node<'_, '_>) -> Option<Self> {
        let attribute = |name: &str| source.attribute(name);
        let (protocol, path) = (attribute("protocol")?, attribute("name")?);
        let only = |node: Node<'_, '_>, known: &[&str]| {
            node.attributes().all(|a| a.namespace().is_none() && known.contains(&a.name()))
                && node.attributes().len() <= known.len()
        };
        // libvirt numbers the sources of a running guest.
        if !matches!(protocol, "http" | "https") || !only(source, &["protocol", "name", "index"]) {
            return None;
        }
        let children: Vec<_> = source.children().filter(Node::is_element).collect();
        let named = |name: &str| {
            let mut all = children.iter().filter(|n| n.has_tag_name(name)).copied();
            (all.next(), all.next().is_some())
        };
        let ((Some(host), false), (tls, false)) = (named("host"), named("ssl")) else {
            return None;
        };
        let leaves = |node: &Node<'_, '_>| node.children().any(|n| n.is_element());
        if children.len() != 1 + usize::from(tls.is_some()) || children.iter().any(leaves) {
            return None;
        }
        if !only(host, &["name", "port"]) || tls.is_some_and(|tls| !only(tls, &["verify"])) {
            return None;
        }
        let tls_verify = match tls.and_then(|tls| tls.attribute("verify")) {
            None | Some("yes") => true,
            Some("no") if protocol == "https" => false,
            Some(_) => return None,
        };
        let name = host.attribute("name")?;
        let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
        let port = host.attribute("port").map_or(Ok(None), |port| port.parse::<u16>().map(Some));
        let port = port.ok()?.map(|port| format!(":{port}")).unwrap_or_default();
        let text = format!("{protocol}://{name}{port}/{}", path.trim_start_matches('/'));
        let url = IsoUrl::parse(&text).ok()?;
        let as_written = Self { url, tls_verify };
        // A name with `@` or `/` in it would be read as something else than libvirt reads.
        let same = as_written.host() == host.attribute("name")?
            && as_written.url.url().path().trim_start_matches('/') == path.trim_start_matches('/');
        same.then_some(as_written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(xml: &str) -> Option<NetworkIso> {
        NetworkIso::of_source(roxmltree::Document::parse(xml).unwrap().root_element())
    }

    #[test]
    fn only_what_we_write_is_read() {
        let good = "<source protocol='https' name='iso/a.iso'><host name='h.test' port='443'/><ssl verify='no'/></source>";
        let iso = read(good).unwrap();
        assert_eq!(
            (iso.url.to_string().as_str(), iso.tls_verify),
            ("https://h.test/iso/a.iso", false)
        );
        assert_eq!((iso.host(), iso.port()), ("h.test", 443));
        let plain = "<source protocol='http' name='/a.iso' index='3'><host name='2001:db8::1' port='81'/></source>";
        let iso = read(plain).unwrap();
        assert_eq!(
            (iso.url.to_string().as_str(), iso.host()),
            ("http://[2001:db8::1]:81/a.iso", "2001:db8::1")
        );
        assert!(read(&good.replace("<ssl verify='no'/>", "")).unwrap().tls_verify);
        for (from, to) in [
            ("'https'", "'ftp'"),
            ("'https'", "'http'"),
            ("<host name='h.test' port='443'/>", ""),
            ("<ssl", "<host name='h2.test'/><ssl"),
            ("<ssl", "<ssl verify='yes'/><ssl"),
            ("<ssl", "<cookies><cookie name='a'>b</cookie></cookies><ssl"),
            ("<ssl", "<timeout seconds='6'/><ssl"),
            ("name='iso/a.iso'", "name='iso/a.iso' query='x=1'"),
            ("name='iso/a.iso'", "name='iso/a.iso?x'"),
            ("name='iso/a.iso'", "name='../a.iso'"),
            ("name='iso/a.iso'", "name='iso/a%2e.iso'"),
            ("'h.test'", "'u@h.test'"),
            ("'h.test'", "'h.test/x'"),
            ("'h.test'", "'H.test'"),
            ("port='443'", "port='x'"),
            ("port='443'", "port='443' transport='unix'"),
            ("verify='no'", "verify='maybe'"),
            ("verify='no'/>", "verify='no'><x/></ssl>"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
