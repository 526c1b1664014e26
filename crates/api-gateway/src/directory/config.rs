//! `[ldap]`.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::{Host, Url};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

use super::names::{self, PLACE};
use crate::auth::Role;

/// Where the people are; see `config.example.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LdapConfig {
    /// `ldaps://…`, or `ldap://…` with StartTLS.
    pub(super) url: String,
    /// Whether `ldap://` goes on with TLS; only to this machine may it do without.
    #[serde(default = "yes")]
    pub(super) start_tls: bool,
    /// PEM file with the CA of the server's certificate.
    pub(super) ca: Option<PathBuf>,
    /// DN of a person, `{}` being the name; or `search`.
    pub(super) bind_dn: Option<String>,
    /// How a person is found; or `bind_dn`.
    pub(super) search: Option<SearchConfig>,
    /// What groups mean.
    pub(super) groups: GroupConfig,
    /// Who may log in; everybody in the groups when empty.
    #[serde(default)]
    pub(super) allow: Vec<String>,
    /// Who may not.
    #[serde(default)]
    pub(super) block: Vec<String>,
    /// Longest time of one login at the directory, seconds.
    #[serde(default = "five")]
    pub(super) timeout_seconds: NonZeroU64,
    /// How long sessions and tokens of a person last who does not log in again, days.
    #[serde(default = "thirty")]
    pub(super) trust_days: NonZeroU32,
}

/// `[ldap.search]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchConfig {
    /// DN below which people are.
    pub(super) base: String,
    /// Attribute that is the login name.
    #[serde(default = "uid")]
    pub(super) attribute: String,
    /// Which entries are people (RFC 4515).
    #[serde(default = "any")]
    pub(super) filter: String,
    /// DN of the account that may search.
    pub(super) bind_dn: String,
    /// File with its password on one line, mode 0600.
    pub(super) password_file: PathBuf,
}

/// `[ldap.groups]`: DNs of groups, by role.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupConfig {
    /// Attribute of a group that names its members.
    #[serde(default = "member")]
    pub(super) attribute: String,
    #[serde(default)]
    admin: Vec<String>,
    #[serde(default)]
    operator: Vec<String>,
    #[serde(default)]
    viewer: Vec<String>,
}

fn yes() -> bool {
    true
}

fn five() -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(4)
}

fn thirty() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(29)
}

fn uid() -> String {
    "uid".to_owned()
}

fn any() -> String {
    "(objectClass=*)".to_owned()
}

fn member() -> String {
    "member".to_owned()
}

fn bad(key: &str, rule: impl std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("[ldap] {key}: {rule}"))
}

/// True for an address of this machine, which no name server decides on.
fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => IpAddr::from(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::from(*address).is_loopback(),
    }
}

impl GroupConfig {
    /// Role and DN of each group, the greatest role first.
    pub(super) fn mapping(&self) -> Vec<(Role, String)> {
        [(Role::Admin, &self.admin), (Role::Operator, &self.operator), (Role::Viewer, &self.viewer)]
            .into_iter()
            .flat_map(|(role, groups)| groups.iter().map(move |group| (role, group.clone())))
            .collect()
    }

    /// True where groups name their members by DN, false where by login name (`posixGroup`).
    pub(super) fn by_dn(&self) -> bool {
        !self.attribute.eq_ignore_ascii_case("memberUid")
    }
}

impl LdapConfig {
    /// The server, if passwords are safe on the way to it.
    pub(super) fn server(&self) -> Result<Url, Problem> {
        let url: Url = self.url.parse().map_err(|error| bad("url", error))?;
        let bare = url.username().is_empty()
            && url.password().is_none()
            && ["", "/"].contains(&url.path())
            && url.query().is_none()
            && url.fragment().is_none();
        let host = url.host_str().filter(|host| !host.is_empty() && bare);
        let Some(host) = host.filter(|_| ["ldap", "ldaps"].contains(&url.scheme())) else {
            return Err(bad("url", "expected ldaps://name or ldap://name, with a port if need be"));
        };
        if self.encrypts(&url) {
            if self.ca.is_none() {
                return Err(bad(
                    "ca",
                    "needed: it judges the certificate of the directory's server",
                ));
            }
            rustls_pki_types::ServerName::try_from(host)
                .map_err(|_| bad("url", "with TLS the host is a name or an IPv4 address"))?;
        } else if !is_loopback(&plain_host(host)) {
            return Err(bad(
                "start_tls",
                "false only for a server of this machine: passwords would be read on the way",
            ));
        }
        Ok(url)
    }

