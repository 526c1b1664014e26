//! What a spec may hold. Every refusal names the field.

use std::net::IpAddr;

use vmmgr_common::api::seed::{SeedSpec, StaticNetwork};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::text::check_line;

use crate::config::Defaults;

/// cloud-init takes more; larger documents belong on a disk.
const LARGEST_USER_DATA: usize = 256 * 1024;
/// Entries of a list.
const LONGEST_LIST: usize = 64;
/// Characters of one key or argument.
const LONGEST_TEXT: usize = 16 * 1024;
/// crypt(3) formats that guests of today verify.
const HASHES: [&str; 6] = ["$6$", "$5$", "$y$", "$2a$", "$2b$", "$2y$"];
/// First words of an OpenSSH public key.
const KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Never repeats the value: it may be a password typed into the wrong field.
fn refuse(field: &str, rule: &str) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("`{field}` of the seed is not valid: {rule}"))
}

fn require(good: bool, field: &str, rule: &str) -> Result<(), Problem> {
    if good { Ok(()) } else { Err(refuse(field, rule)) }
}

fn require_some(
    value: Option<&String>,
    good: impl Fn(&str) -> bool,
    field: &str,
    rule: &str,
) -> Result<(), Problem> {
    require(value.is_none_or(|value| good(value)), field, rule)
}

/// Checks a whole spec.
pub(crate) fn spec(spec: &SeedSpec) -> Result<(), Problem> {
    require_some(
        spec.hostname.as_ref(),
        host_name,
        "spec.hostname",
        "expected RFC 1123 labels of a-z A-Z 0-9 and inner `-`, at most 253 characters",
    )?;
    require_some(
        spec.user.as_ref(),
        user_name,
        "spec.user",
        "expected 1 to 32 of a-z 0-9 _ -, first a letter or `_`, and not `default`",
    )?;
    require_some(
        spec.password_hash.as_ref().map(|hash| hash.expose()),
        password_hash,
        "spec.password_hash",
        "expected a crypt(3) hash that starts with $6$, $5$, $y$ or $2b$; clear text is refused",
    )?;
    require_some(spec.timezone.as_ref(), time_zone, "spec.timezone", TIME_ZONE)?;
    require_some(spec.locale.as_ref(), locale, "spec.locale", LOCALE)?;
    list("spec.ssh_keys", &spec.ssh_keys, ssh_key, "expected `type base64 comment` on one line")?;
    require(spec.runcmd.len() <= LONGEST_LIST, "spec.runcmd", "expected at most 64 commands")?;
    for (index, argv) in spec.runcmd.iter().enumerate() {
        let field = format!("spec.runcmd[{index}]");
        require(argv.first().is_some_and(|word| !word.is_empty()), &field, "expected a program")?;
        list(&field, argv, plain_text, "expected text without control characters")?;
    }
    if let Some(fixed) = &spec.network {
        network(fixed)?;
    }
    let size = spec.user_data.as_ref().map_or(0, String::len);
    require(size <= LARGEST_USER_DATA, "spec.user_data", "expected at most 256 KiB")
}

/// Checks the operator's defaults.
pub(crate) fn defaults(defaults: &Defaults) -> Result<(), Problem> {
    require_some(defaults.timezone.as_ref(), time_zone, "defaults.timezone", TIME_ZONE)?;
    require_some(defaults.locale.as_ref(), locale, "defaults.locale", LOCALE)
}

fn list(
    field: &str,
    values: &[String],
    good: impl Fn(&str) -> bool,
    rule: &str,
) -> Result<(), Problem> {
    require(values.len() <= LONGEST_LIST, field, "expected at most 64 entries")?;
    match values.iter().position(|value| !good(value)) {
        Some(index) => Err(refuse(&format!("{field}[{index}]"), rule)),
        None => Ok(()),
    }
}

fn network(fixed: &StaticNetwork) -> Result<(), Problem> {
    require_some(
        fixed.interface.as_ref(),
        interface_name,
        "spec.network.interface",
        "expected 1 to 15 of a-z A-Z 0-9 . _ -",
    )?;
    let (address, _) = address(&fixed.address)?;
    if let Some(gateway) = &fixed.gateway {
        let good = gateway.parse().is_ok_and(|gateway: IpAddr| {
            gateway.is_ipv4() == address.is_ipv4() && gateway != address && usable(gateway)
        });
        require(good, "spec.network.gateway", "expected another address of the same family")?;
    }
    let server = |text: &str| text.parse().is_ok_and(|server: IpAddr| !server.is_unspecified());
    require(fixed.dns.len() <= 8, "spec.network.dns", "expected at most 8 name servers")?;
    list("spec.network.dns", &fixed.dns, server, "expected an IP address")
}

/// Address and prefix length.
pub(crate) fn address(text: &str) -> Result<(IpAddr, u8), Problem> {
    const FIELD: &str = "spec.network.address";
    const RULE: &str = "expected a unicast address with prefix length, like 192.0.2.10/24";
    let (address, prefix) = text.split_once('/').ok_or_else(|| refuse(FIELD, RULE))?;
    let address: IpAddr = address.parse().map_err(|_| refuse(FIELD, RULE))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    match prefix.parse::<u8>() {
        Ok(prefix) if digits && (1..=longest).contains(&prefix) && usable(address) => {
            Ok((address, prefix))
        }
        _ => Err(refuse(FIELD, RULE)),
    }
}

fn usable(address: IpAddr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback())
}

const TIME_ZONE: &str = "expected a name of the zone database, like Europe/Berlin";
const LOCALE: &str = "expected a name like en_US.UTF-8";

fn of_alphabet(text: &str, longest: usize, extra: &[u8]) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
}

fn host_name(text: &str) -> bool {
    let label = |label: &str| {
        of_alphabet(label, 63, b"-") && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn user_name(text: &str) -> bool {
    // `default` means the image's own user to cloud-init.
    text != "default"
        && text.len() <= 32
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

fn password_hash(text: &str) -> bool {
    HASHES.iter().any(|prefix| text.starts_with(prefix) && text.len() > prefix.len() + 20)
        && of_alphabet(text, 256, b"./$=,_+-")
}

fn time_zone(text: &str) -> bool {
    // The guest looks it up as a path below its zone database.
    of_alphabet(text, 64, b"_+-/") && text.split('/').all(|part| !part.is_empty())
}

fn locale(text: &str) -> bool {
    of_alphabet(text, 64, b"._@-")
}

/// A Linux interface name.
pub(crate) fn interface_name(text: &str) -> bool {
    of_alphabet(text, 15, b"._-") && text != "." && text != ".."
}

/// What YAML takes inside quotes without folding or refusing it.
fn plain_text(text: &str) -> bool {
    check_line("text", text, LONGEST_TEXT).is_ok() && !text.contains('\u{feff}')
}

fn ssh_key(text: &str) -> bool {
    let mut words = text.split(' ');
    let kind = words.next().is_some_and(|word| KEY_TYPES.contains(&word));
    let body = words.next().is_some_and(|word| of_alphabet(word, LONGEST_TEXT, b"+/="));
    kind && body && plain_text(text)
}
