//! Which consoles a running domain has, from its live XML.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use roxmltree::{Document, Node};
use vmmgr_common::api::console::ConsoleKind;

/// A screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Screen {
    /// VNC or SPICE.
    pub(super) kind: ConsoleKind,
    /// Which `<graphics>` it is, as `virDomainOpenGraphicsFD` counts.
    pub(super) index: u32,
    /// Where QEMU listens, where it does: guests of others may have ports.
    pub(super) listener: Option<Listener>,
}

/// Where QEMU listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listener {
    /// A port of this host.
    Tcp(SocketAddr),
    /// A socket.
    Unix(PathBuf),
}

/// All consoles of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Consoles {
    /// Screens, in the order of the document.
    pub(super) screens: Vec<Screen>,
    /// Host's side of the first serial line.
    pub(super) pty: Option<PathBuf>,
}

impl Consoles {
    /// Reads live XML.
    pub(super) fn of(xml: &str) -> Self {
        let Ok(document) = Document::parse(xml) else { return Self::default() };
        let devices = document.root_element().children().find(|n| n.has_tag_name("devices"));
        let all = |name: &'static str| {
            devices.into_iter().flat_map(|n| n.children()).filter(move |n| n.has_tag_name(name))
        };
        let screens = (0..).zip(all("graphics")).filter_map(|(index, node)| screen(index, node));
        let pty = all("serial").next().or_else(|| all("console").next()).and_then(pty);
        Self { screens: screens.collect(), pty }
    }

    /// Kinds that can be opened.
    pub(super) fn kinds(&self) -> Vec<ConsoleKind> {
        let mut kinds: Vec<ConsoleKind> = self.screens.iter().map(|screen| screen.kind).collect();
        kinds.dedup();
        kinds.extend(self.pty.as_ref().map(|_| ConsoleKind::Serial));
        kinds
    }
}

fn screen(index: u32, node: Node<'_, '_>) -> Option<Screen> {
    let kind = match node.attribute("type")? {
        "vnc" => ConsoleKind::Vnc,
        "spice" => ConsoleKind::Spice,
        _ => return None,
    };
    Some(Screen { kind, index, listener: listener(node) })
}

fn listener(graphics: Node<'_, '_>) -> Option<Listener> {
    let listens = graphics.children().filter(|n| n.has_tag_name("listen"));
    for listen in listens {
        match listen.attribute("type")? {
            "socket" => return Some(Listener::Unix(listen.attribute("socket")?.into())),
            "address" | "network" => {
                let port = graphics.attribute("port")?.parse().ok().filter(|port| *port != 0)?;
                let address = listen.attribute("address").unwrap_or("127.0.0.1");
                return Some(Listener::Tcp(SocketAddr::new(reachable(address)?, port)));
            }
            _ => {}
        }
    }
    None
}

/// The address that a listener on `address` is reached at from the host itself.
fn reachable(address: &str) -> Option<IpAddr> {
    let address = if address == "localhost" { "127.0.0.1" } else { address };
    match address.parse().ok()? {
        IpAddr::V4(any) if any.is_unspecified() => Some(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(any) if any.is_unspecified() => Some(Ipv6Addr::LOCALHOST.into()),
        other => Some(other),
    }
}

/// Only a pseudo-terminal: anything else in its place could be any file of the host.
fn pty(serial: Node<'_, '_>) -> Option<PathBuf> {
    if serial.attribute("type") != Some("pty") {
        return None;
    }
    let source = serial.children().find(|n| n.has_tag_name("source"));
    let path = source.and_then(|n| n.attribute("path")).or_else(|| serial.attribute("tty"))?;
    let number = path.strip_prefix("/dev/pts/")?;
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(inner: &str) -> Consoles {
        Consoles::of(&format!("<domain><devices>{inner}</devices></domain>"))
    }

    #[test]
    fn our_guests_have_a_socket_and_a_line_and_no_port() {
        let found = devices(
            "<serial type='pty'><source path='/dev/pts/4'/></serial>
             <console type='pty' tty='/dev/pts/4'/>
             <graphics type='vnc' socket='/q/vnc.sock'><listen type='socket' socket='/q/vnc.sock'/></graphics>",
        );
        assert_eq!(found.kinds(), [ConsoleKind::Vnc, ConsoleKind::Serial]);
        assert_eq!(found.pty, Some("/dev/pts/4".into()));
        assert_eq!(found.screens[0].listener, Some(Listener::Unix("/q/vnc.sock".into())));
        let spice = devices("<graphics type='spice'><listen type='none'/></graphics>");
        assert_eq!(spice.screens[0].listener, None);
    }

    #[test]
    fn ports_of_guests_of_others_are_reached_on_the_host_itself() {
        for (listen, port, expected) in [
            ("127.0.0.1", "5900", Some("127.0.0.1:5900")),
            ("0.0.0.0", "5901", Some("127.0.0.1:5901")),
            ("::", "5901", Some("[::1]:5901")),
            ("192.0.2.7", "5902", Some("192.0.2.7:5902")),
            ("127.0.0.1", "-1", None),
            ("evil.example", "5900", None),
        ] {
            let found = devices(&format!(
                "<graphics type='sdl'/><graphics type='vnc' port='{port}'><listen type='address' address='{listen}'/></graphics>"
            ));
            let address = expected.map(|text| Listener::Tcp(text.parse().unwrap()));
            assert_eq!(
                found.screens[0],
                Screen { kind: ConsoleKind::Vnc, index: 1, listener: address }
            );
        }
    }

    #[test]
    fn a_line_that_is_no_pseudo_terminal_is_not_opened() {
        for serial in [
            "<serial type='file'><source path='/etc/shadow'/></serial>",
            "<serial type='pty'><source path='/dev/pts/../sda'/></serial>",
            "<serial type='pty'><source path='/dev/ptmx'/></serial>",
            "<serial type='pty'/>",
        ] {
            assert_eq!(devices(serial), Consoles::default(), "{serial}");
        }
        assert_eq!(Consoles::of("no xml"), Consoles::default());
    }
}
