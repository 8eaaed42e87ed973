//! A real `keybrake serve` for a test, and a small HTTP client to ask it with.
//!
//! Here: starting and ending the process, requests over TCP and the command socket. Not here: what is expected.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

pub mod postgres;

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Visibly fake credentials.
pub const ADMIN: &str = "sandbox-admin-key-0001";
pub const AUDIT: &str = "sandbox-audit-key-0001";
pub const INTERNAL: &str = "sandbox-internal-key-0001";

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// The five fields of the published call, as `httpx` writes them.
pub const FIVE_FIELDS: &str = r#"{"label":"metaflow-2026-07-cus_aaa","vendor":"stripe","allowed_endpoints":["POST /v1/charges"],"daily_usd_cap":10.99,"expires_in_seconds":7200}"#;

/// The five fields with one put in place of another, or added.
pub fn with(field: &str, value: &str) -> String {
    let fields = [
        ("label", r#""l""#),
        ("vendor", r#""stripe""#),
        ("allowed_endpoints", r#"["POST /v1/charges"]"#),
        ("daily_usd_cap", "10.99"),
        ("expires_in_seconds", "7200"),
    ];
    let mut members: Vec<String> = fields
        .iter()
        .filter(|(name, _)| *name != field)
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    if !value.is_empty() {
        members.push(format!("\"{field}\":{value}"));
    }
    format!("{{{}}}", members.join(","))
}

/// The binary, with a clean environment and the credentials.
pub fn keybrake(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keybrake"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("TMPDIR", folder)
        .env("KEYBRAKE_RUN_DIR", folder.join("run"))
        .env("KEYBRAKE_ADMIN_KEY", ADMIN)
        .env("KEYBRAKE_AUDIT_KEY", AUDIT)
        .env("KEYBRAKE_INTERNAL_KEY", INTERNAL)
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end: exit code, stdout, stderr. One that does not end in time is killed and fails the test.
pub fn finished(command: &mut Command) -> (Option<i32>, String, String) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let err = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text)
    });
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (out, err) = (out.join().unwrap().unwrap(), err.join().unwrap().unwrap());
    let status = status.unwrap_or_else(|| panic!("{command:?} did not end: {out} {err}"));
    (status.code(), out, err)
}

/// Polls until it is so.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running service in a folder of its own. Dropping it ends the process.
pub struct Service {
    pub folder: TempDir,
    pub listen: String,
    pub socket: PathBuf,
    child: Child,
}

impl Service {
    /// Starts one with the usual settings.
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), |_| {})
    }

    /// Starts one in this folder, after changes to its command.
    pub fn start_in(folder: TempDir, change: impl FnOnce(&mut Command)) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.path().join("stderr.log"))
            .unwrap();
        let mut command = keybrake(folder.path());
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "trace"])
            .stdout(Stdio::piped())
            .stderr(log);
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let _ = child.wait();
            let log = std::fs::read_to_string(folder.path().join("stderr.log")).unwrap();
            panic!("no ready line but {line:?}; stderr: {log}");
        };
        assert_eq!(ready["ready"], true);
        Self {
            listen: ready["listen"].as_str().unwrap().to_owned(),
            socket: PathBuf::from(ready["socket"].as_str().unwrap()),
            folder,
            child,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("stderr.log")).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the service did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops it in order and gives back its folder.
    pub fn stop(mut self) -> TempDir {
        self.terminate();
        assert_eq!(self.wait().code(), Some(0), "{}", self.log());
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// A request to the API: method, path, bearer credential, JSON body.
    pub fn api(&self, method: &str, path: &str, credential: &str, body: Option<&str>) -> Answer {
        let authorization = format!("authorization: Bearer {credential}\r\n");
        let headers = if credential.is_empty() {
            ""
        } else {
            &authorization
        };
        self.raw(method, path, headers, body)
    }

    /// A request to the API with these header lines.
    pub fn raw(&self, method: &str, path: &str, headers: &str, body: Option<&str>) -> Answer {
        let stream = TcpStream::connect(&self.listen).unwrap();
        let kind = body.map_or("", |_| "content-type: application/json\r\n");
        exchange(
            stream,
            method,
            path,
            &format!("{kind}{headers}"),
            body.unwrap_or_default().as_bytes(),
        )
    }

    /// A batch to the command socket, with this internal credential.
    pub fn batch(&self, credential: &str, body: &[u8]) -> Answer {
        let stream = UnixStream::connect(&self.socket).unwrap();
        let line = format!("keybrake-internal-key: {credential}\r\n");
        let headers = if credential.is_empty() { "" } else { &line };
        exchange(stream, "POST", "/internal/v1/commands", headers, body)
    }

    /// One command; its result.
    pub fn command(&self, command: Value) -> Value {
        let batch = serde_json::json!({"commands": [command]}).to_string();
        let answer = self.batch(INTERNAL, batch.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["results"][0]["result"].clone()
    }

    /// Issues a key from this body.
    pub fn issue(&self, body: &str) -> Value {
        let answer = self.api("POST", "/admin/vault_keys", ADMIN, Some(body));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Sends one HTTP/1.1 request and reads the answer to its end.
pub fn exchange<S: Read + Write>(
    mut stream: S,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: ledger\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A body that is turned away is not read to its end: the answer may be there before all of it is sent.
    let _ = stream.write_all(body);
    read_answer(stream)
}

/// Reads an answer up to the end of the connection.
pub fn read_answer<S: Read>(mut stream: S) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer"));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Answer {
        status,
        headers,
        body: bytes[end + 4..].to_vec(),
    }
}
