//! Ceph as libvirt, QEMU and qemu-img name it: a pool of RBD images, its monitors and its user. Pure.
//!
//! ```text
//!  agent.toml [[rbd_pool]] --> definition: libvirt's storage pool --> images come and go
//!                          --> template device/disk-rbd: a guest's <disk type='network'>
//!                          --> target: what qemu-img writes a gold image to
//! ```
//!
//! The key of the user is a secret of libvirt; here is only that secret's UUID.

use roxmltree::{Document, Node};
use serde::Deserialize;
use uuid::Uuid;
use vmmgr_common::ids::{InvalidName, ResourceName};

/// `host:port` of a monitor; an IPv6 address is in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Monitor {
    /// Name or address, without brackets.
    pub(crate) host: String,
    /// Usually 6789 or 3300.
    pub(crate) port: u16,
}

impl Monitor {
    /// Reads `host:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidName> {
        let rule = "expected `host:port`, such as `10.0.0.11:6789` or `[2001:db8::1]:6789`";
        let refuse = || InvalidName::new("monitor", text, rule);
        let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(refuse)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| refuse())?.to_string(),
            None if is_plain(host) => host.to_owned(),
            None => return Err(refuse()),
        };
        Ok(Self { host, port })
    }
}

impl TryFrom<String> for Monitor {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

/// Letters that mean nothing to XML, to qemu-img's options and to Ceph's image names.
fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 253
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// A Ceph pool that disks may be in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RbdPool {
    /// Name in libvirt, and in the devices of the configuration.
    pub(crate) name: ResourceName,
    /// Name in Ceph.
    pub(crate) ceph_pool: ResourceName,
    /// All of them, so that one may be away.
    pub(crate) monitors: Vec<Monitor>,
    /// Ceph user, without `client.`.
    pub(crate) user: ResourceName,
    /// libvirt's secret with the user's key.
    pub(crate) secret: Uuid,
}

impl RbdPool {
    /// An image as definitions of guests name it.
    pub(crate) fn source(&self, image: &str) -> String {
        format!("{}/{image}", self.ceph_pool)
    }

    /// The image's name, if `source` is an image of this pool and nothing else (no snapshot, no
    /// namespace, no option).
    pub(crate) fn image<'a>(&self, source: &'a str) -> Option<&'a str> {
        let image = source.strip_prefix(self.ceph_pool.as_str())?.strip_prefix('/')?;
        is_plain(image).then_some(image)
    }

    /// libvirt's storage pool; `uuid` is that of the pool that it replaces.
    pub(crate) fn definition(&self, uuid: Option<&str>) -> String {
        let uuid = uuid.map(|uuid| format!("<uuid>{uuid}</uuid>")).unwrap_or_default();
        let hosts: String = self
            .monitors
            .iter()
            .map(|monitor| format!("<host name='{}' port='{}'/>", monitor.host, monitor.port))
            .collect();
        let Self { name, ceph_pool, user, secret, .. } = self;
        format!(
            "<pool type='rbd'><name>{name}</name>{uuid}<source>{hosts}<name>{ceph_pool}</name>\
             <auth type='ceph' username='{user}'><secret uuid='{secret}'/></auth></source></pool>"
        )
    }

    /// How libvirt's pool of our name relates to this one.
    pub(crate) fn compare(&self, xml: &str) -> Defined {
        let Ok(document) = Document::parse(xml) else { return Defined::Other("no XML".into()) };
        let root = document.root_element();
        let kind = root.attribute("type").unwrap_or_default();
        if kind != "rbd" {
            return Defined::Other(format!("of type {kind}"));
        }
        let Some(source) = child(root, "source") else { return Defined::Stale };
        let ceph_pool = child(source, "name").and_then(|name| name.text()).unwrap_or_default();
        if ceph_pool != self.ceph_pool.as_str() {
            return Defined::Other(format!("over the Ceph pool `{ceph_pool}`"));
        }
        if self.is_reached_by(source) { Defined::Same } else { Defined::Stale }
    }

    /// True if the `<source>` has all of our monitors and no other, and our user and secret.
    fn is_reached_by(&self, source: Node<'_, '_>) -> bool {
        let mut hosts: Vec<Monitor> = monitors(source).flatten().collect();
        let mut ours = self.monitors.clone();
        hosts.sort();
        ours.sort();
        hosts == ours && self.is_authorised(source)
    }

    /// Whether a guest's `<source protocol='rbd'>` is an image of this pool, reached through its
    /// monitors as its user, with nothing added.
    pub(crate) fn allows(&self, source: Node<'_, '_>) -> bool {
        let named = source.attribute("name").is_some_and(|name| self.image(name).is_some());
        let plain = source.attributes().all(|a| ["protocol", "name"].contains(&a.name()))
            && source
                .children()
                .filter(Node::is_element)
                .all(|node| ["host", "auth"].contains(&node.tag_name().name()));
        let mut hosts = monitors(source).peekable();
        let known = hosts.peek().is_some()
            && hosts.all(|host| host.is_some_and(|host| self.monitors.contains(&host)));
        named && plain && known && self.is_authorised(source)
    }

    fn is_authorised(&self, source: Node<'_, '_>) -> bool {
        let mut auths = source.children().filter(|node| node.has_tag_name("auth"));
        let (Some(auth), None) = (auths.next(), auths.next()) else { return false };
        let secret = child(auth, "secret").and_then(|secret| secret.attribute("uuid"));
        auth.attribute("username") == Some(self.user.as_str())
            && secret.and_then(|uuid| Uuid::parse_str(uuid).ok()) == Some(self.secret)
    }

    /// qemu-img's `--image-opts` for an image; the key comes from its object `key_object`.
    pub(crate) fn target(&self, image: &str, key_object: &str) -> String {
        let servers: String = self
            .monitors
            .iter()
            .enumerate()
            .map(|(n, m)| format!(",server.{n}.host={},server.{n}.port={}", m.host, m.port))
            .collect();
        let Self { ceph_pool, user, .. } = self;
        format!(
            "driver=rbd,pool={ceph_pool},image={image},user={user},key-secret={key_object}{servers}"
        )
    }
}

