//! Which pages may open a console.

use vmmgr_common::error::{ErrorCode, Problem};

/// An entry of the configuration that is no origin.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an origin: expected https://name or https://name:port, in lower case")]
pub struct InvalidOrigin(String);

/// Origins, each exactly as browsers send it.
#[derive(Debug, Clone)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Reads the configured ones. The port of the scheme is never written, as in browsers.
    pub fn parse(given: &[String]) -> Result<Self, InvalidOrigin> {
        let parsed =
            given.iter().map(|text| canonical(text).ok_or_else(|| InvalidOrigin(text.clone())));
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Lets one of these pages pass, and who is no browser if its ticket came in a header.
    pub(super) fn check(&self, given: &[&str], ticket_by_header: bool) -> Result<(), Problem> {
        let refuse = |why: &str| Err(Problem::new(ErrorCode::Forbidden, why));
        match given {
            [] if ticket_by_header => Ok(()),
            [] => {
                refuse("a console with its ticket in the URL is for browsers: no Origin was sent")
            }
            [origin] if self.0.iter().any(|known| known == origin) => Ok(()),
            [_] => refuse("a page of another site may not open a console"),
            _ => refuse("more than one Origin was sent"),
        }
    }
}

fn canonical(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (rest, None),
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._[:]".contains(c);
    if !matches!(scheme, "http" | "https") || name.is_empty() || !name.chars().all(plain) {
        return None;
    }
    let Some(port) = port else { return Some(text.to_owned()) };
    let number = port.parse::<u16>().ok().filter(|number| number.to_string() == port)?;
    let usual = if scheme == "https" { 443 } else { 80 };
    Some(if number == usual { format!("{scheme}://{name}") } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_as_browsers_write_them() {
        let given = ["https://vmm.example:443", "https://vmm.example:8443", "http://[::1]:80"];
        let origins = Origins::parse(&given.map(str::to_owned)).unwrap();
        assert_eq!(origins.0, ["https://vmm.example", "https://vmm.example:8443", "http://[::1]"]);
        for bad in [
            "",
            "*",
            "null",
            "vmm.example",
            "https://",
            "https://VMM.example",
            "https://vmm.example/",
            "https://vmm.example:",
            "https://vmm.example:0443",
            "https://vmm.example:99999",
            "ftp://vmm.example",
            "https://*.example",
        ] {
            assert!(Origins::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
