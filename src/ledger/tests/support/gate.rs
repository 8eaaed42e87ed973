//! A gate and vendor for tests of the reconciler: takes reads as Envoy does, asks the ledger whether they may be made, and answers
//! what the test tells it to. And the clock that the service reads.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use keybrake_contract::digest::Digest;
use serde_json::{Value, json};

use crate::support::{INTERNAL, Service, eventually, exchange};

/// What a vendor answers on a path: status and body.
pub type Script = Arc<Mutex<HashMap<String, (u16, String)>>>;

/// Takes reads as Envoy does, asks the ledger whether they may be made, and answers by the script.
pub struct Gate {
    pub url: String,
    pub script: Script,
    pub socket: Arc<OnceLock<PathBuf>>,
    /// Method and target of every request.
    pub seen: Arc<Mutex<Vec<String>>>,
    pub secrets: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            script: Script::default(),
            socket: Arc::default(),
            seen: Arc::default(),
            secrets: Arc::default(),
        };
        let (script, socket) = (Arc::clone(&gate.script), Arc::clone(&gate.socket));
        let (seen, secrets) = (Arc::clone(&gate.seen), Arc::clone(&gate.secrets));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, socket) = (Arc::clone(&script), Arc::clone(&socket));
                let (seen, secrets) = (Arc::clone(&seen), Arc::clone(&secrets));
                std::thread::spawn(move || serve(stream, &script, &socket, &seen, &secrets));
            }
        });
        gate
    }

    pub fn say(&self, path: &str, status: u16, body: &Value) {
        let answer = (status, body.to_string());
        self.script.lock().unwrap().insert(path.to_owned(), answer);
    }

    pub fn start(&self, clock: &Clock) -> Service {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start_in(folder, |command| {
            command
                .args(["--reconcile-url", &self.url, "--reconcile-seconds", "86400"])
                .env("KEYBRAKE_TEST_CLOCK", clock.0.path());
        });
        self.socket.set(service.socket.clone()).unwrap();
        service
    }
}

fn serve(
    mut stream: TcpStream,
    script: &Script,
    socket: &OnceLock<PathBuf>,
    seen: &Mutex<Vec<String>>,
    secrets: &Mutex<Vec<String>>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let target = head[0].trim_end_matches(" HTTP/1.1").to_owned();
        seen.lock().unwrap().push(target.clone());
        let bearer = head
            .iter()
            .find_map(|line| line.strip_prefix("authorization: Bearer "));
        let secret = bearer.unwrap_or_default().to_owned();
        secrets.lock().unwrap().push(secret.clone());
        let path = target
            .trim_start_matches("GET ")
            .trim_start_matches("/stripe");
        let (status, body) = if admitted(socket.wait_for(), &secret, path) {
            let script = script.lock().unwrap();
            let bare = path.split('?').next().unwrap();
            let known = script.get(path).or_else(|| script.get(bare));
            known.cloned().unwrap_or((404, "{}".to_owned()))
        } else {
            (401, "{}".to_owned())
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream
            .write_all(format!("{head}{body}").as_bytes())
            .is_err()
        {
            return;
        }
    }
}

trait WaitFor {
    fn wait_for(&self) -> &PathBuf;
}

impl WaitFor for OnceLock<PathBuf> {
    fn wait_for(&self) -> &PathBuf {
        eventually("the ledger's socket is known", || self.get().is_some());
        self.get().unwrap()
    }
}

pub fn id() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    format!(
        "{:032x}{:016x}",
        0xfeed,
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}

fn command(socket: &PathBuf, command: Value) -> Value {
    let stream = UnixStream::connect(socket).unwrap();
    let headers = format!("keybrake-internal-key: {INTERNAL}\r\n");
    let batch = json!({"commands": [command]}).to_string();
    let answer = exchange(
        stream,
        "POST",
        "/internal/v1/commands",
        &headers,
        batch.as_bytes(),
    );
    answer.json()["results"][0]["result"].clone()
}

pub fn facts(operation: &str, method: &str, path: &str) -> Value {
    json!({"vendor": "stripe", "credential": "stripe", "operation": operation, "method": method, "path": path,
           "request_id": "req", "params": {}})
}

fn admitted(socket: &PathBuf, secret: &str, path: &str) -> bool {
    let operation = if path.starts_with("/v1/events") {
        "events.list"
    } else {
        "charges.retrieve"
    };
    let path = path.split('?').next().unwrap();
    let result = command(
        socket,
        json!({"reserve": {
            "id": id(), "key_digest": Digest::of(secret.as_bytes()).to_string(), "grant_version": 1,
            "request": facts(operation, "GET", path), "forward": "read", "cost": "nothing", "forward_timeout_ms": 90000}}),
    );
    result["admitted"]["attempt"] == 1
}

/// The clock that the service reads.
pub struct Clock(pub tempfile::NamedTempFile, AtomicI64);

impl Clock {
    pub fn new() -> Self {
        let clock = Self(tempfile::NamedTempFile::new().unwrap(), AtomicI64::new(0));
        clock.advance(0);
        clock
    }

    pub fn advance(&self, minutes: i64) {
        let moved = self.1.fetch_add(minutes * 60_000, Ordering::Relaxed) + minutes * 60_000;
        std::fs::write(self.0.path(), moved.to_string()).unwrap();
    }
}