/// libvirt's pool of a name beside what the configuration says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Defined {
    /// As configured.
    Same,
    /// The same Ceph pool through other monitors, or as another user.
    Stale,
    /// Another pool altogether: says what.
    Other(String),
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|node| node.has_tag_name(name))
}

/// `<host>`s of a source; none for one that is no plain name with a port.
fn monitors<'a, 'i: 'a>(source: Node<'a, 'i>) -> impl Iterator<Item = Option<Monitor>> + 'a {
    source.children().filter(|node| node.has_tag_name("host")).map(|host| {
        let plain = host.attributes().all(|a| ["name", "port"].contains(&a.name()));
        let port = host.attribute("port")?.parse().ok()?;
        plain.then_some(Monitor { host: host.attribute("name")?.to_owned(), port })
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The pool that tests of other modules use too.
    pub(crate) fn pool() -> RbdPool {
        let name = |text: &str| ResourceName::parse(text).unwrap();
        RbdPool {
            name: name("ceph"),
            ceph_pool: name("vms"),
            monitors: ["10.0.0.11:6789", "[2001:db8::1]:3300"]
                .map(|m| Monitor::parse(m).unwrap())
                .into(),
            user: name("vmmgr"),
            secret: Uuid::from_u128(7),
        }
    }

    #[test]
    fn monitors_are_hosts_with_ports() {
        let v6 = Monitor::parse("[2001:DB8:0::1]:3300").unwrap();
        assert_eq!((v6.host.as_str(), v6.port), ("2001:db8::1", 3300));
        for good in ["mon1:6789", "mon-1.ceph.test:6789", "10.0.0.1:1"] {
            assert!(Monitor::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ":6789",
            "mon1",
            "mon1:",
            "mon1:0",
            "mon1:65536",
            "a,b:1",
            "a b:1",
            "a'b:1",
            "::1:6789",
            "[x]:1",
            "-a:1",
        ] {
            assert!(Monitor::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_source_is_an_image_of_the_pool_or_nothing() {
        let pool = pool();
        assert_eq!(pool.image(&pool.source("vda-x.raw")), Some("vda-x.raw"));
        for other in [
            "vms",
            "vms/",
            "vmsx/a",
            "other/a",
            "/vms/a",
            "vms/a@snap",
            "vms/ns/a",
            "vms/a:conf=/x",
            "vms/.a",
        ] {
            assert_eq!(pool.image(other), None, "{other}");
        }
    }

    #[test]
    fn libvirt_s_pool_is_compared_with_the_configured_one() {
        let pool = pool();
        let uuid = Uuid::from_u128(9).to_string();
        // As libvirt 9.0 writes it.
        let defined = format!(
            "<pool type='rbd'>\n  <name>ceph</name>\n  <uuid>{uuid}</uuid>\n  <capacity unit='bytes'>1</capacity>\n\
             <source>\n <host name='2001:db8::1' port='3300'/>\n <host name='10.0.0.11' port='6789'/>\n <name>vms</name>\n\
             <auth type='ceph' username='vmmgr'>\n <secret uuid='{}'/>\n </auth>\n </source>\n</pool>",
            pool.secret
        );
        assert_eq!(pool.compare(&defined), Defined::Same);
        assert_eq!(pool.compare(&pool.definition(Some(&uuid))), Defined::Same);
        assert!(
            pool.definition(Some(&uuid)).contains(&uuid)
                && !pool.definition(None).contains("<uuid>")
        );
        for (from, to) in [
            ("3300", "6789"),
            ("'vmmgr'", "'admin'"),
            ("00007", "00008"),
            ("<host name='10.0.0.11' port='6789'/>", ""),
        ] {
            assert_eq!(pool.compare(&defined.replace(from, to)), Defined::Stale, "{from}");
        }
        for (from, to) in [("<name>vms<", "<name>rbd<"), ("type='rbd'", "type='dir'")] {
            assert!(
                matches!(pool.compare(&defined.replace(from, to)), Defined::Other(_)),
                "{from}"
            );
        }
    }

    #[test]
    fn qemu_img_is_told_the_place_and_not_the_key() {
        assert_eq!(
            pool().target("vda-x.raw", "key"),
            "driver=rbd,pool=vms,image=vda-x.raw,user=vmmgr,key-secret=key,\
             server.0.host=10.0.0.11,server.0.port=6789,server.1.host=2001:db8::1,server.1.port=3300"
        );
    }
}
