//! Golden files: each holds one message as it crosses the wire. Reading and writing it again must give the same JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Batch, Results};

fn is_pinned<T: DeserializeOwned + Serialize>(golden: &str) -> T {
    let expected: Value = serde_json::from_str(golden).unwrap();
    let message: T = serde_json::from_str(golden).unwrap();
    assert_eq!(serde_json::to_value(&message).unwrap(), expected);
    message
}

#[test]
fn every_command_reads_and_writes_as_its_golden_file() {
    let batch: Batch = is_pinned(include_str!("../golden/batch.json"));
    let names: Vec<String> = batch
        .commands
        .iter()
        .map(|command| {
            serde_json::to_value(command)
                .unwrap()
                .as_object()
                .unwrap()
                .keys()
                .next()
                .unwrap()
                .clone()
        })
        .collect();
    for name in ["reserve", "outcome", "release", "refused", "refusal_count"] {
        assert!(names.iter().any(|have| have == name), "no golden {name}");
    }
}

#[test]
fn every_result_reads_and_writes_as_its_golden_file() {
    let results: Results = is_pinned(include_str!("../golden/results.json"));
    assert_eq!(
        results.results.len(),
        11,
        "one golden line per kind of result, two of refusals"
    );
}

#[test]
fn unknown_fields_are_errors() {
    for golden in [
        include_str!("../golden/batch.json"),
        include_str!("../golden/results.json"),
    ] {
        let value: Value = serde_json::from_str(golden).unwrap();
        let mut paths = Vec::new();
        objects(&value, &mut String::new(), &mut paths);
        for path in paths {
            let mut changed = value.clone();
            changed
                .pointer_mut(&path)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .insert("surprise".to_owned(), Value::Null);
            let text = changed.to_string();
            let read = serde_json::from_str::<Batch>(&text).is_ok()
                || serde_json::from_str::<Results>(&text).is_ok();
            assert!(!read, "an unknown field at {path:?} was let through");
        }
    }
}

/// Pointers to every object with fixed members (free maps are left out).
fn objects(value: &Value, at: &mut String, found: &mut Vec<String>) {
    if at.ends_with("/params") || at.ends_with("/constraints") {
        return;
    }
    let children: Vec<(String, &Value)> = match value {
        Value::Object(members) => {
            found.push(at.clone());
            members
                .iter()
                .map(|(name, child)| (name.clone(), child))
                .collect()
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, child)| (index.to_string(), child))
            .collect(),
        _ => return,
    };
    for (name, child) in children {
        let length = at.len();
        at.push('/');
        at.push_str(&name);
        objects(child, at, found);
        at.truncate(length);
    }
}
