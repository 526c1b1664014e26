//! Results as a table, as JSON, or as names only.

use std::io::{ErrorKind, Write as _};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde_json::Value;

use crate::failure::Failure;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns
    Table,
    /// The API's JSON
    Json,
    /// Names or ids, one a line
    Name,
}

/// A column: its head, and the JSON pointer of its value.
pub(crate) type Column = (&'static str, &'static str);

/// A value as it stands in a column.
pub(crate) fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        // Guests and operators choose texts; a terminal must not obey them.
        Some(Value::String(text)) => text
            .chars()
            .flat_map(
                |c| if c.is_control() { c.escape_debug().collect::<Vec<_>>() } else { vec![c] },
            )
            .collect(),
        Some(other) => other.to_string(),
    }
}

/// Prints a list; the first column is the name.
pub(crate) fn rows(format: Format, rows: &Value, columns: &[Column]) -> Result<(), Failure> {
    let text = render(format, rows, columns)?;
    // No names are no lines; an empty one would be counted as a name.
    if !text.is_empty() {
        lines(&text)?;
    }
    Ok(())
}

/// Prints whole lines. A reader that has seen enough, as `head` has, is no failure.
pub(crate) fn lines(text: &str) -> Result<(), Failure> {
    written(text).map(drop)
}

/// The same; false once the reader has gone.
pub(crate) fn written(text: &str) -> Result<bool, Failure> {
    let mut output = std::io::stdout().lock();
    match writeln!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        done => done.map(|()| true).map_err(Failure::local),
    }
}

fn render(format: Format, rows: &Value, columns: &[Column]) -> Result<String, Failure> {
    if format == Format::Json {
        return serde_json::to_string_pretty(rows).map_err(Failure::local);
    }
    let list = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    if format == Format::Name {
        let names: Vec<String> = list.iter().map(|row| text(row.pointer(columns[0].1))).collect();
        return Ok(names.join("\n"));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns.iter().map(|(head, _)| *head));
    for row in list {
        table.add_row(columns.iter().map(|(_, pointer)| text(row.pointer(pointer))));
    }
    let lines: Vec<String> = table.to_string().lines().map(|line| line.trim().to_owned()).collect();
    Ok(lines.join("\n"))
}

/// Prints one thing; `name` is what `-o name` prints and `said` what a person reads.
pub(crate) fn one(format: Format, value: &Value, name: &str, said: &str) -> Result<(), Failure> {
    match format {
        Format::Json => lines(&serde_json::to_string_pretty(value).map_err(Failure::local)?),
        Format::Name => lines(name),
        Format::Table => lines(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_printed_in_three_ways_and_controls_nothing() {
        let list = json!([{"id": "a", "state": "running"}, {"id": "b\u{1b}[2J", "state": null}]);
        let columns = [("ID", "/id"), ("STATE", "/state")];
        assert_eq!(render(Format::Name, &list, &columns).unwrap(), "a\nb\\u{1b}[2J");
        let table = render(Format::Table, &list, &columns).unwrap();
        assert!(table.starts_with("ID") && table.contains("running") && !table.contains('\u{1b}'));
        let json: Value =
            serde_json::from_str(&render(Format::Json, &list, &columns).unwrap()).unwrap();
        assert_eq!(json, list);
    }
}
