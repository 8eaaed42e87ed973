//! The files that signing needs: the private key, and the kept heads.
//!
//! Here: making, reading and appending to them. Not here: what is signed (`audit`), when (`engine`).

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::audit::{InvalidHeads, SignedHeads, SigningKey};
use crate::store::Database;

/// Only the owner reads and writes.
const OWNER_ONLY: u32 = 0o600;
/// Rights of those who are neither owner nor group.
const OTHERS: u32 = 0o007;
/// Largest file that is looked at as a key.
const MAX_KEY: u64 = 16 * 1024;
/// How much of the end of the kept heads is read to find the last line.
const TAIL: u64 = 1024 * 1024;
/// PKCS#8 of an Ed25519 key up to the 32 bytes of the key itself (RFC 8410).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// How heads are signed and kept.
#[derive(Debug, Clone)]
pub struct SigningOptions {
    /// The private key's file; `None`: beside the database, as [`key_beside`] says.
    pub key_file: Option<PathBuf>,
    /// What to do when the key's file is missing.
    pub missing_key: MissingKey,
    /// Signed heads are appended to this file as well.
    pub heads_file: Option<PathBuf>,
    /// Heads are signed after so many events at the latest.
    pub every_events: u64,
    /// Heads are signed when an event has waited for so many milliseconds.
    pub every_ms: i64,
}

impl Default for SigningOptions {
    fn default() -> Self {
        Self {
            key_file: None,
            missing_key: MissingKey::MakeTheFirst,
            heads_file: None,
            every_events: 1_000,
            every_ms: 10_000,
        }
    }
}

/// What to do when the key's file is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingKey {
    /// Make one, unless heads were signed before: then it was lost, and that is an error.
    MakeTheFirst,
    /// Make one in any case.
    MakeAnother,
}

/// A file that cannot be used. One clear line; never holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use {what} {path}: {why}")]
pub struct UnusableFile {
    what: &'static str,
    path: String,
    why: String,
}

impl UnusableFile {
    fn key(path: &Path, why: impl ToString) -> Self {
        Self::of("the signing key", path, why)
    }

    fn heads(path: &Path, why: impl ToString) -> Self {
        Self::of("the file of signed heads", path, why)
    }

    fn of(what: &'static str, path: &Path, why: impl ToString) -> Self {
        Self {
            what,
            path: path.display().to_string(),
            why: why.to_string(),
        }
    }
}

/// Where the key stands unless another place is given: the database's name and `.signing-key`.
#[must_use]
pub fn key_beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".signing-key");
    PathBuf::from(name)
}

/// Where the key of a ledger stands unless another place is given: beside its database, or in its run folder when the database
/// is no file.
#[must_use]
pub fn signing_key_of(database: &Database, run_dir: &Path) -> PathBuf {
    match database.file() {
        Some(file) => key_beside(file),
        None => run_dir.join("keybrake.signing-key"),
    }
}

/// Reads the key. `None`: there is no such file.
///
/// # Errors
/// When it cannot be read, is no key, or anybody may read it.
pub fn read_key(path: &Path) -> Result<Option<SigningKey>, UnusableFile> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(UnusableFile::key(path, error)),
    };
    let rights = file.metadata().map(|found| found.permissions().mode());
    if rights.map_err(|error| UnusableFile::key(path, error))? & OTHERS != 0 {
        let why = "other users may read or write it: take their rights away (chmod 600)";
        return Err(UnusableFile::key(path, why));
    }
    let mut text = String::new();
    file.take(MAX_KEY)
        .read_to_string(&mut text)
        .map_err(|error| UnusableFile::key(path, error))?;
    let key = from_pem(&text).and_then(|der| SigningKey::from_pkcs8(&der).ok());
    let why = "it is not an Ed25519 private key in PEM (PKCS#8)";
    key.ok_or_else(|| UnusableFile::key(path, why)).map(Some)
}

