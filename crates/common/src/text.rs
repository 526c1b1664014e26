//! Text for people that callers send: descriptions and the like.

use crate::error::{ErrorCode, Problem};

/// Refuses text that is longer than `longest` characters, or that would lie in a log, a list or an
/// XML document: control characters but newline and tab, characters that turn the writing direction
/// of what follows (UAX #9), and what XML 1.0 cannot hold. Any language is welcome.
pub fn check(field: &str, text: &str, longest: usize) -> Result<(), Problem> {
    let refuse =
        |rule: String| Err(Problem::new(ErrorCode::InvalidValue, format!("{field}: {rule}")));
    if text.chars().count() > longest {
        return refuse(format!("longer than {longest} characters"));
    }
    match text.chars().find(|c| *c != '\n' && *c != '\t' && is_hostile(*c)) {
        Some(c) if c.is_control() => refuse("holds a control character".to_owned()),
        Some(c) => refuse(format!("holds the character U+{:04X}", u32::from(c))),
        None => Ok(()),
    }
}

/// As [`check`], on one line.
pub fn check_line(field: &str, text: &str, longest: usize) -> Result<(), Problem> {
    check(field, text, longest)?;
    if text.contains(['\n', '\t', '\u{2028}', '\u{2029}']) {
        let detail = format!("{field}: holds a line break or tab");
        return Err(Problem::new(ErrorCode::InvalidValue, detail));
    }
    Ok(())
}

/// Somebody else's text inside a message of ours: escaped where it would lie, cut where it is long.
#[must_use]
pub fn shown(text: &str) -> String {
    const MOST: usize = 300;
    let mut shown = String::new();
    for c in text.chars().take(MOST) {
        if is_hostile(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    if text.chars().nth(MOST).is_some() {
        shown.push_str(" …");
    }
    shown
}

/// What is left of a program's output for people: without what a terminal would obey or what turns
/// the writing direction; a tab is a space.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !is_hostile(*c)).collect()
}

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FFFE}' | '\u{FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_language_is_welcome_and_tricks_are_not() {
        for good in ["", "测试VM", "שלום", "a\tb\nc", "</x>&amp;{{ 7 * 7 }}", &"x".repeat(20)]
        {
            check("f", good, 20).unwrap();
        }
        let long = "x".repeat(21);
        for bad in
            ["a\0b", "\u{1b}[2J", "a\u{85}b", "gnp.\u{202e}exe", "\u{2066}", "\u{ffff}", &long]
        {
            let problem = check("f", bad, 20).unwrap_err();
            assert_eq!(problem.status, 422, "{bad:?}");
            assert!(problem.detail.starts_with("f: ") && problem.detail.is_ascii(), "{problem}");
        }
        assert_eq!(shown("a\u{1b}b\u{202e}\u{e4}"), "a\\u{1b}b\\u{202e}\u{e4}");
        assert_eq!(plain("a\u{1b}[m\tb\u{202e}\n\u{e4}"), "a[m b\u{e4}");
        assert_eq!(shown(&"x".repeat(301)).chars().count(), 302);
        assert!(check_line("f", "one line", 20).is_ok());
        for bad in ["a\nb", "a\tb", "a\u{2028}b", "a\rb"] {
            assert!(check_line("f", bad, 20).is_err(), "{bad:?}");
        }
    }
}
