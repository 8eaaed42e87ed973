//! The service as a process: what keeps it from starting, how it ends, rotation of credentials, secrets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use serde_json::json;
use support::{
    ADMIN, AUDIT, FIVE_FIELDS, INTERNAL, Service, eventually, finished, keybrake, read_answer,
};

const KEYS: &str = "/admin/vault_keys";

/// Starts a service that must not start; answers its exit code and its one line.
fn refused(
    folder: &Path,
    arguments: &[&str],
    change: impl FnOnce(&mut Command),
) -> (Option<i32>, String) {
    let mut command = keybrake(folder);
    command.arg("serve").args(arguments);
    if !arguments.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    change(&mut command);
    let (code, out, err) = finished(&mut command);
    assert_eq!(out, "", "no ready line");
    assert_eq!(err.lines().count(), 1, "one clear line: {err}");
    for secret in [ADMIN, AUDIT, INTERNAL] {
        assert!(!err.contains(secret), "{err}");
    }
    (code, err)
}

#[test]
fn what_keeps_it_from_starting_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(at.join("file"), "x").unwrap();
    std::fs::write(at.join("bad.db"), vec![b'x'; 8192]).unwrap();
    let below_a_file = format!("sqlite:{}/file/k.db", at.display());
    let corrupt = format!("sqlite:{}/bad.db", at.display());
    let file = at.join("file").display().to_string();
    let twice = at.join("rates.json").display().to_string();
    let euro = r#"{"currency":"eur","usd":"1.1"}"#;
    let table = format!(r#"{{"as_of":"2026-11-01","rates":[{euro},{euro}]}}"#);
    std::fs::write(&twice, table).unwrap();
    let cases: [(&[&str], i32, &str); 12] = [
        (&["--listen", &address], 1, "is already in use"),
        (&["--commands-listen", &address], 1, "is already in use"),
        (
            &["--database-url", &below_a_file],
            1,
            "cannot make the folder",
        ),
        (&["--database-url", "sqlite:/proc/k.db"], 1, "/proc/k.db"),
        (&["--database-url", &corrupt], 1, "corrupt"),
        (
            &["--database-url", "postgres://user:hunter2@127.0.0.1:1/k"],
            1,
            "cannot use the database postgres://127.0.0.1:1/k",
        ),
        (&["--database-url", "k.db"], 2, "must be sqlite:PATH"),
        (&["--socket", &file], 1, "is not a socket"),
        (
            &["--vendors", "/nowhere/packs"],
            1,
            "cannot read /nowhere/packs",
        ),
        (
            &["--rates", "/nowhere/rates.json"],
            1,
            "/nowhere/rates.json: No such file",
        ),
        (&["--rates", &twice], 1, "rates[1].currency: is there twice"),
        (&["--log", "no=such=filter"], 2, "log filter"),
    ];
    for (arguments, code, part) in cases {
        let (found, line) = refused(at, arguments, |_| {});
        assert!(line.contains(part), "{arguments:?}: {line}");
        assert_eq!(found, Some(code), "{arguments:?}: {line}");
        assert!(!line.contains("hunter2"));
        assert!(
            !at.join("run/ledger.sock").exists(),
            "nothing is left behind: {arguments:?}"
        );
    }
    assert_eq!(
        std::fs::read(at.join("bad.db")).unwrap(),
        vec![b'x'; 8192],
        "the corrupt file is left alone"
    );
}

#[test]
fn what_is_wrong_with_the_environment_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[(&str, &str)], &str); 6] = [
        (
            &[("KEYBRAKE_ADMIN_KEY", "")],
            "KEYBRAKE_ADMIN_KEY is not set",
        ),
        (
            &[("KEYBRAKE_AUDIT_KEY", "too-short")],
            "KEYBRAKE_AUDIT_KEY must have at least 16 characters",
        ),
        (&[("KEYBRAKE_INTERNAL_KEY", ADMIN)], "must differ"),
        (&[("KEYBRAKE_ADMIN_KEY_FILE", "/x")], "both set"),
        (
            &[("KEYBRAKE_TEST_CLOCK", "/x"), ("KEYBRAKE_VENDOR", "stripe")],
            "KEYBRAKE_TEST_CLOCK is for the sandbox",
        ),
        (
            &[("KEYBRAKE_DATABASE_URL", "postgresql://h/d?sslmode=prefer")],
            "sslmode prefer and allow let anybody in between",
        ),
    ];
    for (variables, part) in cases {
        let (code, line) = refused(folder.path(), &[], |command| {
            command.envs(variables.iter().copied());
        });
        assert!(line.contains(part), "{line}");
        assert_eq!(code, Some(2), "{line}");
    }
    let mut command = keybrake(folder.path());
    let (code, _, line) = finished(command.arg("serve").env("KEYBRAKE_LEDGER_PORT", "99999"));
    assert_eq!(code, Some(2));
    assert!(line.contains("KEYBRAKE_LEDGER_PORT"), "{line}");
}

