//! A statement for people: one table per window. It ends with an error when it does not add up.

use axum::http::Method;
use serde_json::Value;

use crate::cli::client::{Client, with_query};
use crate::cli::table::{cell, table};
use crate::cli::{Failure, block_on, print, print_json};

/// The lines of a window, in the order in which an accountant reads them.
const LINES: [&str; 6] = [
    "holds",
    "beyond",
    "held",
    "settlements",
    "unknowns",
    "releases",
];

/// Asks for the statement at this path and prints it.
pub fn run(
    client: &Client,
    path: &str,
    window: Option<String>,
    as_json: bool,
) -> Result<(), Failure> {
    let path = with_query(path, &[("window", window)]);
    let answer = block_on(client.call(Method::GET, &path, None))?;
    let windows = answer
        .get("windows")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    if as_json {
        print_json(&answer)?;
    } else if windows.is_empty() {
        print("no cap has this window")?;
    }
    for window in windows.iter().filter(|_| !as_json) {
        show(window)?;
    }
    let wrong = windows
        .iter()
        .find(|window| window.get("adds_up") != Some(&Value::Bool(true)));
    match wrong {
        None => Ok(()),
        Some(window) => Err(Failure::new(format!(
            "{} of {} does not add up",
            cell(window, "window"),
            cell(window, "limit")
        ))),
    }
}

fn show(window: &Value) -> Result<(), Failure> {
    let part = |of: &str, name: &str| {
        window
            .get(of)
            .map(|parts| cell(parts, name))
            .unwrap_or_default()
    };
    let mut rows = vec![vec![
        "opening".to_owned(),
        String::new(),
        part("opening", "free"),
    ]];
    rows.extend(LINES.map(|name| vec![name.to_owned(), part(name, "count"), part(name, "usd")]));
    for name in ["free", "held", "settled", "unknown"] {
        rows.push(vec![
            format!("closing {name}"),
            String::new(),
            part("closing", name),
        ]);
    }
    print(&format!(
        "{} {}\n{}",
        cell(window, "limit"),
        cell(window, "window"),
        table(&["LINE", "COUNT", "USD"], &rows)
    ))
}
