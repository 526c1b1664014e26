//! ISOs that a guest's QEMU reads from a web server.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::ids::InvalidName;

/// Letters of a path that mean the same to everybody who takes it apart and puts it together again.
const PLAIN: &str = "/._-~+@:,=";

/// Where such an ISO is: `http://` or `https://`, a host, a path of letters, digits and
/// `/._-~+@:,=`; no credential, no query. At most 2000 bytes. Written in the URL standard's
/// spelling: host in lower case, without the usual port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, max_length = 2000, pattern = "^https?://[^/?#@\\\\]+/[A-Za-z0-9/._~+@:,=-]+$", examples("https://iso.example.org/debian-12.iso")))]
#[serde(try_from = "String", into = "String")]
pub struct IsoUrl(Url);

impl IsoUrl {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let refuse = |rule| InvalidName::new("url", text, rule);
        if text.len() > 2000 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(refuse("expected at most 2000 bytes without spaces"));
        }
        let url = Url::parse(text).map_err(|_| refuse("expected http://… or https://…"))?;
        // The standard also takes `HTTPS:h/x` and backslashes; nobody means them.
        let plain = text.starts_with("http://") || text.starts_with("https://");
        if !plain || text.contains('\\') || url.host().is_none() {
            return Err(refuse("expected http://… or https://…"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("holds a credential, which others could read"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("has a query or a fragment, which QEMU is not given"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || PLAIN.contains(c);
        if url.path() == "/" || url.path().starts_with("//") || !url.path().chars().all(plain) {
            return Err(refuse("its path may have letters, digits and /._-~+@:,= only"));
        }
        Ok(Self(url))
    }

    /// Its parts.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// True for `https`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl TryFrom<String> for IsoUrl {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}
impl From<IsoUrl> for String {
    fn from(url: IsoUrl) -> Self {
        url.0.into()
    }
}
impl std::fmt::Display for IsoUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_places_are_taken() {
        for (given, kept) in [
            ("https://Iso.Example.org:443/a/b-1_x.iso", "https://iso.example.org/a/b-1_x.iso"),
            ("http://10.0.0.5:8080/x.iso", "http://10.0.0.5:8080/x.iso"),
            ("https://[2001:db8::1]/x.iso", "https://[2001:db8::1]/x.iso"),
            ("https://h/a/../b.iso", "https://h/b.iso"),
        ] {
            assert_eq!(IsoUrl::parse(given).unwrap().to_string(), kept);
        }
        for bad in [
            "",
            "/srv/x.iso",
            "ftp://h/x.iso",
            "file:///etc/passwd",
            "nbd://h/x",
            "https://",
            "https://h",
            "https://h/",
            "https://h//x",
            "https://user@h/x",
            "https://:pw@h/x",
            "https://h/x?token=1",
            "https://h/x#y",
            "https://h/a%20b.iso",
            "https://h/a b.iso",
            "https://h/x\u{202e}",
            "https://h/'><x",
            "https://h/x\n",
            "HTTPS://h/x",
            "https:h/x",
            "https:\\\\h\\x",
            "https://h\\x/y",
        ] {
            assert!(IsoUrl::parse(bad).is_err(), "{bad}");
        }
        assert!(IsoUrl::parse(&format!("https://h/{}", "x".repeat(2000))).is_err());
    }
}
