//! Tenant links: what stands in the URL.
//!
//! ```text
//!  <host>/<uuid>?k=<key>&e=<expiry>          plain form
//!  base64url(<the plain form>)               one word, for pages and mails
//! ```
//!
//! `key` is 256 random bits; the store knows a keyed SHA-256 of the whole plain form, so that a
//! changed host, guest or expiry finds no record. The seed's own form has an MD5 of a shared key
//! there; it is taken only by a gateway that was told to, see [`LegacyKey`].

use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, VmId};

use crate::query::Arguments;

/// Base64 characters of our key: 32 bytes.
const KEY_CHARS: usize = 43;
/// Base64 characters of the seed's key: an MD5.
const LEGACY_CHARS: usize = 22;
/// The key that every installation of the seed has unless it was changed.
const PUBLISHED_KEY: &str = "P@ssw@rd4Display";

/// What a link can allow, in the words of its URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LinkVerb {
    /// See the guest.
    List,
    /// Start it.
    Start,
    /// Press its reset button.
    Reset,
    /// Shut it down or cut its power.
    Stop,
    /// Its serial line.
    Console,
    /// Its screen.
    Display,
    /// Change what is in a drive.
    Cdrom,
    /// See the ISOs that there are.
    Getiso,
    /// See, take, go back to and delete snapshots.
    Snapshot,
}

impl LinkVerb {
    /// What a link allows that was made without a list: not snapshots, which take the owner's room.
    pub(crate) const USUAL: [Self; 8] = [
        Self::List,
        Self::Start,
        Self::Reset,
        Self::Stop,
        Self::Console,
        Self::Display,
        Self::Cdrom,
        Self::Getiso,
    ];
}

/// The link of a URL; nothing is known of its worth yet. Never printed: it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LinkToken {
    /// Host.
    pub(crate) host: HostId,
    /// Guest.
    pub(crate) vm: VmId,
    /// Seconds since 1970.
    pub(crate) expires: u64,
    key: String,
}

/// The one answer to a link that is not valid, whatever is wrong with it.
pub(crate) fn refused() -> Problem {
    Problem::new(ErrorCode::Forbidden, "this link is not valid")
        .hint("ask whoever sent it for a new one")
}

impl LinkToken {
    /// A new one.
    pub(crate) fn mint(host: HostId, vm: VmId, expires: u64) -> Self {
        let key = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        Self { host, vm, expires, key }
    }

    /// Reads what follows the verb in a URL, in either form, and the arguments beside it.
    pub(crate) fn parse(path: &str, query: &str) -> Result<(Self, Arguments), Problem> {
        let arguments = Arguments::parse(query).map_err(|_| refused())?;
        if path.contains('/') {
            return Ok((Self::plain(path, &arguments)?, arguments));
        }
        if arguments.has("k") || arguments.has("e") {
            return Err(refused());
        }
        let bytes = URL_SAFE_NO_PAD.decode(path).map_err(|_| refused())?;
        let text = String::from_utf8(bytes).map_err(|_| refused())?;
        let (place, inner) = text.split_once('?').ok_or_else(refused)?;
        let inner = Arguments::parse(inner).map_err(|_| refused())?;
        inner.only(&["k", "e"]).map_err(|_| refused())?;
        Ok((Self::plain(place, &inner)?, arguments))
    }

    fn plain(place: &str, arguments: &Arguments) -> Result<Self, Problem> {
        let (host, vm) = place.split_once('/').ok_or_else(refused)?;
        let (Some(key), Some(expiry)) = (arguments.plain("k"), arguments.plain("e")) else {
            return Err(refused());
        };
        let expires: u64 = expiry.parse().map_err(|_| refused())?;
        let well_formed = [KEY_CHARS, LEGACY_CHARS].contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            && expires.to_string() == expiry;
        if !well_formed {
            return Err(refused());
        }
        let host = HostId::parse(host).map_err(|_| refused())?;
        let vm = VmId::parse(vm).map_err(|_| refused())?;
        Ok(Self { host, vm, expires, key: key.to_owned() })
    }

    /// `<host>/<uuid>?k=…&e=…`.
    pub(crate) fn text(&self) -> String {
        format!("{}/{}?k={}&e={}", self.host, self.vm, self.key, self.expires)
    }

