//! Variables that templates declare: which there are, what they may be, and what a request made of them.
//!
//! A template's variables are the names that it uses and that we do not set. What each means stands
//! in `<name>.vars.json` beside it, or in `vars.json` for all templates of the folder, as
//! `{"variable": "help"}` or `{"variable": {"help", "default", "one_of"}}`.

use std::collections::BTreeMap;

use serde::Deserialize;
use vmmgr_common::api::host::TemplateVariable;
use vmmgr_common::error::{ErrorCode, Problem};

/// A template's variables by name.
pub(crate) type Variables = BTreeMap<String, TemplateVariable>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Help(String),
    Full(TemplateVariable),
}

/// Reads a `vars.json`.
pub(crate) fn read(text: &str) -> Result<Variables, String> {
    let entries: BTreeMap<String, Entry> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    entries
        .into_iter()
        .map(|(name, entry)| match entry {
            Entry::Help(help) => Ok((name, TemplateVariable { help, ..Default::default() })),
            Entry::Full(variable) => match &variable.default {
                Some(value) if !fits(&variable, value) => {
                    Err(format!("variable `{name}`: its default is none of `one_of`"))
                }
                _ => Ok((name, variable)),
            },
        })
        .collect()
}

fn fits(variable: &TemplateVariable, value: &str) -> bool {
    variable.one_of.is_empty() || variable.one_of.iter().any(|known| known == value)
}

fn refuse(detail: String) -> Problem {
    Problem::new(ErrorCode::InvalidValue, detail)
        .hint("the host's record lists the variables of each template")
}

/// What a rendering gets: the values of the request over the defaults.
pub(crate) fn settle(
    declared: &Variables,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Problem> {
    let quoted = |name: &str| format!("`{}`", name.escape_debug());
    let odd: Vec<String> =
        given.keys().filter(|key| !declared.contains_key(*key)).map(|key| quoted(key)).collect();
    if !odd.is_empty() {
        return Err(refuse(format!("the template has no variable {}", odd.join(", "))));
    }
    let mut settled = BTreeMap::new();
    for (name, variable) in declared {
        match given.get(name) {
            Some(value) if !fits(variable, value) => {
                let rule = variable.one_of.join(", ");
                return Err(refuse(format!("variable {}: expected one of {rule}", quoted(name))));
            }
            Some(value) => drop(settled.insert(name.clone(), value.clone())),
            None => settled.extend(variable.default.clone().map(|value| (name.clone(), value))),
        }
    }
    Ok(settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_that_are_declared() {
        let declared = read(
            r#"{"zone": "where", "sound": {"help": "h", "default": "none", "one_of": ["none", "ac97"]}}"#,
        )
        .unwrap();
        let given = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let settled = settle(&declared, &given("zone", "a")).unwrap();
        assert_eq!((settled["zone"].as_str(), settled["sound"].as_str()), ("a", "none"));
        assert_eq!(settle(&declared, &given("sound", "ac97")).unwrap().len(), 1);
        for (key, value) in [("sound", "tuba"), ("odd", "x"), ("sound", "")] {
            assert_eq!(settle(&declared, &given(key, value)).unwrap_err().status, 422, "{key}");
        }
        for bad in ["[]", "{\"a\": 1}", r#"{"a": {"help": "h", "default": "x", "one_of": ["y"]}}"#]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
