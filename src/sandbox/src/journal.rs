//! Durable state as JSON Lines: one line per change, written before it is applied.
//!
//! Guards against the death of this program, not of the machine: there is no fsync. A line that a kill cut short never
//! happened and is cut off at the next start.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use crate::book::Change;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("cannot use the state file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A whole line that is no change.
    #[error("the state file {path} is broken in line {line}: {source}")]
    Line {
        /// The file.
        path: String,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    /// Length of all whole lines.
    length: u64,
}

impl Journal {
    /// Opens or makes the file and reads what is in it.
    ///
    /// # Errors
    /// When the file cannot be used or holds a whole line that is no change.
    pub fn open(path: &Path) -> Result<(Self, Vec<Change>), JournalError> {
        let failed = |source| JournalError::File {
            path: path.display().to_string(),
            source,
        };
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let mut changes = Vec::new();
        let mut length = 0_u64;
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(failed)?;
            if line.last() != Some(&b'\n') {
                break;
            }
            let change = serde_json::from_slice(&line).map_err(|source| JournalError::Line {
                path: path.display().to_string(),
                line: changes.len().saturating_add(1),
                source,
            })?;
            changes.push(change);
            length = length.saturating_add(u64::try_from(read).unwrap_or_default());
        }
        let mut journal = Self { file, length };
        journal.cut().map_err(failed)?;
        Ok((journal, changes))
    }

    /// Writes one change as one line.
    ///
    /// # Errors
    /// When it cannot be written; what was written of it is cut off again.
    pub fn append(&mut self, change: &Change) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(change)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            self.cut()?;
            return Err(error);
        }
        self.length = self
            .length
            .saturating_add(u64::try_from(line.len()).unwrap_or_default());
        Ok(())
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// When the file cannot be cut.
    pub fn empty(&mut self) -> std::io::Result<()> {
        self.length = 0;
        self.cut()
    }

    fn cut(&mut self) -> std::io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length)).map(|_| ())
    }
}
