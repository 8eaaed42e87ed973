//! A real PostgreSQL for tests, in a folder of its own on a free port of loopback.
//!
//! Here: finding and starting the server, schemas for single tests, SQL by `psql`. Not here: what is expected. One server is shared by
//! the tests of a program; it ends with the program, however that ends. `KEYBRAKE_TEST_POSTGRES_URL` names another one to use instead,
//! with a user who may make schemas.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Visibly fake.
pub const PASSWORD: &str = "sandbox-database-password-0001";
/// The role that owns everything.
pub const USER: &str = "keybrake";

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of Debian's package with the server's programs.
fn programs() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path().join("bin"))
            .filter(|bin| bin.join("initdb").exists())
            .collect();
        versions.sort();
        versions
            .pop()
            .expect("PostgreSQL is missing: apt-get install --no-install-recommends postgresql")
    })
}

/// The server does not run as root.
fn server_user() -> Option<(u32, u32)> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt as _;
        own.uid() == 0
    });
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    is_root.then(|| ids("postgres").or_else(|| ids("nobody")).unwrap())
}

fn as_server_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C");
    command
}

fn quietly(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A cluster, running or not.
pub struct Server {
    pub home: PathBuf,
    pub port: u16,
    /// Ends the server and removes the folder when its end of the pipe is closed.
    keeper: Child,
    postmaster: u32,
}

/// Waits for its input to end, then ends the server whose process id stands in the cluster (within ten seconds, by force if it has to
/// be), and removes the folder.
const KEEPER: &str = r#"trap '' INT TERM HUP; cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -QUIT "$pid" 2>/dev/null
    for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
    kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$1""#;

impl Server {
    /// A new cluster with these settings.
    pub fn start(settings: &[&str]) -> Self {
        let home = new_home();
        let password = home.join("password");
        std::fs::File::create(&password)
            .unwrap()
            .write_all(PASSWORD.as_bytes())
            .unwrap();
        own(&password);
        quietly(
            as_server_user(&programs().join("initdb"))
                .current_dir(&home)
                .args([
                    "-U",
                    USER,
                    "-A",
                    "scram-sha-256",
                    "--no-sync",
                    "-E",
                    "UTF8",
                    "--no-instructions",
                ])
                .arg(format!("--pwfile={}", password.display()))
                .arg("-D")
                .arg(home.join("data")),
        );
        Self::run(home, settings)
    }

    /// A standby of this server, streaming from it.
    pub fn standby(&self, name: &str) -> Self {
        let home = new_home();
        let from = format!(
            "host=127.0.0.1 port={} user={USER} password={PASSWORD} application_name={name}",
            self.port
        );
        quietly(
            as_server_user(&programs().join("pg_basebackup"))
                .current_dir(&home)
                .args(["--checkpoint=fast", "-R", "-X", "stream", "-d", &from, "-D"])
                .arg(home.join("data")),
        );
        Self::run(home, &[])
    }

    fn run(home: PathBuf, settings: &[&str]) -> Self {
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port = free_port();
        let mut server = Self {
            home,
            port,
            keeper,
            postmaster: 0,
        };
        server.postmaster = server.launch(settings);
        server
    }

    /// Starts the server in its folder, on its port; gives its process id.
    fn launch(&self, settings: &[&str]) -> u32 {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.home.join("server.log"))
            .unwrap();
        let mut command = as_server_user(&programs().join("postgres"));
        command
            .current_dir(&self.home)
            .arg("-D")
            .arg(self.home.join("data"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k", ""])
            .args(["-c", "max_connections=200", "-c", "shared_buffers=64MB"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        for setting in settings {
            command.args(["-c", setting]);
        }
        let mut child = command.spawn().unwrap();
        let pid = child.id();
        let deadline = Instant::now() + PATIENCE;
        while self.try_sql("public", "SELECT 1").is_err() {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", self.log());
            assert!(Instant::now() < deadline, "not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        // Reaped when it ends.
        std::thread::spawn(move || child.wait());
        pid
    }

    /// Kills the server at once, as a power cut would.
    pub fn kill(&self) {
        let own = self.postmaster.to_string();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
        quietly(Command::new("kill").args(["-KILL", &own]));
        for child in children.split_whitespace() {
            // One that has ended meanwhile is as good.
            let _ = Command::new("kill").args(["-KILL", child]).output();
        }
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            assert!(Instant::now() < deadline, "it still listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = std::fs::remove_file(self.home.join("data/postmaster.pid"));
    }

    /// Makes a standby a primary.
    pub fn promote(&self) {
        let promoted = self.sql("public", "SELECT pg_promote(true, 60)");
        assert_eq!(promoted.trim(), "t");
    }

    /// Puts a file into the cluster, for the server alone.
    pub fn keep(&self, name: &str, text: &str) {
        let path = self.home.join("data").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        own(&path);
    }

    /// Adds a line to its configuration and has it read.
    pub fn configure(&self, line: &str) {
        let file = self.home.join("data/postgresql.auto.conf");
        let mut text = std::fs::read_to_string(&file).unwrap();
        text.push_str(line);
        text.push('\n');
        std::fs::write(&file, text).unwrap();
        self.sql("public", "SELECT pg_reload_conf()");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("server.log")).unwrap_or_default()
    }

    pub fn url(&self, schema: &str) -> String {
        self.url_at(self.port, schema)
    }

    /// The same database through another port.
    pub fn url_at(&self, port: u16, schema: &str) -> String {
        format!(
            "postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres?options=-csearch_path%3D{schema}"
        )
    }

    /// A schema of its own for a test.
    pub fn schema(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!(
            "t_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        self.sql("public", &format!("CREATE SCHEMA {name}"));
        name
    }

    /// Executes SQL in a schema; gives what it says.
    pub fn sql(&self, schema: &str, sql: &str) -> String {
        self.try_sql(schema, sql)
            .unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    pub fn try_sql(&self, schema: &str, sql: &str) -> Result<String, String> {
        psql(&self.url(schema), sql)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn psql(url: &str, sql: &str) -> Result<String, String> {
    let done = Command::new(programs().join("psql"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PGCONNECT_TIMEOUT", "10")
        .args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            url,
            "-c",
            sql,
        ])
        .output()
        .unwrap();
    if done.status.success() {
        Ok(String::from_utf8(done.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

fn new_home() -> PathBuf {
    let home = tempfile::Builder::new()
        .prefix("keybrake-pg-")
        .tempdir()
        .unwrap()
        .keep();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
    own(&home);
    home
}

fn own(path: &Path) {
    if let Some((user, group)) = server_user() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// A port of loopback that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The shared server: its own process keeps the pipe to the keeper open for as long as it lives.
fn shared() -> &'static Server {
    static SHARED: OnceLock<(Server, Option<ChildStdin>)> = OnceLock::new();
    let (server, _) = SHARED.get_or_init(|| (Server::start(&["synchronous_commit=on"]), None));
    server
}

/// A schema of its own on the shared server, or on the one that was named.
pub struct Schema {
    pub url: String,
}

impl Schema {
    pub fn fresh() -> Self {
        match std::env::var("KEYBRAKE_TEST_POSTGRES_URL") {
            Ok(given) if !given.is_empty() => {
                static NEXT: AtomicU32 = AtomicU32::new(1);
                let name = format!(
                    "t_{}_{}",
                    std::process::id(),
                    NEXT.fetch_add(1, Ordering::Relaxed)
                );
                psql(&given, &format!("CREATE SCHEMA {name}")).unwrap();
                let joint = if given.contains('?') { '&' } else { '?' };
                Self {
                    url: format!("{given}{joint}options=-csearch_path%3D{name}"),
                }
            }
            _ => {
                let server = shared();
                Self {
                    url: server.url(&server.schema()),
                }
            }
        }
    }

    /// Executes SQL in the schema; gives what it says.
    pub fn sql(&self, sql: &str) -> String {
        psql(&self.url, sql).unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    /// Where the server listens.
    pub fn address(&self) -> String {
        let (_, rest) = self.url.split_once('@').unwrap();
        rest.split(['/', '?']).next().unwrap().to_owned()
    }

    /// The same schema through another port of loopback.
    pub fn url_at(&self, port: u16) -> String {
        self.url
            .replace(&self.address(), &format!("127.0.0.1:{port}"))
    }
}