    /// The same as one word.
    pub(crate) fn word(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.text())
    }

    /// What the store keeps of it, hex.
    pub(crate) fn digest(&self, key: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let tag = hmac::sign(&key, self.text().as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// True for the seed's own form.
    pub(crate) const fn is_legacy(&self) -> bool {
        self.key.len() == LEGACY_CHARS
    }
}

/// The shared key of the seed's MD5 links; only for a migration.
pub(crate) struct LegacyKey(String);

impl LegacyKey {
    /// Reads the key's file. The published default is refused: with it anybody makes links.
    pub(crate) fn open(path: &Path) -> Result<Self, Problem> {
        let text = fs_err::read_to_string(path)
            .map_err(|error| Problem::new(ErrorCode::InvalidValue, error.to_string()))?;
        Self::new(text.trim_end_matches(['\r', '\n']))
            .map_err(|problem| problem.hint(format!("the key is in {}", path.display())))
    }

    /// With a given key.
    pub(crate) fn new(key: &str) -> Result<Self, Problem> {
        if key == PUBLISHED_KEY || key.len() < 8 {
            return Err(Problem::new(
                ErrorCode::InvalidValue,
                "legacy_key_file holds the published default key or one shorter than 8 bytes: \
                 anybody could make links with it",
            ));
        }
        Ok(Self(key.to_owned()))
    }

    /// True if the seed would have taken this link.
    pub(crate) fn fits(&self, token: &LinkToken) -> bool {
        let text = format!("{}{}{}{}", self.0, token.expires, token.host, token.vm);
        let expected = URL_SAFE_NO_PAD.encode(Md5::digest(text));
        verify_slices_are_equal(expected.as_bytes(), token.key.as_bytes()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The readme's own link.
    pub(crate) const README: &str =
        "host01/6f5d8bf6-d580-4946-9541-13fa98b4acf4?k=g6KHuOP8GIfU5_dYA7IP_Q&e=1743436799";

    fn read(text: &str) -> Result<LinkToken, Problem> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        LinkToken::parse(path, query).map(|(token, _)| token)
    }

    #[test]
    fn both_forms_are_the_same_link() {
        let (host, vm) = (HostId::parse("host01").unwrap(), VmId::new());
        let token = LinkToken::mint(host, vm, 1_900_000_000);
        for form in [token.text(), token.word()] {
            let found = read(&form).ok().unwrap();
            assert_eq!(found.digest(&[1; 32]), token.digest(&[1; 32]));
        }
        let (_, more) = LinkToken::parse(&token.word(), "dev=sda&force=true").ok().unwrap();
        assert_eq!((more.get("dev"), more.get("force")), (Some("sda"), Some("true")));
        let other = LinkToken { expires: 1_900_000_001, ..token.clone() };
        assert_ne!(other.digest(&[1; 32]), token.digest(&[1; 32]));
        assert_ne!(token.digest(&[2; 32]), token.digest(&[1; 32]));
    }

    #[test]
    fn a_link_with_two_readings_is_none() {
        let token = LinkToken::mint(HostId::parse("host01").unwrap(), VmId::new(), 1_900_000_000);
        let (text, word) = (token.text(), token.word());
        let mut bad = vec![
            format!("{text}&k=x"),
            format!("{text}&%6b=x"),
            format!("{text}&e=1900000000"),
            text.replace("&e=", "&e=0"),
            text.replace("&e=", "&e=%31"),
            text.replace("&e=", "&e=+"),
            text.replace('/', "%2F"),
            text.replace("host01/", "host01//"),
            text.replace("host01", "host01/.."),
            text.replace("?k=", "?K="),
            format!("{word}?k=x"),
            format!("{word}?e=1"),
            format!("{word}="),
            format!("{word}/"),
            URL_SAFE_NO_PAD.encode(format!("{text}&dev=sda")),
            URL_SAFE_NO_PAD.encode(format!("{text}&k=x")),
            URL_SAFE_NO_PAD.encode("host01"),
            String::new(),
        ];
        bad.extend(["?k=a&e=1".to_owned(), "host01/x?k=a&e=1".to_owned()]);
        for text in bad {
            assert_eq!(read(&text).err(), Some(refused()), "{text}");
        }
    }

    #[test]
    fn the_seed_s_form_is_read_and_its_published_key_is_refused() {
        let token = read(README).ok().unwrap();
        assert!(token.is_legacy());
        assert!(LegacyKey(PUBLISHED_KEY.to_owned()).fits(&token), "the readme's test vector");
        assert!(LegacyKey::new(PUBLISHED_KEY).is_err() && LegacyKey::new("short").is_err());
        assert!(!LegacyKey::new("another-key").unwrap().fits(&token));
    }
}