    /// True if the way to the server is TLS.
    pub(super) fn encrypts(&self, url: &Url) -> bool {
        url.scheme() == "ldaps" || self.start_tls
    }

    /// Refuses what cannot be meant.
    pub(super) fn check(&self) -> Result<(), Problem> {
        match (&self.bind_dn, &self.search) {
            (Some(pattern), None) if pattern.matches(PLACE).count() == 1 => {}
            (Some(_), None) => return Err(bad("bind_dn", "has `{}` once, where the name stands")),
            (None, Some(search)) => search.check()?,
            _ => return Err(bad("bind_dn", "give either this or [ldap.search]")),
        }
        if !names::is_attribute(&self.groups.attribute) {
            return Err(bad("groups.attribute", "no name of an attribute"));
        }
        let groups = self.groups.mapping();
        if groups.is_empty() || groups.iter().any(|(_, group)| !group.contains('=')) {
            return Err(bad("groups", "DNs for `admin`, `operator` or `viewer` are needed"));
        }
        Ok(())
    }
}

/// `Url` takes no host of this scheme for an address.
fn plain_host(host: &str) -> Host<&str> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(IpAddr::V4(address)) => Host::Ipv4(address),
        Ok(IpAddr::V6(address)) => Host::Ipv6(address),
        Err(_) => Host::Domain(host),
    }
}

impl SearchConfig {
    fn check(&self) -> Result<(), Problem> {
        if !names::is_attribute(&self.attribute) {
            return Err(bad("search.attribute", "no name of an attribute"));
        }
        let enclosed = self.filter.starts_with('(') && self.filter.ends_with(')');
        if !enclosed || ldap3::parse_filter(names::filter("uid", "x", &self.filter)).is_err() {
            return Err(bad("search.filter", "not a filter such as (objectClass=person)"));
        }
        if self.bind_dn.is_empty() || self.base.is_empty() {
            return Err(bad("search", "`base` and `bind_dn` may not be empty"));
        }
        self.password().map(drop)
    }

    /// The password, as the file has it now.
    pub(super) fn password(&self) -> Result<Secret<String>, Problem> {
        let text = read_private(&self.password_file)?;
        let line = text.trim_end_matches(['\r', '\n']);
        if line.is_empty() || line.contains('\n') {
            let file = self.password_file.display();
            return Err(bad("search.password_file", format!("{file}: expected one line")));
        }
        Ok(Secret::new(line.to_owned()))
    }
}

