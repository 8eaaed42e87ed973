//! Moves the write-ahead log into the database beside the writer, so that the writer hardly ever does.
//!
//! A log can only begin again when all of it was moved and nobody writes. So a thread of its own moves what it finds
//! (`PASSIVE`: it never waits for the writer, nor the writer for it), and when the log has grown long the writer moves the
//! little that is left between two of its commits; its next commit then begins the log again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::engine::OpenError;

/// How often the thread looks at what was written.
const LOOK: Duration = Duration::from_millis(15);
/// Pages that it moves at least, unless little is written.
const PAGES: u64 = 2_000;
/// Looks after which it moves whatever there is.
const PATIENCE: u32 = 40;
/// Pages in the log from which on the writer moves the rest: 64 MiB.
const LONG: u64 = 16_384;
/// Pages in the log from which on the writer moves the rest however much that is: 512 MiB.
const TOO_LONG: u64 = 131_072;
/// Most pages that the writer moves between two commits while the log is merely long.
const REST: u64 = 1_500;

/// The thread, and what it found last.
pub struct Checkpointer {
    found: Arc<Found>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Found {
    /// Pages in the log.
    pages: AtomicU64,
    /// How many of them are in the database.
    moved: AtomicU64,
    /// Pages that the writer says it wrote since the thread looked.
    written: AtomicU64,
}

impl Checkpointer {
    /// Starts it on this database.
    ///
    /// # Errors
    /// When the database cannot be opened once more, or no thread can be made.
    pub fn start(path: &Path) -> Result<Self, OpenError> {
        let connection = super::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let found = Arc::new(Found::default());
        let shared = Arc::clone(&found);
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("ledger-checkpoint".to_owned())
            .spawn(move || {
                let mut looks = 0_u32;
                while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    looks = looks.saturating_add(1);
                    let written = shared.written.load(Ordering::Relaxed);
                    if written >= PAGES || (written > 0 && looks >= PATIENCE) {
                        looks = 0;
                        shared.written.store(0, Ordering::Relaxed);
                        checkpoint(&connection, &shared);
                    }
                }
            })
            .map_err(|error| super::unusable(path, &error))?;
        Ok(Self {
            found,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// To be called by the writer after each commit, with about how many pages it wrote.
    pub fn after_commit(&self, connection: &Connection, pages: u64) {
        let found = &self.found;
        found.written.fetch_add(pages, Ordering::Relaxed);
        let in_log = found.pages.load(Ordering::Relaxed);
        if in_log < LONG {
            return;
        }
        let left = in_log.saturating_sub(found.moved.load(Ordering::Relaxed));
        if left <= REST || in_log >= TOO_LONG {
            checkpoint(connection, found);
            // Looked at again when the thread has counted anew: the next commit begins the log again.
            found.pages.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say any more.
            let _ = thread.join();
        }
    }
}

/// Moves what can be moved. An error leaves the log as it is: it only grows until the next time.
fn checkpoint(connection: &Connection, found: &Found) {
    let result = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    match result {
        Ok((pages, moved)) => {
            let count = |value: i64| u64::try_from(value).unwrap_or(0);
            found.pages.store(count(pages), Ordering::Relaxed);
            found.moved.store(count(moved), Ordering::Relaxed);
        }
        Err(error) => tracing::warn!(why = %error, "a checkpoint failed"),
    }
}
