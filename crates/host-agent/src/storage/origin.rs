//! Where gold images may come from.
//!
//! A record's URI is written by people with fewer rights than the host has: it must not become a
//! way to ask the host's own network for something. So an operator lists the origins; the name is
//! looked up once, judged, and that address alone is connected to; each redirect is judged again.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use url::{Host, Url};
use vmmgr_common::error::{ErrorCode, Problem};

/// `[origins]` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Origins {
    /// `images.example.org`, `10.0.0.5:8080`, `*.example.org`; none: nothing is downloaded.
    pub(crate) allow: Vec<String>,
    /// Certificates (PEM) that are trusted beside the system's.
    pub(crate) ca: Option<PathBuf>,
    /// Largest file, bytes.
    pub(crate) max_bytes: u64,
    /// Largest disk in an image, bytes.
    pub(crate) max_virtual_bytes: u64,
    /// Key for `ssh://` origins.
    pub(crate) ssh_key: Option<PathBuf>,
    /// Host keys of `ssh://` origins; others are refused.
    pub(crate) ssh_known_hosts: Option<PathBuf>,
}

impl Default for Origins {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            ca: None,
            max_bytes: 256 << 30,
            max_virtual_bytes: 16 << 40,
            ssh_key: None,
            ssh_known_hosts: None,
        }
    }
}

fn refuse(url: &Url, why: &str) -> Problem {
    let shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    Problem::new(ErrorCode::InvalidValue, format!("uri: {shown} {why}"))
}

/// Addresses that are never an image server's, whatever a name says: metadata services live on
/// link-local ones.
fn never(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_unspecified() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => never(v4.into()),
            None => v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local(),
        },
    }
}

fn loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(v6.is_loopback(), |v4| v4.is_loopback()),
        IpAddr::V4(v4) => v4.is_loopback(),
    }
}

impl Origins {
    /// Reads a URI of one of the schemes `http`, `https`, `ssh`, and judges its host.
    pub(crate) fn judge(&self, uri: &str) -> Result<Url, Problem> {
        let bad = |why: &str| {
            Problem::new(ErrorCode::InvalidValue, format!("uri: `{}` {why}", uri.escape_debug()))
        };
        let url = Url::parse(uri).map_err(|_| bad("cannot be read"))?;
        if !matches!(url.scheme(), "http" | "https" | "ssh") {
            return Err(bad("is of another scheme than http, https and ssh"));
        }
        if url.password().is_some() || (url.scheme() != "ssh" && !url.username().is_empty()) {
            return Err(bad("holds a credential"));
        }
        let (Some(host), Some(port)) = (url.host_str(), port(&url)) else {
            return Err(bad("names no host"));
        };
        let listed = self.allow.iter().any(|entry| {
            let with_port = format!("{host}:{port}");
            match entry.strip_prefix("*.") {
                Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
                None => entry.eq_ignore_ascii_case(host) || entry.eq_ignore_ascii_case(&with_port),
            }
        });
        if listed {
            return Ok(url);
        }
        Err(refuse(&url, "is not an origin of this host")
            .hint("list it under `allow` of [origins] in the agent's configuration"))
    }

    /// The one address that is connected to.
    pub(crate) async fn resolve(&self, url: &Url) -> Result<SocketAddr, Problem> {
        let port = port(url).unwrap_or_default();
        let (literal, name) = match url.host() {
            Some(Host::Ipv4(v4)) => (Some(IpAddr::V4(v4)), String::new()),
            Some(Host::Ipv6(v6)) => (Some(IpAddr::V6(v6)), String::new()),
            // Of an address in `ssh://` the parser makes a name.
            Some(Host::Domain(name)) => (name.parse().ok(), name.to_owned()),
            None => (None, String::new()),
        };
        let found: Vec<SocketAddr> = match literal {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => tokio::net::lookup_host((name.as_str(), port))
                .await
                .map_err(|_| {
                    let detail = format!("gold image: the name `{name}` cannot be looked up");
                    Problem::new(ErrorCode::OriginFailed, detail)
                })?
                .collect(),
        };
        // A name that points to this machine itself is a trick; who means it lists the address.
        let odd = |address: IpAddr| {
            never(address) || (loopback(address) && literal.is_none() && name != "localhost")
        };
        match found.first() {
            Some(first) if !found.iter().any(|found| odd(found.ip())) => Ok(*first),
            _ => Err(refuse(url, "points to an address that no image comes from")),
        }
    }
}

fn port(url: &Url) -> Option<u16> {
    url.port_or_known_default().or((url.scheme() == "ssh").then_some(22))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(allow: &[&str]) -> Origins {
        Origins { allow: allow.iter().map(|s| (*s).to_owned()).collect(), ..Origins::default() }
    }

    #[test]
    fn only_listed_hosts_are_origins() {
        let origins = origins(&["images.example.org", "10.0.0.5:8080", "*.mirror.test"]);
        for good in [
            "https://images.example.org/a.qcow2",
            "http://IMAGES.example.org:81/a",
            "http://10.0.0.5:8080/a",
            "https://a.b.mirror.test/x",
            "ssh://gold@images.example.org/srv/a.qcow2",
        ] {
            assert!(origins.judge(good).is_ok(), "{good}");
        }
        for bad in [
            "https://images.example.org.evil.test/a",
            "http://10.0.0.5/a",
            "http://169.254.169.254/latest",
            "http://127.0.0.1:7442/v1/host",
            "http://2130706433/",
            "https://mirror.test/x",
            "https://xmirror.test/x",
            "https://user:pw@images.example.org/a",
            "https://evil@images.example.org/a",
            "https://evil.test#@images.example.org/a",
            "file:///etc/passwd",
            "gopher://images.example.org/",
            "https://",
        ] {
            assert_eq!(origins.judge(bad).expect_err(bad).status, 422, "{bad}");
        }
    }

    #[tokio::test]
    async fn addresses_that_no_image_comes_from_are_refused_even_when_listed() {
        let all = origins(&["169.254.169.254", "0.0.0.0", "[::ffff:169.254.169.254]", "127.0.0.1"]);
        for bad in [
            "http://169.254.169.254/",
            "ssh://gold@169.254.169.254/",
            "http://0.0.0.0/",
            "http://[::ffff:169.254.169.254]/",
        ] {
            let url = Url::parse(bad).unwrap();
            assert_eq!(all.resolve(&url).await.expect_err(bad).status, 422, "{bad}");
        }
        for own in ["http://127.0.0.1:81/", "ssh://gold@127.0.0.1:81/"] {
            let url = all.judge(own).unwrap();
            assert_eq!(all.resolve(&url).await.unwrap(), "127.0.0.1:81".parse().unwrap(), "{own}");
        }
    }
}