/// Content of a file that only its owner may read.
fn read_private(path: &Path) -> Result<String, Problem> {
    let failed = |error: std::io::Error| bad("search.password_file", error);
    let file = fs_err::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let said = format!("{}: others may read it (mode {:o})", path.display(), mode & 0o777);
        return Err(bad("search.password_file", said).hint("chmod 600"));
    }
    std::io::read_to_string(file).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERN: &str =
        "ca = '/ca.pem'\nbind_dn = 'uid={},ou=people'\n[groups]\nadmin = ['cn=a']\n";

    fn judged(text: &str) -> Result<(), String> {
        let config: LdapConfig = toml(text)?;
        config.check().and_then(|()| config.server().map(drop)).map_err(|problem| problem.detail)
    }

    fn toml(text: &str) -> Result<LdapConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ldap.toml");
        fs_err::write(&path, text).unwrap();
        vmmgr_common::config::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn passwords_go_over_tls_or_stay_on_the_machine() {
        for url in
            ["ldaps://ldap.example.org", "ldap://ldap.example.org", "ldaps://192.0.2.7:6360/"]
        {
            judged(&format!("url = '{url}'\n{PATTERN}")).unwrap();
        }
        for url in ["ldap://127.0.0.1:3890", "ldap://localhost", "ldap://[::1]:3890"] {
            judged(&format!("url = '{url}'\nstart_tls = false\n{PATTERN}")).unwrap();
        }
        for (head, key) in [
            ("url = 'ldap://ldap.example.org'\nstart_tls = false", "start_tls"),
            ("url = 'ldap://127.0.0.1.example.org'\nstart_tls = false", "start_tls"),
            ("url = 'ldap://localhost.example.org'\nstart_tls = false", "start_tls"),
            ("url = 'ldaps://[2001:db8::1]'", "url"),
            ("url = 'ldapi:///run/ldapi'", "url"),
            ("url = 'http://ldap.example.org'", "url"),
            ("url = 'ldaps://'", "url"),
            ("url = 'ldaps:ldap.example.org'", "url"),
            ("url = 'ldaps://cn=x:secret@ldap.example.org'", "url"),
            ("url = 'ldaps://ldap.example.org/dc=x'", "url"),
        ] {
            let said = judged(&format!("{head}\n{PATTERN}")).unwrap_err();
            assert!(said.starts_with(&format!("[ldap] {key}:")), "{head}: {said}");
        }
        let without = PATTERN.replace("ca = '/ca.pem'\n", "");
        let said = judged(&format!("url = 'ldaps://ldap.example.org'\n{without}")).unwrap_err();
        assert!(said.starts_with("[ldap] ca:"), "{said}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let secret = |text: &str, mode: u32| {
            fs_err::write(&file, text).unwrap();
            fs_err::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let url = "url = 'ldaps://ldap.example.org'\nca = '/ca.pem'\n";
        let search = format!(
            "[search]\nbase = 'ou=people'\nbind_dn = 'cn=svc'\npassword_file = '{}'\n",
            file.display()
        );
        let groups = "[groups]\nviewer = ['cn=v']\n";
        secret("secret\n", 0o600);
        judged(&format!("{url}{search}{groups}")).unwrap();
        judged(&format!("{url}{search}filter = '(&(a=b)(c=d))'\n{groups}")).unwrap();
        let dn = "bind_dn = 'uid={},ou=people'\n";
        for (text, word) in [
            (format!("{url}{groups}"), "[ldap] bind_dn"),
            (format!("{url}{dn}{search}{groups}"), "[ldap] bind_dn"),
            (format!("{url}bind_dn = 'uid=bob'\n{groups}"), "[ldap] bind_dn"),
            (format!("{url}bind_dn = 'uid={{}},cn={{}}'\n{groups}"), "[ldap] bind_dn"),
            (format!("{url}{dn}[groups]\n"), "[ldap] groups"),
            (format!("{url}{dn}[groups]\nadmin = ['admins']\n"), "[ldap] groups"),
            (format!("{url}{dn}[groups]\nroot = ['cn=a']\n"), "root"),
            (format!("{url}{dn}{groups}attribute = 'a b'\n"), "[ldap] groups.attribute"),
            (format!("{url}{search}filter = '(a=b'\n{groups}"), "[ldap] search.filter"),
            (format!("{url}{search}filter = 'a=b'\n{groups}"), "[ldap] search.filter"),
            (format!("{url}{search}attribute = 'uid=*)(x'\n{groups}"), "[ldap] search.attribute"),
            (format!("{url}{dn}timeout_seconds = 0\n{groups}"), "timeout_seconds"),
            (format!("{url}{dn}tls = true\n{groups}"), "unknown field `tls`"),
        ] {
            let said = judged(&text).unwrap_err();
            assert!(said.contains(word), "{text}: {said}");
        }
        for (text, mode, word) in [
            ("secret\n", 0o640, "mode 640"),
            ("", 0o600, "one line"),
            ("a\nb\n", 0o600, "one line"),
        ] {
            secret(text, mode);
            let said = judged(&format!("{url}{search}{groups}")).unwrap_err();
            assert!(said.contains(word) && !said.contains("secret\n"), "{said}");
        }
    }
}
