//! The command line against a running service, and alone: output, exit codes, one clear line when it fails.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use support::{ADMIN, AUDIT, FIVE_FIELDS, INTERNAL, Service, finished, keybrake};

fn run(service: &Service, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = keybrake(service.folder.path());
    command
        .env("KEYBRAKE_URL", format!("http://{}/", service.listen))
        .args(arguments);
    finished(&mut command)
}

fn fine(service: &Service, arguments: &[&str]) -> String {
    let (code, out, err) = run(service, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {err}");
    assert_eq!(err, "");
    assert!(!out.contains('\u{1b}'), "no colours off a terminal");
    out
}

#[test]
fn keys_are_issued_listed_shown_and_revoked() {
    let service = Service::start();
    let issue = [
        "keys",
        "issue",
        "--label",
        "nightly",
        "--vendor",
        "stripe",
        "--allow",
        "POST /v1/charges",
        "--daily",
        "10.99",
        "--expires-in",
        "7200",
        "--constraint",
        "amount=..2999",
        "--constraint",
        "currency=usd",
        "--json",
    ];
    let issued: Value = serde_json::from_str(&fine(&service, &issue)).unwrap();
    assert_eq!(
        issued["constraints"],
        serde_json::json!({"amount": {"max": 2999}, "currency": ["usd"]})
    );
    let key_id = issued["key_id"].as_str().unwrap();
    let secret = issued["vault_key"].as_str().unwrap();

    let people = fine(
        &service,
        &[
            "keys",
            "issue",
            "--label",
            "two",
            "--vendor",
            "stripe",
            "--allow",
            "charges.create",
            "--uncapped",
        ],
    );
    assert!(
        people.contains("vault_key  ") && people.contains("vault_key_"),
        "{people}"
    );
    std::fs::write(
        service.path("keys.json"),
        format!("{{\"keys\":[{FIVE_FIELDS}]}}"),
    )
    .unwrap();
    let listed = fine(&service, &["keys", "issue", "--file", "keys.json"]);
    assert!(
        listed.starts_with("VAULT KEY") && listed.contains("metaflow-2026-07-cus_aaa"),
        "{listed}"
    );

    let table = fine(&service, &["keys", "list", "--label-prefix", "nightly"]);
    assert!(
        table.starts_with("KEY ID") && table.contains(key_id) && table.contains("active"),
        "{table}"
    );
    assert!(!table.contains(secret));
    let shown = fine(&service, &["keys", "show", key_id]);
    assert!(
        shown.contains("10.990000") && shown.contains("daily_usd_cap"),
        "{shown}"
    );
    assert!(fine(&service, &["keys", "revoke", key_id]).contains("revoked"));
    assert_eq!(
        fine(&service, &["keys", "revoke", "--label-prefix", "two"]),
        "revoked: 1\n"
    );
    let left: Value = serde_json::from_str(&fine(
        &service,
        &["keys", "list", "--status", "active", "--json"],
    ))
    .unwrap();
    assert_eq!(left["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn the_audit_is_listed_and_verified() {
    let service = Service::start();
    service.issue(FIVE_FIELDS);
    assert!(fine(&service, &["audit", "list"]).starts_with("TIME"));
    let list: Value = serde_json::from_str(&fine(
        &service,
        &["audit", "list", "--json", "--limit", "5"],
    ))
    .unwrap();
    assert_eq!(list["entries"], serde_json::json!([]));
    let whole = fine(&service, &["audit", "verify"]);
    assert!(whole.contains("the audit chain is whole"), "{whole}");
    let url = format!("sqlite:{}", service.path("run/keybrake.db").display());
    let report: Value = serde_json::from_str(&fine(
        &service,
        &["audit", "verify", "--json", "--database-url", &url],
    ))
    .unwrap();
    assert_eq!(report["whole"], true);
    assert!(
        report["events"].as_u64().unwrap() >= 1,
        "the issue is an event: {report}"
    );
}

#[test]
fn the_first_bad_event_is_named() {
    let service = Service::start();
    for _ in 0..3 {
        service.issue(FIVE_FIELDS);
    }
    let folder = service.stop();
    let database = folder.path().join("run/keybrake.db");
    let whole = keybrake(folder.path())
        .args(["audit", "verify"])
        .status()
        .unwrap();
    assert_eq!(whole.code(), Some(0));
    let cases = [
        (
            "UPDATE events SET body = CAST(body || x'20' AS BLOB) WHERE seq = 2",
            "event 2 was edited",
        ),
        ("DELETE FROM events WHERE seq = 2", "event 2 is missing"),
        (
            "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)",
            "cut off",
        ),
    ];
    for (tampering, part) in cases {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(database.parent().unwrap()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let file = copy.path().join("keybrake.db");
        let changed = rusqlite::Connection::open(&file)
            .unwrap()
            .execute(tampering, [])
            .unwrap();
        assert_eq!(changed, 1, "{tampering}");
        let url = format!("sqlite:{}", file.display());
        let verify = ["audit", "verify", "--json", "--database-url", &url];
        let (code, out, err) = finished(keybrake(folder.path()).args(verify));
        assert_eq!(code, Some(1), "{tampering}: {out} {err}");
        assert!(
            err.contains("the audit chain is broken: ") && err.contains(part),
            "{tampering}: {err}"
        );
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["whole"], false);
        assert!(report["broken"].as_str().unwrap().contains(part));
    }
}

/// Runs `keybrake audit …` in a folder without a running service.
fn audit(folder: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    finished(keybrake(folder).arg("audit").args(arguments))
}

#[test]
fn heads_kept_elsewhere_and_an_export_are_verified_with_the_public_key() {
    let service = Service::start_in(tempfile::tempdir().unwrap(), |command| {
        command.args(["--heads-file", "kept.jsonl", "--sign-every-events", "2"]);
    });
    for _ in 0..3 {
        service.issue(FIVE_FIELDS);
    }
    let folder = service.stop();
    let run = |arguments: &[&str]| audit(folder.path(), arguments);
    let fine = |arguments: &[&str]| {
        let (code, out, err) = run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {out} {err}");
        (out, err)
    };
    let kept = std::fs::read_to_string(folder.path().join("kept.jsonl")).unwrap();
    assert_eq!(
        kept.lines().count(),
        2,
        "after two events, and at the end: {kept}"
    );
    assert_eq!(fine(&["heads"]).0.trim_end(), kept.lines().last().unwrap());
    let key = fine(&["public-key"]).0.trim_end().to_owned();
    assert!(kept.contains(&key), "{key}");
    let whole = fine(&["verify", "--heads", "kept.jsonl", "--public-key", &key]).0;
    assert!(whole.contains(&format!("with {key}")), "{whole}");
    assert!(
        whole.contains("heads kept elsewhere that agree: 2"),
        "{whole}"
    );

    let (out, err) = fine(&["export", "--output", "audit.jsonl"]);
    assert_eq!(
        (out.as_str(), err.trim_end()),
        ("", "exported: events 1 to 3, all signed")
    );
    assert_eq!(
        fine(&["export"]).0,
        std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap()
    );
    assert!(
        run(&["export", "--output", "audit.jsonl"])
            .2
            .contains("cannot write audit.jsonl")
    );
    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["audit.jsonl", "kept.jsonl"] {
        std::fs::copy(folder.path().join(name), elsewhere.path().join(name)).unwrap();
    }
    let verify = ["verify", "--export", "audit.jsonl", "--public-key", &key];
    let (code, out, err) = audit(elsewhere.path(), &verify);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("3 events"), "{out}");
    let other = [
        "verify",
        "--export",
        "audit.jsonl",
        "--public-key",
        &"0".repeat(64),
    ];
    let (code, _, err) = audit(elsewhere.path(), &other);
    assert_eq!(code, Some(1));
    assert!(err.contains("another key"), "{err}");
    let text = std::fs::read_to_string(elsewhere.path().join("audit.jsonl")).unwrap();
    let cut: Vec<&str> = text.lines().take(4).collect();
    std::fs::write(elsewhere.path().join("audit.jsonl"), cut.join("\n")).unwrap();
    let verify = ["verify", "--export", "audit.jsonl", "--heads", "kept.jsonl"];
    let (code, _, err) = audit(elsewhere.path(), &verify);
    assert_eq!(code, Some(1));
    assert!(err.contains("event 3 is missing"), "{err}");
}

#[test]
fn an_older_database_that_was_put_back_is_refused_in_one_clear_line() {
    let with_heads = |command: &mut std::process::Command| {
        command.args(["--heads-file", "kept.jsonl"]);
    };
    let service = Service::start_in(tempfile::tempdir().unwrap(), with_heads);
    service.issue(FIVE_FIELDS);
    let folder = service.stop();
    let database = folder.path().join("run/keybrake.db");
    std::fs::copy(&database, folder.path().join("old.db")).unwrap();
    let service = Service::start_in(folder, with_heads);
    service.issue(FIVE_FIELDS);
    let folder = service.stop();
    std::fs::copy(folder.path().join("old.db"), &database).unwrap();
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--log",
        "off",
        "--heads-file",
        "kept.jsonl",
    ];
    let (code, out, err) = finished(keybrake(folder.path()).args(serve));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("it ends at event 1, and event 2 was signed"),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn what_fails_is_one_clear_line() {
    let service = Service::start();
    let issue = [
        "keys",
        "issue",
        "--label",
        "l",
        "--vendor",
        "stripe",
        "--allow",
        "charges.create",
    ];
    let with = |more: &[&'static str]| [&issue[..], more].concat();
    let cases: [(Vec<&str>, i32, &str); 11] = [
        (
            with(&["--daily", "-5"]),
            1,
            "400 Bad Request (daily_usd_cap: ",
        ),
        (
            vec!["keys", "issue", "--file", "-", "--daily", "3"],
            2,
            "'--file <FILE>' cannot be used with",
        ),
        (
            vec!["keys", "revoke"],
            2,
            "<KEY_ID|--label-prefix <LABEL_PREFIX>|--budget <NAME>>",
        ),
        (
            with(&["--daily", "1.999"]),
            1,
            "400 Bad Request (daily_usd_cap: at most two decimals are allowed)",
        ),
        (with(&[]), 1, "give at least one cap"),
        (vec!["keys", "show", "vk_none"], 1, "404 Not Found"),
        (
            vec!["keys", "issue", "--file", "none.json"],
            1,
            "cannot read none.json",
        ),
        (
            vec!["audit", "list", "--outcome", "done"],
            1,
            "outcome: must be one of",
        ),
        (
            vec!["audit", "verify", "--database-url", "sqlite:none.db"],
            1,
            "none.db",
        ),
        (
            vec![
                "audit",
                "verify",
                "--database-url",
                "postgres://u:hunter2@127.0.0.1:1/d",
            ],
            1,
            "cannot use the database postgres://127.0.0.1:1/d",
        ),
        (vec!["keys", "revoke"], 2, "required arguments"),
    ];
    for (arguments, code, part) in cases {
        let (found, out, err) = run(&service, &arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {err}");
        assert_eq!(out, "");
        assert!(err.contains(part), "{arguments:?}: {err}");
        assert!(code == 2 || err.lines().count() == 1, "{err}");
        for secret in [ADMIN, AUDIT, INTERNAL, "hunter2"] {
            assert!(!err.contains(secret));
        }
    }
    let mut command = keybrake(service.folder.path());
    let (code, _, err) = finished(
        command
            .args(["keys", "list"])
            .env("KEYBRAKE_URL", "https://h"),
    );
    assert!(
        code == Some(2) && err.contains("https is not in this build"),
        "{err}"
    );
    let mut command = keybrake(service.folder.path());
    let (code, _, err) = finished(
        command
            .args(["keys", "list"])
            .env("KEYBRAKE_URL", "http://127.0.0.1:1"),
    );
    assert!(
        code == Some(1) && err.contains("cannot reach http://127.0.0.1:1: "),
        "{err}"
    );
    let mut command = keybrake(service.folder.path());
    let (code, _, err) = finished(
        command
            .args(["audit", "list"])
            .env_remove("KEYBRAKE_AUDIT_KEY"),
    );
    assert!(
        code == Some(2) && err.contains("KEYBRAKE_AUDIT_KEY is not set"),
        "{err}"
    );
}

#[test]
fn a_request_in_a_file_takes_no_flag_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_, help, _) = finished(keybrake(folder.path()).args(["keys", "issue", "--help"]));
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    let flags: BTreeSet<&str> = flags
        .filter(|flag| !["--file", "--json", "--help", "--version"].contains(flag))
        .collect();
    assert!(flags.len() > 20, "{flags:?}");
    for flag in flags {
        let mut asked = keybrake(folder.path());
        asked.args(["keys", "issue", "--file", "none.json", flag]);
        match flag {
            "--uncapped" => {}
            "--metadata" => drop(asked.arg("{}")),
            "--constraint" => drop(asked.arg("a=b")),
            _ => drop(asked.arg("1")),
        }
        let (code, _, err) = finished(&mut asked);
        let said = format!("error: the argument '--file <FILE>' cannot be used with '{flag}");
        assert!(code == Some(2) && err.starts_with(&said), "{flag}: {err}");
    }
}

#[test]
fn help_version_document_and_completions_need_no_service() {
    let folder = tempfile::tempdir().unwrap();
    let of = |arguments: &[&str]| {
        let (code, out, err) = finished(keybrake(folder.path()).args(arguments));
        assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
        for secret in [ADMIN, AUDIT, INTERNAL] {
            assert!(!out.contains(secret), "{arguments:?}");
        }
        out
    };
    assert_eq!(
        of(&["--version"]),
        format!("keybrake {}\n", env!("CARGO_PKG_VERSION"))
    );
    for help in [
        &["--help"][..],
        &["serve", "--help"],
        &["keys", "issue", "--help"],
        &["keys", "revoke", "--help"],
        &["budgets", "create", "--help"],
        &["requests", "resolve", "--help"],
        &["reconcile", "--help"],
        &["doctor", "--help"],
        &["audit", "verify", "--help"],
        &["vendors", "check", "--help"],
        &["backup", "--help"],
        &["migrate", "--help"],
    ] {
        let text = of(help);
        let (_, examples) = text.split_once("Examples:\n").unwrap();
        let examples: Vec<&str> = examples
            .lines()
            .take_while(|line| !line.is_empty())
            .collect();
        // Each can be pasted as it stands.
        let whole = |line: &str| line.starts_with("  keybrake ") || line.starts_with("  KEYBRAKE_");
        let pairs = std::iter::once(&"").chain(&examples).zip(&examples);
        for (before, line) in pairs {
            assert!(whole(line) || before.ends_with(" \\"), "{help:?}: {line}");
        }
    }
    let document: Value = serde_json::from_str(&of(&["openapi"])).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(of(&["completions", "bash"]).contains("keybrake"));
    let (code, _, err) = finished(keybrake(folder.path()).arg("surf"));
    assert!(
        code == Some(2) && err.contains("unrecognized subcommand"),
        "{err}"
    );
}
