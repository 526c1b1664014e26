//! Query strings of the seed's routes, read by one strict parser.
//!
//! Two readers that disagree on a repeated or an encoded name have opened other people's guests
//! before; here such a query is refused, whatever it says.

use actix_web::{HttpRequest, web};
use vmmgr_common::error::{ErrorCode, Problem};

/// Arguments of a query: each name once, and spelled plainly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arguments(Vec<Argument>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Argument {
    name: String,
    value: String,
    /// The value stood there as it is, without escapes.
    plain: bool,
}

fn refuse(why: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::MalformedRequest, why)
}

impl Arguments {
    /// Reads what follows the `?`.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let pieces: Vec<&str> = text.split('&').filter(|piece| !piece.is_empty()).collect();
        let decoded = web::Query::<Vec<(String, String)>>::from_query(text)
            .map_err(|error| refuse(format!("query: {error}")))?
            .into_inner();
        if decoded.len() != pieces.len() {
            return Err(refuse("query: cannot be read in one way"));
        }
        let mut found: Vec<Argument> = Vec::with_capacity(pieces.len());
        for (piece, (name, value)) in pieces.into_iter().zip(decoded) {
            let (raw_name, raw_value) = piece.split_once('=').unwrap_or((piece, ""));
            let shown = name.escape_debug().to_string();
            if raw_name != name || name.is_empty() {
                return Err(refuse(format!("query: the name `{shown}` must be plain text")));
            }
            if found.iter().any(|known| known.name == name) {
                return Err(refuse(format!("query: `{shown}` is given twice")));
            }
            found.push(Argument { plain: raw_value == value, name, value });
        }
        Ok(Self(found))
    }

    /// The arguments of a request, all of which must be among `known`.
    pub(crate) fn of(request: &HttpRequest, known: &[&str]) -> Result<Self, Problem> {
        Self::for_account(request.query_string(), known)
    }

    /// As [`Self::of`]. What belongs to a link may stand there too and means nothing: an account
    /// says in the path which guest it means.
    pub(crate) fn for_account(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut arguments = Self::parse(query)?;
        arguments.0.retain(|known| !["k", "e", "host", "uuid"].contains(&known.name.as_str()));
        arguments.only(known)?;
        Ok(arguments)
    }

    /// Refuses what is not among `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|argument| !known.contains(&argument.name.as_str())) {
            None => Ok(()),
            Some(Argument { name, .. }) => {
                let offered = if known.is_empty() { "none" } else { &known.join(", ") };
                let name = name.escape_debug();
                Err(refuse(format!("query: unknown argument `{name}`; known here: {offered}")))
            }
        }
    }

    /// The value of an argument.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|known| known.name == name).map(|known| known.value.as_str())
    }

    /// The value of an argument, only if it was written without escapes.
    pub(crate) fn plain(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|known| known.name == name && known.plain);
        found.map(|known| known.value.as_str())
    }

    /// A yes or no; absent and empty are no. The seed took any text for yes, `false` too.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            Some("true" | "1" | "yes") => Ok(true),
            None | Some("" | "false" | "0" | "no") => Ok(false),
            Some(_) => Err(Problem::new(
                ErrorCode::InvalidValue,
                format!("{name}: expected true or false"),
            )),
        }
    }

    /// True if the argument was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_one_reading_or_none() {
        let read = Arguments::parse("k=a-_&e=1&dev=a%20b").unwrap();
        assert_eq!((read.plain("k"), read.plain("e")), (Some("a-_"), Some("1")));
        assert_eq!((read.plain("dev"), read.get("dev")), (None, Some("a b")));
        assert!(read.only(&["k", "e"]).is_err() && read.only(&["k", "e", "dev"]).is_ok());
        assert_eq!(Arguments::parse("").unwrap(), Arguments::default());
        for bad in ["k=a&k=b", "k=a&%6b=b", "%6B=a", "k=a&k", "=x", "a+b=c", "k=%ff&k=b"] {
            assert!(Arguments::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_plain_yes_is_a_yes() {
        for (text, yes) in
            [("", false), ("force=", false), ("force=false", false), ("force=1", true)]
        {
            assert_eq!(Arguments::parse(text).unwrap().flag("force").unwrap(), yes, "{text}");
        }
        assert!(Arguments::parse("force=maybe").unwrap().flag("force").is_err());
    }
}
