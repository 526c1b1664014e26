//! Names of things, one type each, so that swapping two arguments does not compile.
//!
//! Every type here is valid by construction: the only ways in are `parse` (also behind serde and
//! `FromStr`) and, for ids that we mint, `new`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a name was refused. The text never repeats more than 80 characters of the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{given}` is not valid: {rule}")]
pub struct InvalidName {
    what: &'static str,
    given: String,
    rule: &'static str,
}

impl InvalidName {
    /// Builds the refusal; control characters in `given` are escaped before they reach a log.
    #[must_use]
    pub fn new(what: &'static str, given: &str, rule: &'static str) -> Self {
        let given = given.chars().take(80).flat_map(char::escape_debug).collect();
        Self { what, given, rule }
    }
}

macro_rules! string_serde {
    ($name:ident) => {
        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

fn canonical_uuid(what: &'static str, text: &str) -> Result<Uuid, InvalidName> {
    const RULE: &str = "expected 32 lower-case hex digits as 8-4-4-4-12";
    let id = Uuid::try_parse(text).map_err(|_| InvalidName::new(what, text, RULE))?;
    // libvirt and the parser take many spellings; one spelling keeps maps, URLs and logs unambiguous.
    if id.hyphenated().to_string() == text && !id.is_nil() {
        Ok(id)
    } else {
        Err(InvalidName::new(what, text, RULE))
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $mint:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = Uuid))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// Mints a fresh id.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "an id has no default")]
            pub fn new() -> Self {
                Self(Uuid::$mint())
            }

            /// Parses the one canonical spelling.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                canonical_uuid($what, text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
        string_serde!($name);
    };
}

uuid_id!(
    /// A guest: libvirt's domain UUID, in the one canonical spelling.
    VmId, "guest id", new_v4
);
uuid_id!(
    /// An operation; also the idempotency key between gateway and agent. Sorts by time.
    OperationId, "operation id", now_v7
);
uuid_id!(
    /// A console session; sorts by time.
    ConsoleSessionId, "console session id", now_v7
);

/// A host as the operator named it: 1 to 19 characters of `a-z A-Z 0-9 . _ -`, first alphanumeric.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,18}$", examples("host01")))]
#[serde(try_from = "String", into = "String")]
pub struct HostId(String);

/// A record's name (device, gold image, ISO, pool, template): up to 64 characters, same alphabet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples("debian12")))]
#[serde(try_from = "String", into = "String")]
pub struct ResourceName(String);

fn plain_name(text: &str, longest: usize) -> bool {
    text.len() <= longest
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

impl HostId {
    /// Parses a host name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if plain_name(text, 19) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new("host name", text, "expected 1 to 19 of a-z A-Z 0-9 . _ -"))
        }
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ResourceName {
    /// Parses a resource name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if plain_name(text, 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new("name", text, "expected 1 to 64 of a-z A-Z 0-9 . _ -"))
        }
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
string_serde!(HostId);
string_serde!(ResourceName);

/// A unicast Ethernet address, printed as six lower-case pairs (`52:54:00:12:34:56`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$", examples("52:54:00:12:34:56")))]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// An address in QEMU's own range (52:54:00) from three random bytes.
    #[must_use]
    pub fn new() -> Self {
        let random = Uuid::new_v4().into_bytes();
        Self([0x52, 0x54, 0x00, random[0], random[1], random[2]])
    }

    /// Parses `aa:bb:cc:dd:ee:ff`, either case; multicast and all-zero addresses are refused.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let refuse =
            || InvalidName::new("MAC address", text, "expected a unicast aa:bb:cc:dd:ee:ff");
        let mut bytes = [0_u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(refuse)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() {
            return Err(refuse());
        }
        Self::from_bytes(bytes).ok_or_else(refuse)
    }

    /// The address with these bytes; none if it is multicast or all zero.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 6]) -> Option<Self> {
        (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }
}

impl Default for MacAddress {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
string_serde!(MacAddress);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_id_has_exactly_one_spelling() {
        let good = "6f5d8bf6-d580-4946-9541-13fa98b4acf4";
        assert_eq!(VmId::parse(good).unwrap().to_string(), good);
        for bad in [
            "6F5D8BF6-D580-4946-9541-13FA98B4ACF4",
            "6f5d8bf6d5804946954113fa98b4acf4",
            "{6f5d8bf6-d580-4946-9541-13fa98b4acf4}",
            "urn:uuid:6f5d8bf6-d580-4946-9541-13fa98b4acf4",
            " 6f5d8bf6-d580-4946-9541-13fa98b4acf4",
            "00000000-0000-0000-0000-000000000000",
            "",
            "../etc/passwd",
        ] {
            assert!(VmId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_refuse_paths_and_control_characters() {
        assert!(HostId::parse("host01").is_ok());
        for bad in ["", ".", "..", "a/b", "a b", "a\n", "-x", "h\u{e9}", "abcdefghijklmnopqrst"] {
            assert!(HostId::parse(bad).is_err(), "{bad:?}");
        }
        let refusal = HostId::parse("a\u{1b}[2J").unwrap_err().to_string();
        assert!(!refusal.contains('\u{1b}'), "{refusal:?}");
    }

    #[test]
    fn mac_addresses_are_unicast_and_printed_lower_case() {
        assert_eq!(
            MacAddress::parse("52:54:00:AA:0b:0C").unwrap().to_string(),
            "52:54:00:aa:0b:0c"
        );
        for bad in [
            "",
            "52:54:00:aa:bb",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "52-54-00-aa-bb-cc",
            "52:54:00:aa:bb:cc:dd",
            "+2:54:00:aa:bb:cc",
        ] {
            assert!(MacAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
