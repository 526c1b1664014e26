//! Tickets and the queries that may carry them: read by this one parser and by nothing else.
//!
//! Two parsers that disagree about a doubled or encoded parameter once opened another guest's
//! console. So this one knows one spelling and refuses all others, instead of choosing among them.

use vmmgr_common::api::console::TICKET_PROTOCOL;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

/// Shortest and longest ticket, characters; anything in between is for the gateway to judge.
const LENGTH: std::ops::RangeInclusive<usize> = 20..=256;

/// The characters of base64url, and no others: what needs no encoding anywhere.
fn plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn ticket(text: &str) -> Result<Secret<String>, Problem> {
    if LENGTH.contains(&text.len()) && plain(text) {
        return Ok(Secret::new(text.to_owned()));
    }
    // Never its text: it may be a ticket with a slip in it.
    Err(Problem::new(ErrorCode::Unauthenticated, "the ticket is not one of this service's")
        .hint("ask for a new console"))
}

/// What a query says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// `token=`.
    pub ticket: Option<Secret<String>>,
    /// `from=`: offset from which a serial line is told again.
    pub from: Option<u64>,
}

/// Reads a query; `names` are the parameters that the route has. Everything else is refused:
/// unknown, doubled, encoded and otherwise spelled ones.
pub fn query(text: &str, names: &[&str]) -> Result<Query, Problem> {
    let malformed = |why: &str| Problem::new(ErrorCode::MalformedRequest, format!("query: {why}"));
    let mut found = Query::default();
    for pair in text.split('&').filter(|_| !text.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| malformed("expected name=value"))?;
        let known = names.iter().find(|known| **known == name);
        match known.copied() {
            Some("token") if found.ticket.is_none() => found.ticket = Some(ticket(value)?),
            Some("from") if found.from.is_none() => {
                let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                let from = if digits { value.parse().ok() } else { None };
                found.from = Some(from.ok_or_else(|| malformed("`from` is not an offset"))?);
            }
            Some(twice) => return Err(malformed(&format!("`{twice}` is given twice"))),
            None => return Err(malformed("it has a parameter that this route does not know")),
        }
    }
    Ok(found)
}

/// What the offered subprotocols say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Protocols {
    /// `vmmgr.ticket.<ticket>`.
    pub ticket: Option<Secret<String>>,
    /// `binary` is among them, and is to be selected.
    pub binary: bool,
    /// Anything was offered at all.
    pub any: bool,
}

/// Reads the values of `Sec-WebSocket-Protocol`, each a list.
pub fn protocols<'a>(values: impl Iterator<Item = &'a str>) -> Result<Protocols, Problem> {
    let mut found = Protocols::default();
    for offer in
        values.flat_map(|value| value.split(',')).map(|offer| offer.trim_matches([' ', '\t']))
    {
        found.any = true;
        if offer == "binary" {
            found.binary = true;
        } else if let Some(text) = offer.strip_prefix(TICKET_PROTOCOL) {
            if found.ticket.is_some() {
                let why = "two tickets are offered as subprotocols";
                return Err(Problem::new(ErrorCode::MalformedRequest, why));
            }
            found.ticket = Some(ticket(text)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: &str = "abcdefghijklmnopqrstuvwxyz-_0189";

    #[test]
    fn a_query_has_one_spelling() {
        let names = ["token", "from"];
        let full = query(&format!("token={TICKET}&from=17"), &names).unwrap();
        assert_eq!(full.ticket.unwrap().expose(), TICKET);
        assert_eq!(full.from, Some(17));
        assert_eq!(query("", &names).unwrap(), Query::default());
        for bad in [
            "token",
            "token=",
            "token=short",
            "&",
            "from=1&",
            "from=",
            "from=-1",
            "from=+1",
            "from=1x",
            "from=99999999999999999999",
            "from=1&from=2",
            "other=1",
            "=1",
        ] {
            assert!(query(bad, &names).is_err(), "{bad}");
        }
        assert!(query("from=1", &["token"]).is_err());
        assert!(query(&format!("token={}", "x".repeat(257)), &names).is_err());
    }

    #[test]
    fn a_ticket_never_shows_in_a_refusal() {
        for bad in [format!("token={TICKET}%20"), format!("token={TICKET}&token={TICKET}")] {
            let refusal = query(&bad, &["token"]).unwrap_err();
            assert!(!format!("{refusal:?}").contains(TICKET), "{refusal:?}");
        }
    }

    #[test]
    fn subprotocols_are_read_from_all_their_headers() {
        let offered = format!("{TICKET_PROTOCOL}{TICKET}");
        let found = protocols(["chat", &format!("{offered} ,\tbinary")].into_iter()).unwrap();
        assert_eq!(found.ticket.unwrap().expose(), TICKET);
        assert!(found.binary && found.any);
        assert_eq!(protocols([].into_iter()).unwrap(), Protocols::default());
        assert!(protocols([&*offered, &*offered].into_iter()).is_err());
        assert!(protocols([TICKET_PROTOCOL].into_iter()).is_err());
    }
}
