//! A copy of a database, made while its ledger runs.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;
use rusqlite::backup::{Backup, StepResult};

use super::{Failure, OWNER_ONLY, connect, open_reads, unusable, with_suffix};
use crate::engine::OpenError;

/// All pages that are left.
const ALL: i32 = -1;

/// A copy that is whole, under a name of its own until it is wanted. Dropping it removes it.
#[derive(Debug)]
pub struct Copy {
    path: PathBuf,
    wanted: PathBuf,
}

/// Copies the database, as of one moment, to beside `to`, which must not exist. The ledger's writer is not held up: what it
/// commits meanwhile is not in the copy.
///
/// # Errors
/// [`OpenError`], one clear line; nothing is left behind.
pub fn copy(from: &Path, to: &Path) -> Result<Copy, OpenError> {
    if to.symlink_metadata().is_ok() {
        return Err(OpenError::Unusable {
            path: to.display().to_string(),
            why: "it exists already; a backup is never written over another file".to_owned(),
        });
    }
    // Before anything is made: there must be a database to copy.
    drop(open_reads(from)?);
    let copy = Copy {
        path: with_suffix(to, &format!(".partial-{}", std::process::id())),
        wanted: to.to_owned(),
    };
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(OWNER_ONLY)
        .open(&copy.path)
        .map_err(|error| unusable(to, &error))?;
    copy_pages(from, &copy.path)?;
    Ok(copy)
}

fn copy_pages(from: &Path, to: &Path) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| Failure::from(error).into_open_error(to);
    let source = connect(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    source
        .execute_batch("PRAGMA busy_timeout = 5000;")
        .map_err(failed)?;
    let mut target = connect(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    {
        let backup = Backup::new(&source, &mut target).map_err(failed)?;
        // In one step: it is one read transaction, so that a busy writer does not make it begin again and again.
        match backup.step(ALL).map_err(failed)? {
            StepResult::Done => {}
            _ => {
                return Err(OpenError::Unusable {
                    path: from.display().to_string(),
                    why: "it was locked for too long".to_owned(),
                });
            }
        }
    }
    // One file by itself, without a log beside it.
    target
        .query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
        .map_err(failed)
}

impl Copy {
    /// Where it is for now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it durable under the name that was wanted.
    ///
    /// # Errors
    /// When that name is taken by now, or the disk fails.
    pub fn keep(self) -> Result<(), OpenError> {
        let folder = self
            .wanted
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        File::open(&self.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::hard_link(&self.path, &self.wanted))
            .and_then(|()| std::fs::remove_file(&self.path))
            .and_then(|()| File::open(folder.unwrap_or(Path::new(".")))?.sync_all())
            .map_err(|error| unusable(&self.wanted, &error))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            // After `keep` there is nothing to remove.
            let _ = std::fs::remove_file(with_suffix(&self.path, suffix));
        }
    }
}
