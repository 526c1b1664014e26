//! Names that people type, and what they become in a DN and in a filter.

use std::collections::HashSet;

use ldap3::{dn_escape, ldap_escape};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::ResourceName;

/// What `init-admin` makes, and must find free.
const RESERVED: &str = "admin";
/// Stands for the name.
pub(super) const PLACE: &str = "{}";

/// Who may come at all.
#[derive(Debug)]
pub(super) struct Names {
    allow: HashSet<String>,
    block: HashSet<String>,
}

fn listed(key: &str, names: &[String]) -> Result<HashSet<String>, Problem> {
    let one = |name: &String| match ResourceName::parse(name) {
        Ok(_) => Ok(name.to_ascii_lowercase()),
        // It would never be met: somebody who is meant to be blocked would come in.
        Err(error) => {
            let said = format!("[ldap] {key}: {error}");
            Err(Problem::new(ErrorCode::InvalidValue, said))
        }
    };
    names.iter().map(one).collect()
}

impl Names {
    /// An empty `allow` lets everybody in whom `block` does not name.
    pub(super) fn new(allow: &[String], block: &[String]) -> Result<Self, Problem> {
        Ok(Self { allow: listed("allow", allow)?, block: listed("block", block)? })
    }

    /// The one spelling of a name. Directories take many for the same person (`Bob`, `bob `, letters
    /// of other widths), and lists, attempts and accounts must mean one.
    pub(super) fn account(&self, typed: &str) -> Option<String> {
        let name = ResourceName::parse(typed).ok()?.as_str().to_ascii_lowercase();
        let welcome = self.allow.is_empty() || self.allow.contains(&name);
        (welcome && !self.block.contains(&name) && name != RESERVED).then_some(name)
    }
}

/// The person's DN by a pattern such as `uid={},ou=people,dc=example,dc=org` (RFC 4514).
pub(super) fn distinguished(pattern: &str, name: &str) -> String {
    pattern.replacen(PLACE, &dn_escape(name), 1)
}

/// A filter for the one entry whose `attribute` is `name` (RFC 4515), within `among`.
pub(super) fn filter(attribute: &str, name: &str, among: &str) -> String {
    format!("(&({attribute}={}){among})", ldap_escape(name))
}

/// True for a name of an attribute (RFC 4512), which goes into a filter as it is.
pub(super) fn is_attribute(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(allow: &[&str], block: &[&str]) -> Result<Names, Problem> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        Names::new(&owned(allow), &owned(block))
    }

    #[test]
    fn a_name_has_one_spelling_and_the_lists_know_it() {
        let all = names(&[], &["Mallory"]).unwrap();
        assert_eq!(all.account("Bob.B-2").as_deref(), Some("bob.b-2"));
        for kept_out in ["mallory", "MALLORY", "admin", "Admin"] {
            assert_eq!(all.account(kept_out), None, "{kept_out}");
        }
        let few = names(&["bob", "eve"], &["eve"]).unwrap();
        assert_eq!(few.account("BOB").as_deref(), Some("bob"));
        assert_eq!(few.account("eve"), None, "blocked wins");
        assert_eq!(few.account("carol"), None);
        let typo = names(&[], &["eve "]).unwrap_err();
        assert!(typo.detail.contains("[ldap] block"), "{typo}");
    }

    #[test]
    fn what_is_no_plain_name_never_reaches_the_directory() {
        let all = names(&[], &[]).unwrap();
        for odd in [
            "",
            "*",
            "b*",
            ")(uid=*",
            "bob)(|(uid=*",
            "bob,ou=admins",
            "bob ",
            " bob",
            "bob\0",
            "b\\6fb",
            "uid=bob",
            "bob+cn=x",
            "#bob",
            "ｂob",
            "bob\u{200b}",
            "../bob",
            "bob\"",
            "\u{202e}bob",
        ] {
            assert_eq!(all.account(odd), None, "{odd:?}");
        }
        assert_eq!(all.account(&"x".repeat(65)), None);
    }

    /// The second line of defence: nothing of a name is syntax where it is put.
    #[test]
    fn a_name_is_a_value_in_dns_and_filters() {
        let pattern = "uid={},ou=people";
        for (name, dn) in [
            ("bob", "uid=bob,ou=people"),
            ("bob,ou=admins", "uid=bob\\2cou\\3dadmins,ou=people"),
            ("#b+c ", "uid=\\23b\\2bc\\20,ou=people"),
            ("{}", "uid={},ou=people"),
            ("a\"\\<>;\0", "uid=a\\22\\5c\\3c\\3e\\3b\\00,ou=people"),
        ] {
            assert_eq!(distinguished(pattern, name), dn);
        }
        for (name, text) in [
            ("bob", "(&(uid=bob)(a=b))"),
            ("*", "(&(uid=\\2a)(a=b))"),
            (")(uid=*", "(&(uid=\\29\\28uid=\\2a)(a=b))"),
            ("\\\0", "(&(uid=\\5c\\00)(a=b))"),
        ] {
            assert_eq!(filter("uid", name, "(a=b)"), text);
        }
        assert!(is_attribute("sAMAccountName") && is_attribute("x-uid"));
        for odd in ["", "uid=", "1uid", "uid)(a", "uid;binary", "uid:dn"] {
            assert!(!is_attribute(odd), "{odd}");
        }
    }
}
