//! Several `keybrake serve` on one PostgreSQL: processes that are killed, a primary that is lost, a move from a file.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keybrake_contract::vault_key;
use serde_json::{Value, json};
use support::postgres::{PASSWORD, Schema, Server};
use support::{AUDIT, INTERNAL, Service, exchange, finished, keybrake};

static COUNTER: AtomicU64 = AtomicU64::new(1);

fn next() -> u64 {
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

fn id() -> String {
    format!("{}{:016x}", "cd".repeat(16), next())
}

fn serve(url: &str) -> Service {
    Service::start_in(tempfile::tempdir().unwrap(), |command| {
        command.env("KEYBRAKE_DATABASE_URL", url);
    })
}

fn digest_of(key: &Value) -> String {
    vault_key::digest(key["vault_key"].as_str().unwrap().as_bytes())
        .unwrap()
        .to_string()
}

fn reserve(id: &str, digest: &str, cents: u64, idempotency_key: &str) -> Value {
    json!({"reserve": {
        "id": id, "key_digest": digest, "grant_version": 1,
        "request": {"vendor": "stripe", "credential": "stripe", "operation": "charges.create", "method": "POST",
                    "path": "/v1/charges", "request_id": id, "params": {"customer": "cus_aaa"}},
        "forward": "detached", "cost": {"amount": {"amount": cents, "currency": "usd"}},
        "idempotency": {"key": idempotency_key, "fingerprint": "0".repeat(64)}, "forward_timeout_ms": 90000}})
}

fn executed(hold: &str, cents: u64) -> Value {
    json!({"outcome": {
        "id": id(), "hold": hold, "attempt": 1,
        "outcome": {"executed": {"money": "moved", "amount": {"amount": cents, "currency": "usd"}}},
        "status": 200, "vendor_request_id": "req_v1", "vendor_object_id": format!("ch_{hold}"),
        "answer": {"status": 200, "content_type": "application/json", "body": "{\"id\":\"ch_1\",\"x\":\"body-marker\"}"},
        "latency_ms": 12}})
}

/// One command; `None`: not executed, or nobody knows.
fn ask(socket: &PathBuf, command: &Value) -> Option<Value> {
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let batch = json!({"commands": [command]}).to_string();
    let line = format!("keybrake-internal-key: {INTERNAL}\r\n");
    let answer = std::panic::catch_unwind(|| {
        exchange(
            stream,
            "POST",
            "/internal/v1/commands",
            &line,
            batch.as_bytes(),
        )
    })
    .ok()?;
    (answer.status == 200).then(|| answer.json()["results"][0]["result"].clone())
}

fn key(service: &Service, cap: &str) -> Value {
    service.issue(&support::with("daily_usd_cap", cap))
}

fn balance(service: &Service, key: &Value) -> Value {
    let path = format!("/admin/vault_keys/{}", key["key_id"].as_str().unwrap());
    let answer = service.api("GET", &path, support::ADMIN, None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["balances"][0].clone()
}

/// The ids of all entries.
fn entries(service: &Service) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/audit?limit=1000{cursor}");
        let page = service.api("GET", &path, AUDIT, None);
        assert_eq!(page.status, 200, "{}", page.text());
        let page = page.json();
        for entry in page["entries"].as_array().unwrap() {
            ids.insert(entry["id"].as_str().unwrap().to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

/// `keybrake audit verify`: the chain of all ledgers is whole, and the entries are what its events say.
fn verified(url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) =
        finished(keybrake(folder.path()).args(["audit", "verify", "--database-url", url]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("the audit chain is whole"), "{out}");
    assert!(
        out.contains("keys, budgets and balances agree as well"),
        "{out}"
    );
}

/// Clients that charge one cent after the other until they are told to stop, and what they were told.
struct Load {
    stop: Arc<AtomicBool>,
    admitted: Arc<Mutex<Vec<String>>>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(sockets: &[PathBuf], digest: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let admitted = Arc::new(Mutex::new(Vec::new()));
        let clients = (0..12)
            .map(|number| {
                let socket = sockets[number % sockets.len()].clone();
                let (stop, admitted) = (Arc::clone(&stop), Arc::clone(&admitted));
                let digest = digest.to_owned();
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let hold = id();
                        let name = format!("load-{}", next());
                        let Some(result) = ask(&socket, &reserve(&hold, &digest, 1, &name)) else {
                            continue;
                        };
                        assert!(result.get("admitted").is_some(), "{result}");
                        admitted.lock().unwrap().push(hold.clone());
                        if number % 2 == 0 {
                            ask(&socket, &executed(&hold, 1));
                        }
                    }
                })
            })
            .collect();
        Self {
            stop,
            admitted,
            clients,
        }
    }

    fn count(&self) -> usize {
        self.admitted.lock().unwrap().len()
    }

    /// Waits until so many more were admitted.
    fn more(&self, count: usize) {
        let wanted = self.count() + count;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.count() < wanted {
            assert!(Instant::now() < deadline, "no more are admitted");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        Arc::into_inner(self.admitted)
            .unwrap()
            .into_inner()
            .unwrap()
    }
}

/// Everything admitted is on record, and the money is that of the requests on record.
fn adds_up(service: &Service, key: &Value, admitted: &[String]) {
    let entries = entries(service);
    for hold in admitted {
        assert!(entries.contains(hold), "admitted and lost: {hold}");
    }
    let balance = balance(service, key);
    let part = |name: &str| -> f64 { balance[name].as_str().unwrap().parse().unwrap() };
    let spent = part("held") + part("settled") + part("unknown");
    let expected = entries.len() as f64 / 100.0;
    assert!((spent - expected).abs() < 1e-9, "{balance} {expected}");
}

#[test]
fn of_200_reserves_at_three_ledgers_exactly_the_57_that_fit_are_admitted() {
    let schema = Schema::fresh();
    let ledgers = [serve(&schema.url), serve(&schema.url), serve(&schema.url)];
    let key = key(&ledgers[0], "10.83");
    let digest = digest_of(&key);
    let threads: Vec<_> = (0..200)
        .map(|number| {
            let socket = ledgers[number % 3].socket.clone();
            let command = reserve(&id(), &digest, 19, &format!("k-{number}"));
            std::thread::spawn(move || ask(&socket, &command).unwrap())
        })
        .collect();
    let results: Vec<Value> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    let count = |name: &str| results.iter().filter(|one| one.get(name).is_some()).count();
    assert_eq!((count("admitted"), count("refused")), (57, 143));
    assert_eq!(balance(&ledgers[1], &key)["free"], "0.000000");
    // A revoke at one is effective at once at the others.
    let path = format!("/admin/vault_keys/{}", key["key_id"].as_str().unwrap());
    let revoked = ledgers[2].api("DELETE", &path, support::ADMIN, None);
    assert!(revoked.status < 300, "{}", revoked.text());
    for ledger in &ledgers {
        let result = ask(&ledger.socket, &reserve(&id(), &digest, 1, "late")).unwrap();
        assert_eq!(result["refused"]["code"], "vault_key_revoked", "{result}");
    }
    for ledger in ledgers {
        let log = ledger.log();
        assert!(!log.contains(PASSWORD), "a password in the log");
        assert!(!log.contains("cus_aaa"), "a request in the log");
        ledger.stop();
    }
    verified(&schema.url);
}

#[test]
fn a_ledger_that_is_killed_under_load_loses_nothing_that_it_admitted() {
    let schema = Schema::fresh();
    let (one, two) = (serve(&schema.url), serve(&schema.url));
    let key = key(&one, "100000");
    let load = Load::on(&[one.socket.clone(), two.socket.clone()], &digest_of(&key));
    load.more(200);
    let pid = two.pid().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-KILL", &pid])
        .status();
    assert!(killed.unwrap().success());
    load.more(200);
    let admitted = load.end();
    adds_up(&one, &key, &admitted);
    drop(two);
    let log = one.log();
    assert!(!log.contains("body-marker"), "an answer in the log");
    one.stop();
    verified(&schema.url);
}

#[test]
fn a_primary_that_is_lost_under_load_costs_nothing_when_its_standby_takes_over() {
    let primary = Server::start(&[]);
    let standby = primary.standby("standby1");
    primary.configure("synchronous_standby_names = '*'");
    support::eventually("the standby is synchronous", || {
        primary.sql("public", "SELECT sync_state FROM pg_stat_replication") == "sync"
    });
    let schema = primary.schema();
    let url = primary.url(&schema).replace(
        &format!("127.0.0.1:{}", primary.port),
        &format!("127.0.0.1:{},127.0.0.1:{}", primary.port, standby.port),
    );
    let ledger = serve(&url);
    let key = key(&ledger, "100000");
    let load = Load::on(std::slice::from_ref(&ledger.socket), &digest_of(&key));
    load.more(200);
    primary.kill();
    let before = load.count();
    standby.promote();
    load.more(200);
    let admitted = load.end();
    assert!(before >= 200);
    adds_up(&ledger, &key, &admitted);
    ledger.stop();
    verified(&standby.url(&schema));
}

#[test]
fn a_file_is_moved_whole_and_its_chain_goes_on() {
    let schema = Schema::fresh();
    let service = Service::start();
    let issued = key(&service, "100");
    let digest = digest_of(&issued);
    let first = reserve(&id(), &digest, 250, "order-1");
    let hold = first["reserve"]["id"].as_str().unwrap().to_owned();
    assert!(service.command(first.clone()).get("admitted").is_some());
    service.command(executed(&hold, 250));
    let open = reserve(&id(), &digest, 100, "order-2");
    let open_answer = service.command(open.clone());
    let too_much = reserve(&id(), &digest, 100_000, "order-3");
    let refused = service.command(too_much.clone());
    let before = (entries(&service), balance(&service, &issued));
    let folder = service.stop();
    let file = format!("sqlite:{}/run/keybrake.db", folder.path().display());
    let migrate = |from: &str, to: &str| {
        finished(keybrake(folder.path()).args(["migrate", "--from", from, "--to", to]))
    };
    let (code, out, err) = migrate(&file, &schema.url);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("requests 3, "), "{out}");
    assert!(!out.contains(PASSWORD));
    let (_, source, _) = finished(keybrake(folder.path()).args(["audit", "verify"]));
    let whole = source.lines().next().unwrap();
    assert!(out.contains(whole), "{out} {source}");
    let (code, _, err) = migrate(&file, &schema.url);
    assert_eq!(code, Some(1));
    assert!(err.contains("is not empty"), "{err}");
    assert!(!err.contains(PASSWORD));
    let moved = serve(&schema.url);
    assert_eq!((entries(&moved), balance(&moved, &issued)), before);
    for (command, answer) in [(open, open_answer), (too_much, refused)] {
        assert_eq!(moved.command(command), answer, "the first answer");
    }
    let replayed = moved.command(reserve(&id(), &digest, 250, "order-1"));
    assert!(replayed.get("replay").is_some(), "{replayed}");
    let fresh = moved.command(reserve(&id(), &digest, 1, "order-4"));
    assert!(fresh.get("admitted").is_some(), "{fresh}");
    moved.stop();
    verified(&schema.url);
}

#[test]
fn only_a_stopped_ledgers_whole_file_is_moved_and_only_one_way() {
    let schema = Schema::fresh();
    let service = Service::start();
    key(&service, "100");
    let at = service.folder.path().to_owned();
    let file = format!("sqlite:{}/run/keybrake.db", at.display());
    let migrate = |from: &str, to: &str| {
        finished(keybrake(&at).args(["migrate", "--from", from, "--to", to]))
    };
    let failed = |(code, out, err): (Option<i32>, String, String), expected: &str| {
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains(expected), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(!err.contains(PASSWORD), "{err}");
    };
    failed(migrate(&file, &schema.url), "in use by another ledger");
    failed(migrate(&schema.url, &file), "not the other way");
    failed(
        migrate("sqlite:none.db", &schema.url),
        "there is no database",
    );
    let folder = service.stop();
    let database = rusqlite::Connection::open(folder.path().join("run/keybrake.db")).unwrap();
    database
        .execute_batch("UPDATE events SET body = x'7b7d' WHERE seq = 1")
        .unwrap();
    drop(database);
    let broken = finished(keybrake(folder.path()).args([
        "migrate",
        "--from",
        "sqlite:run/keybrake.db",
        "--to",
        &schema.url,
    ]));
    failed(broken, "is broken");
}
