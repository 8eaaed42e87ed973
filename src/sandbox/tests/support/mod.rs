//! Starts the real binary on free ports and talks to it: TLS with the CA it wrote, and the control API.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

pub const SECRET: &str = "sk_test_sandbox_integration";

/// A running sandbox with a folder of its own.
pub struct Sandbox {
    child: Child,
    pub listen: String,
    pub control: String,
    pub ca: PathBuf,
    pub folder: Arc<tempfile::TempDir>,
    config: Arc<ClientConfig>,
}

/// What came back: all bytes until the end, and how it ended.
pub struct Reply {
    pub status: u16,
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    pub end: std::io::Result<()>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }

    pub fn id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }

    fn read(mut stream: impl Read) -> Self {
        let mut all = Vec::new();
        let end = stream.read_to_end(&mut all).map(|_| ());
        let split = all
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .map_or(all.len(), |at| at + 4);
        let body = all.split_off(split);
        let status = String::from_utf8_lossy(&all)
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or(0);
        Self {
            status,
            head: all,
            body,
            end,
        }
    }
}

pub fn command(folder: &Path, more: &[&str]) -> Command {
    let secret = folder.join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_keybrake-sandbox"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KEYBRAKE_")) {
        command.env_remove(name);
    }
    command
        .arg("--secret-file")
        .arg(secret)
        .arg("--cert-dir")
        .arg(folder);
    command
        .args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"])
        .args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

impl Sandbox {
    pub fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), &[])
    }

    pub fn start_in(folder: Arc<tempfile::TempDir>, more: &[&str]) -> Self {
        let mut child = command(folder.path(), more).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["ready"], true);
        let ca = PathBuf::from(ready["ca"].as_str().unwrap_or_default());
        let mut roots = RootCertStore::empty();
        if ca.exists() {
            roots
                .add(CertificateDer::from_pem_file(&ca).unwrap())
                .unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            child,
            listen: ready["listen"].as_str().unwrap().to_owned(),
            control: ready["control"].as_str().unwrap().to_owned(),
            ca,
            folder,
            config: Arc::new(config),
        }
    }

    /// A client that trusts the sandbox's authority.
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig::clone(&self.config)
    }

    pub fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("api.stripe.com").unwrap();
        let socket = TcpStream::connect(&self.listen).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        StreamOwned::new(
            ClientConnection::new(Arc::clone(&self.config), name).unwrap(),
            socket,
        )
    }

    /// Sends a request with these header lines and waits for the end of the connection.
    pub fn send(&self, method: &str, target: &str, headers: &[&str], body: &str) -> Reply {
        let mut stream = self.connect();
        stream
            .write_all(request(method, target, headers, body).as_bytes())
            .unwrap();
        Reply::read(stream)
    }

    pub fn post(&self, path: &str, key: &str, body: &str) -> Reply {
        let key = format!("Idempotency-Key: {key}");
        let mut headers = vec![AUTHORIZED];
        if !key.ends_with(' ') {
            headers.push(&key);
        }
        self.send("POST", path, &headers, body)
    }

    pub fn get(&self, target: &str) -> Value {
        let reply = self.send("GET", target, &[AUTHORIZED], "");
        assert_eq!(
            reply.status,
            200,
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
        reply.json()
    }

    pub fn control(&self, method: &str, target: &str, body: &str) -> Reply {
        let mut socket = TcpStream::connect(&self.control).unwrap();
        let text = request(method, target, &["Content-Type: application/json"], body);
        socket.write_all(text.as_bytes()).unwrap();
        Reply::read(socket)
    }

    pub fn counts(&self) -> Value {
        self.control("GET", "/counts", "").json()
    }

    pub fn fault(&self, order: &str) {
        let reply = self.control("POST", "/faults", order);
        assert_eq!(
            reply.status,
            201,
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
    }

    /// Waits until what `read` gives fits.
    pub fn until(&self, what: &str, fits: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !fits(self) {
            assert!(Instant::now() < deadline, "never: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Arc<tempfile::TempDir> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Arc::clone(&self.folder)
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub const AUTHORIZED: &str = "Authorization: Bearer sk_test_sandbox_integration";

fn request(method: &str, target: &str, headers: &[&str], body: &str) -> String {
    let mut text =
        format!("{method} {target} HTTP/1.1\r\nHost: api.stripe.com\r\nConnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        if !headers
            .iter()
            .any(|h| h.to_ascii_lowercase().starts_with("content-type"))
        {
            text.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text + "\r\n" + body
}
