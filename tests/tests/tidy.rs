//! Checks on the repository itself: arrows between crates, rooms that must stay free of certain things, licences of the
//! dependencies, and that what the documents name exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Text files below a folder, by path relative to the repository.
fn files(below: &str, extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if ![
                    "target",
                    "node_modules",
                    ".git",
                    ".run",
                    ".tools",
                    "__pycache__",
                    ".pytest_cache",
                ]
                .contains(&name.as_str())
                    && !name.starts_with("target-")
                {
                    folders.push(path);
                }
            } else if extensions.iter().any(|extension| name.ends_with(extension)) {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_path_buf(), text));
            }
        }
    }
    found
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = [
        ("keybrake-text", vec![]),
        ("keybrake-contract", vec!["keybrake-text"]),
        ("keybrake-pack", vec!["keybrake-text", "keybrake-contract"]),
        (
            "keybrake-policy",
            vec!["keybrake-text", "keybrake-contract", "keybrake-pack"],
        ),
        (
            "keybrake-filter",
            vec!["keybrake-contract", "keybrake-policy"],
        ),
        ("keybrake-module", vec!["keybrake-filter"]),
        (
            "keybrake-ledger",
            vec!["keybrake-contract", "keybrake-pack", "keybrake-policy"],
        ),
        ("keybrake-sandbox", vec![]),
        (
            "keybrake-tests",
            vec![
                "keybrake-contract",
                "keybrake-pack",
                "keybrake-policy",
                "keybrake-filter",
                "keybrake-ledger",
            ],
        ),
    ]
    .map(|(name, targets)| (name, targets.into_iter().collect()))
    .into();
    for package in metadata(&["--no-deps"])["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let targets = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no row in the arrows table"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let target = dependency["name"].as_str().unwrap();
            if target.starts_with("keybrake-") {
                assert!(
                    targets.contains(target),
                    "{name} must not depend on {target}"
                );
            }
        }
    }
}

#[test]
fn the_core_uses_only_the_few_crates_it_is_allowed() {
    let core = [
        "serde",
        "serde_json",
        "sha2",
        "hex",
        "keybrake-text",
        "keybrake-contract",
    ];
    let allowed = |name: &str| -> Vec<&str> {
        match name {
            "keybrake-text" => vec!["serde", "serde_json"],
            "keybrake-contract" => core.to_vec(),
            "keybrake-pack" => [&core[..], &["lz4_flex"]].concat(),
            "keybrake-policy" => [&core[..], &["keybrake-pack", "base64"]].concat(),
            "keybrake-filter" => [
                &core[..],
                &["keybrake-policy", "proxy-wasm", "log", "base64"],
            ]
            .concat(),
            "keybrake-module" => vec!["keybrake-filter", "proxy-wasm"],
            _ => Vec::new(),
        }
    };
    for package in metadata(&["--no-deps"])["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if allowed(name).is_empty() {
            continue;
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let target = dependency["name"].as_str().unwrap();
            if dependency["kind"].is_null() {
                assert!(
                    allowed(name).contains(&target),
                    "{name} must not use {target}"
                );
            }
        }
    }
}

#[test]
fn pure_rooms_see_no_host_clock_socket_or_sql() {
    let forbidden = [
        "proxy_wasm",
        "rusqlite",
        "SystemTime",
        "Instant",
        "std::net",
        "std::fs",
        "std::env",
        "getrandom",
        "std::thread",
        "tokio",
    ];
    let rooms = [
        "src/text/src",
        "src/contract/src",
        "src/pack/src",
        "src/policy/src",
        "src/ledger/src/book",
    ];
    for (path, text) in rooms.into_iter().flat_map(|room| files(room, &[".rs"])) {
        if path.to_string_lossy().ends_with("_tests.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for word in forbidden {
                assert!(
                    !line.contains(word),
                    "{}:{} uses {word}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn sql_stands_only_in_a_store() {
    let verbs = [
        "SELECT ",
        "INSERT ",
        "UPDATE ",
        "DELETE FROM",
        "CREATE TABLE",
        "PRAGMA ",
    ];
    for (path, text) in files("src", &[".rs"]) {
        let shown = path.to_string_lossy().into_owned();
        if shown.contains("ledger/src/store/") || shown.contains("/tests/") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            for verb in verbs {
                assert!(
                    !line.contains(&format!("\"{verb}")),
                    "{shown} has SQL: {line}"
                );
            }
        }
    }
}

#[test]
fn no_room_is_called_util_helper_or_common() {
    for (path, _) in files("src", &[".rs"]) {
        for part in path
            .iter()
            .map(|part| part.to_string_lossy().to_lowercase())
        {
            for name in ["util", "utils", "helper", "helpers", "common", "misc"] {
                assert!(
                    part != name && part != format!("{name}.rs"),
                    "{} has no name of its own",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn licences_of_all_dependencies_are_allowed() {
    let deny = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let list = deny
        .split("allow = [")
        .nth(1)
        .unwrap()
        .split(']')
        .next()
        .unwrap();
    let allowed: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    for package in metadata(&[])["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let expression = package["license"]
            .as_str()
            .unwrap_or_else(|| panic!("{name} names no licence"));
        let fine = expression.replace('/', " OR ").split(" OR ").any(|choice| {
            choice
                .split(" AND ")
                .map(|licence| {
                    licence
                        .trim()
                        .trim_matches(|bracket| bracket == '(' || bracket == ')')
                })
                .all(|licence| allowed.contains(licence))
        });
        assert!(
            fine,
            "{name} is under {expression}, which deny.toml does not allow"
        );
    }
}

/// Paths in back-ticks and relative links in the documents.
fn named_paths(text: &str) -> BTreeSet<String> {
    let tops = [
        "src/",
        "tests/",
        "envoy/",
        "vendors/",
        "stack/",
        "docs/",
        "examples/",
        ".ci/",
    ];
    let ticked = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| tops.iter().any(|top| word.starts_with(top)));
    let linked = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| {
            !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:")
        });
    ticked
        .chain(linked)
        .map(|path| {
            path.split('#')
                .next()
                .unwrap()
                .trim_end_matches('/')
                .to_owned()
        })
        .filter(|path| !path.is_empty() && !path.contains(['*', '<', ' ', '{', '…']))
        .collect()
}

#[test]
fn every_path_that_a_document_names_exists() {
    for (document, text) in files(".", &[".md"]) {
        let prose: String = text.split("```").step_by(2).collect();
        for path in named_paths(&prose) {
            let beside = root().join(&document).parent().unwrap().join(&path);
            assert!(
                root().join(&path).exists() || beside.exists(),
                "{} names {path}, which does not exist",
                document.display()
            );
        }
    }
}