/// Makes a key and its file, which the owner alone may read.
///
/// # Errors
/// When the file cannot be written, or is there already.
pub fn make_key(path: &Path) -> Result<SigningKey, UnusableFile> {
    let failed = |error: std::io::Error| UnusableFile::key(path, error);
    let mut der = PKCS8.to_vec();
    let mut seed = [0_u8; 32];
    getrandom::fill(&mut seed).map_err(|error| UnusableFile::key(path, error))?;
    der.extend_from_slice(&seed);
    let key = SigningKey::from_pkcs8(&der).map_err(|error| UnusableFile::key(path, error))?;
    // Written beside it first: a key file is whole or not there.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(OWNER_ONLY)
        .open(&beside)
        .map_err(failed)?;
    let text = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(&der));
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&beside, path));
    // It is of no use under this name, whatever became of it.
    let _ = std::fs::remove_file(&beside);
    written.map_err(failed)?;
    sync_folder_of(path).map_err(failed)?;
    Ok(key)
}

fn from_pem(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(BEGIN)?;
    let (body, _) = rest.split_once(END)?;
    let plain: String = body.split_whitespace().collect();
    STANDARD.decode(plain).ok()
}

fn sync_folder_of(path: &Path) -> Result<(), std::io::Error> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A file of kept heads that is being appended to, by a thread of its own: no reserve ever waits for it.
#[derive(Debug)]
pub struct HeadsFile {
    lines: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
    failures: Arc<AtomicU64>,
}

impl HeadsFile {
    /// Opens it (or makes it) and reads the heads that were kept last.
    ///
    /// # Errors
    /// When it cannot be read or written, or its last line is not signed heads.
    pub fn open(path: &Path) -> Result<(Self, Option<SignedHeads>), UnusableFile> {
        let failed = |error: std::io::Error| UnusableFile::heads(path, error);
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(OWNER_ONLY)
            .open(path)
            .map_err(failed)?;
        let last = last_heads(&mut file)
            .map_err(failed)?
            .transpose()
            .map_err(|error| UnusableFile::heads(path, format!("its last line: {error}")))?;
        let failures = Arc::new(AtomicU64::new(0));
        let (lines, waiting) = channel::<String>();
        let counted = Arc::clone(&failures);
        let name = path.display().to_string();
        let thread = std::thread::Builder::new()
            .name("ledger-heads".to_owned())
            .spawn(move || {
                let mut is_broken_off = false;
                for line in waiting {
                    // What was written of a line that failed is ended first, so that this one is whole.
                    let end_of_last = if is_broken_off { "\n" } else { "" };
                    let written = file
                        .write_all(format!("{end_of_last}{line}\n").as_bytes())
                        .and_then(|()| file.sync_data());
                    is_broken_off = written.is_err();
                    if let Err(error) = written {
                        counted.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(file = name, why = %error, "signed heads could not be kept");
                    }
                }
            })
            .map_err(failed)?;
        let opened = Self {
            lines: Some(lines),
            thread: Some(thread),
            failures,
        };
        Ok((opened, last))
    }

    /// Appends one line. Later heads stand for earlier ones: a line that could not be written is made good by the next.
    pub fn keep(&self, line: &str) {
        if let Some(lines) = &self.lines {
            // The thread ends with the sender, not before.
            let _ = lines.send(line.to_owned());
        }
    }

    /// How many lines could not be written.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl Drop for HeadsFile {
    /// What was handed over is written before this returns.
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The last heads in the file. A line that broke off (the machine lost power, the disk was full) is passed over, and ended, so
/// that the next one is whole.
fn last_heads(
    file: &mut File,
) -> Result<Option<Result<SignedHeads, InvalidHeads>>, std::io::Error> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    if !text.is_empty() && !text.ends_with('\n') {
        file.write_all(b"\n")?;
    }
    Ok(text
        .lines()
        .rev()
        .map(SignedHeads::parse)
        .find(|read| !matches!(read, Err(InvalidHeads::Unreadable))))
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
