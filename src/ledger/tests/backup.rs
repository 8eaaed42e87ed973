//! Backups of a running service, and a second service on its database, through the real binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod support;

use support::{FIVE_FIELDS, Service, finished, keybrake};

#[test]
fn a_running_service_is_backed_up_and_the_copy_verifies() {
    let service = Service::start();
    for _ in 0..3 {
        service.issue(FIVE_FIELDS);
    }
    let run = |arguments: &[&str]| finished(keybrake(service.folder.path()).args(arguments));
    let (code, out, err) = run(&["backup", "copy.db"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.starts_with("backed up to copy.db and verified: 3 events, chain "),
        "{out}"
    );
    service.issue(FIVE_FIELDS);
    let (code, out, err) = run(&["audit", "verify", "--database-url", "sqlite:copy.db"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(" 3 events"), "{out}");
    let (code, out, err) = run(&["backup", "copy.db"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("it exists already"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn a_second_service_on_one_database_is_refused_in_one_clear_line() {
    let service = Service::start();
    let url = format!("sqlite:{}", service.path("run/keybrake.db").display());
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--socket",
        "other.sock",
        "--database-url",
        &url,
        "--log",
        "off",
    ];
    let (code, out, err) = finished(keybrake(service.folder.path()).args(serve));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("is in use by another ledger"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    service.issue(FIVE_FIELDS);
}