#[test]
fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("run")).unwrap();
    let socket = folder.path().join("run/ledger.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let service = Service::start_in(folder, |_| {});
    assert_eq!(service.socket, socket);
    assert_eq!(
        std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let other = tempfile::tempdir().unwrap();
    let (code, line) = refused(
        other.path(),
        &["--socket", &socket.display().to_string()],
        |_| {},
    );
    assert_eq!(code, Some(1));
    assert!(line.contains("another ledger listens there"), "{line}");
    assert_eq!(
        service.batch(INTERNAL, br#"{"commands":[]}"#).status,
        200,
        "the first goes on"
    );
    let folder = service.stop();
    assert!(!folder.path().join("run/ledger.sock").exists());
}

#[test]
fn a_second_ledger_on_the_same_database_is_refused() {
    let service = Service::start();
    let database = format!("sqlite:{}", service.path("run/keybrake.db").display());
    let other = tempfile::tempdir().unwrap();
    let (code, line) = refused(other.path(), &["--database-url", &database], |_| {});
    assert_eq!(code, Some(1));
    assert!(line.contains("in use by another ledger"), "{line}");
    assert_eq!(service.api("GET", "/readyz", "", None).status, 200);
}

#[test]
fn a_socket_path_that_is_too_long_becomes_a_short_one() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("x".repeat(90)).join("ledger.sock");
    let service = Service::start_in(folder, |command| {
        command.arg("--socket").arg(&long);
    });
    assert!(
        service.socket.as_os_str().len() <= 100,
        "{}",
        service.socket.display()
    );
    assert!(
        service.socket.starts_with(service.folder.path()),
        "in the temporary folder"
    );
    assert_eq!(service.batch(INTERNAL, br#"{"commands":[]}"#).status, 200);
}

#[test]
fn commands_are_taken_on_a_port_too_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let service = Service::start_in(folder, |command| {
        command.args(["--commands-listen", &free]);
    });
    let key = format!("keybrake-internal-key: {INTERNAL}\r\n");
    let answer = support::exchange(
        TcpStream::connect(&free).unwrap(),
        "POST",
        "/internal/v1/commands",
        &key,
        br#"{"commands":[]}"#,
    );
    assert_eq!(answer.status, 200);
    drop(service);
}

#[test]
fn sigterm_finishes_what_is_at_work_and_takes_nothing_new() {
    let mut service = Service::start();
    let head = format!(
        "POST {KEYS} HTTP/1.1\r\nhost: l\r\nauthorization: Bearer {ADMIN}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        FIVE_FIELDS.len()
    );
    let mut slow = TcpStream::connect(&service.listen).unwrap();
    at_work(&mut slow, &head);
    let batch_head = format!(
        "POST /internal/v1/commands HTTP/1.1\r\nhost: l\r\nkeybrake-internal-key: {INTERNAL}\r\n\
         content-length: 15\r\nexpect: 100-continue\r\n\r\n"
    );
    let mut slow_batch = UnixStream::connect(&service.socket).unwrap();
    at_work(&mut slow_batch, &batch_head);
    service.terminate();
    eventually("the port is closed", || {
        TcpStream::connect(&service.listen).is_err()
    });
    slow.write_all(FIVE_FIELDS.as_bytes()).unwrap();
    slow_batch.write_all(br#"{"commands":[]}"#).unwrap();
    assert_eq!(read_answer(slow).status, 201);
    assert_eq!(read_answer(slow_batch).status, 200);
    assert_eq!(service.wait().code(), Some(0), "{}", service.log());
    assert!(!service.socket.exists());
}

/// Sends the head of a request and waits until the service asks for its body: from then on it is at work.
fn at_work<S: std::io::Read + std::io::Write>(stream: &mut S, head: &str) {
    const ASKED: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut asked = [0; ASKED.len()];
    stream.read_exact(&mut asked).unwrap();
    assert_eq!(asked, ASKED);
}

#[test]
fn what_was_issued_is_still_there_after_a_restart() {
    let service = Service::start();
    let key = service.issue(FIVE_FIELDS);
    let one = format!("{KEYS}/{}", key["key_id"].as_str().unwrap());
    let service = Service::start_in(service.stop(), |_| {});
    let shown = service.api("GET", &one, ADMIN, None);
    assert_eq!(
        (shown.status, shown.json()["label"].as_str()),
        (200, Some("metaflow-2026-07-cus_aaa"))
    );
}

#[test]
fn a_credential_file_is_rotated_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.key");
    std::fs::write(&file, format!("{ADMIN}\n")).unwrap();
    let service = Service::start_in(folder, |command| {
        command
            .env_remove("KEYBRAKE_ADMIN_KEY")
            .env("KEYBRAKE_ADMIN_KEY_FILE", &file);
    });
    let status = |credential: &str| service.api("GET", KEYS, credential, None).status;
    assert_eq!(status(ADMIN), 200);
    let next = "sandbox-admin-key-0002";
    std::fs::write(service.path("admin.new"), next).unwrap();
    std::fs::rename(service.path("admin.new"), &file).unwrap();
    eventually("the new credential counts", || status(next) == 200);
    assert_eq!(status(ADMIN), 401, "the old one does not");

    std::fs::write(&file, "short").unwrap();
    eventually("the service complains", || {
        service.log().contains("credentials stay as they were")
    });
    assert_eq!(status(next), 200);
    std::fs::remove_file(&file).unwrap();
    eventually("the service complains", || {
        service.log().contains("cannot read")
    });
    assert_eq!(status(next), 200);
    for secret in [ADMIN, next, "short\n"] {
        assert!(!service.log().contains(secret), "{secret}");
    }
}

#[test]
fn the_test_clock_moves_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    std::fs::write(&clock, "0").unwrap();
    let service = Service::start_in(folder, |command| {
        command
            .env("KEYBRAKE_TEST_CLOCK", &clock)
            .env("KEYBRAKE_VENDOR", "sandbox");
    });
    let key = service.issue(FIVE_FIELDS);
    let one = format!("{KEYS}/{}", key["key_id"].as_str().unwrap());
    let status = || service.api("GET", &one, ADMIN, None).json()["status"].clone();
    assert_eq!(status(), "active");
    std::fs::write(&clock, "7300000").unwrap();
    eventually("the key is expired", || status() == "expired");
}

#[test]
fn no_secret_is_found_in_logs_metrics_errors_or_the_database() {
    let service = Service::start();
    let key = service.issue(FIVE_FIELDS);
    let secret = key["vault_key"].as_str().unwrap().to_owned();
    let mut seen = String::new();
    for (method, path, credential, body) in [
        ("GET", "/audit", secret.as_str(), None),
        ("POST", KEYS, secret.as_str(), Some(FIVE_FIELDS)),
        ("GET", KEYS, AUDIT, None),
        ("GET", KEYS, ADMIN, None),
        ("GET", "/audit", INTERNAL, None),
        ("GET", "/audit", AUDIT, None),
        ("GET", "/metrics", ADMIN, None),
        ("GET", "/readyz", AUDIT, None),
        ("POST", KEYS, ADMIN, Some("{")),
    ] {
        let answer = service.api(method, path, credential, body);
        seen.push_str(&answer.text());
        seen.push_str(&format!("{:?}", answer.headers));
    }
    let digest = keybrake_contract::vault_key::digest(secret.as_bytes())
        .unwrap()
        .to_string();
    let reserve = json!({"reserve": {"id": "0".repeat(48), "key_digest": digest, "forward": "read", "cost": "nothing",
        "forward_timeout_ms": 1000, "request": {"vendor": "stripe", "credential": "stripe", "operation": "charges.list",
        "method": "GET", "path": "/v1/charges", "request_id": "r"}}});
    seen.push_str(&service.command(reserve).to_string());
    seen.push_str(&service.batch("wrong-internal-key-1", b"{}").text());
    let files: Vec<_> = walk(service.folder.path());
    assert!(
        files.iter().any(|file| file.ends_with("keybrake.db")),
        "{files:?}"
    );
    for file in &files {
        seen.push_str(&String::from_utf8_lossy(&std::fs::read(file).unwrap()));
    }
    assert!(
        seen.contains("keybrake_ready 1") && seen.contains("metaflow-2026-07-cus_aaa"),
        "the search sees something"
    );
    let random = &secret["vault_key_".len()..];
    for text in [secret.as_str(), random, ADMIN, AUDIT, INTERNAL] {
        assert!(!seen.contains(text), "a secret was found");
    }
    let folder = service.stop();
    for file in walk(folder.path()) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains(random), "{}", file.display());
        if file.to_string_lossy().contains("keybrake.db") {
            let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.display());
        }
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(walk(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}
