//! The sandbox's clock: wall time plus an offset that tests can move.
//!
//! The offset lies in a file (`KEYBRAKE_TEST_CLOCK`) that the ledger reads as well, so that both move together. No other
//! module reads the wall clock.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Why the offset file cannot be used at start.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The file exists and cannot be read.
    #[error("cannot read the clock file {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file's text is not a whole number of milliseconds.
    #[error("the clock file {path} must hold a whole number of milliseconds")]
    NotANumber {
        /// The file.
        path: String,
    },
}

/// Wall time plus the offset in the file, if there is one.
#[derive(Debug, Default)]
pub struct Clock {
    file: Option<PathBuf>,
    /// The last offset that could be read: a file that is being written just now is half empty for a moment.
    last_offset_ms: AtomicI64,
}

impl Clock {
    /// A clock on this offset file. The file may be missing (offset 0); it must be readable if it is there.
    ///
    /// # Errors
    /// When the file exists and does not hold a number.
    pub fn new(file: Option<PathBuf>) -> Result<Self, ClockError> {
        let clock = Self {
            file,
            last_offset_ms: AtomicI64::new(0),
        };
        if let Some(path) = &clock.file {
            let path_text = || path.display().to_string();
            match std::fs::read_to_string(path) {
                Ok(text) => {
                    let offset = text
                        .trim()
                        .parse()
                        .map_err(|_| ClockError::NotANumber { path: path_text() })?;
                    clock.last_offset_ms.store(offset, Ordering::Relaxed);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(ClockError::Unreadable {
                        path: path_text(),
                        source,
                    });
                }
            }
        }
        Ok(clock)
    }

    /// Milliseconds since 1970 by the moved clock. The file is read anew at each call.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        wall_ms().saturating_add(self.offset_ms())
    }

    fn offset_ms(&self) -> i64 {
        let Some(path) = &self.file else { return 0 };
        match std::fs::read_to_string(path) {
            Ok(text) => {
                if let Ok(offset) = text.trim().parse() {
                    self.last_offset_ms.store(offset, Ordering::Relaxed);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.last_offset_ms.store(0, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        self.last_offset_ms.load(Ordering::Relaxed)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the wall clock"
)]
fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_read_at_each_use_and_a_half_written_file_keeps_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let clock = Clock::new(Some(path.clone())).unwrap();
        assert!(clock.now_ms().abs_diff(wall_ms()) < 1_000);
        std::fs::write(&path, "90000000\n").unwrap();
        assert!(clock.now_ms().abs_diff(wall_ms() + 90_000_000) < 1_000);
        std::fs::write(&path, "").unwrap();
        assert!(clock.now_ms().abs_diff(wall_ms() + 90_000_000) < 1_000);
        std::fs::remove_file(&path).unwrap();
        assert!(clock.now_ms().abs_diff(wall_ms()) < 1_000);
    }

    #[test]
    fn a_clock_file_without_a_number_is_refused_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        std::fs::write(&path, "tomorrow").unwrap();
        assert!(matches!(
            Clock::new(Some(path)),
            Err(ClockError::NotANumber { .. })
        ));
    }
}
