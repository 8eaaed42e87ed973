//! Tables and details for people: columns as wide as they need to be, nothing that could move a terminal's cursor.

use std::fmt::Write as _;

use serde_json::Value;

/// How a value is marked on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Good,
    Bad,
    Open,
    None,
}

const fn mark(text: &str) -> Mark {
    match text.as_bytes() {
        b"admitted" | b"settled" | b"active" | b"open" => Mark::Good,
        b"refused" | b"revoked" | b"expired" | b"tripped" | b"closed" => Mark::Bad,
        b"unknown" | b"held" | b"in_flight" | b"frozen" => Mark::Open,
        _ => Mark::None,
    }
}

fn style(text: &str) -> anstyle::Style {
    match mark(text) {
        Mark::Good => anstyle::AnsiColor::Green.on_default(),
        Mark::Bad => anstyle::AnsiColor::Red.on_default(),
        Mark::Open => anstyle::AnsiColor::Yellow.on_default(),
        Mark::None => anstyle::Style::new(),
    }
}

/// A table with a head line. Widths count characters.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let titles: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    line(&mut text, &titles, &widths, |_| {
        anstyle::Style::new().bold()
    });
    for row in rows {
        line(&mut text, row, &widths, style);
    }
    text
}

fn line(
    text: &mut String,
    cells: &[String],
    widths: &[usize],
    style: impl Fn(&str) -> anstyle::Style,
) {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let style = style(cell);
        let padding = width.saturating_sub(cell.chars().count()).saturating_add(2);
        let _ = write!(line, "{style}{cell}{style:#}{:padding$}", "");
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// Names and values, one per line.
pub fn details(pairs: &[(&str, String)]) -> String {
    let width = pairs
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (name, value) in pairs {
        let style = style(value);
        let _ = writeln!(text, "{name:width$}  {style}{value}{style:#}");
    }
    text
}

/// A member of a JSON object as a cell: empty for what is not there.
pub fn cell(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => plain(text),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), plain))
            .collect::<Vec<_>>()
            .join(", "),
        Some(other) => plain(&other.to_string()),
    }
}

/// Without control characters.
fn plain(text: &str) -> String {
    text.chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_characters_are_gone() {
        let value = serde_json::json!({"a": "x\u{1b}[2J", "b": null, "c": ["p", "q"], "d": 5});
        let row: Vec<String> = ["a", "b", "c", "d"]
            .iter()
            .map(|name| cell(&value, name))
            .collect();
        assert_eq!(row, ["x\u{fffd}[2J", "", "p, q", "5"]);
        let text = anstream::adapter::strip_str(&table(
            &["A", "LONGER"],
            &[vec!["abc".into(), "d".into()]],
        ))
        .to_string();
        assert_eq!(text, "A    LONGER\nabc  d\n");
    }
}
