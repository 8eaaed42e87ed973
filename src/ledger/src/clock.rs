//! The one place of the ledger that reads the wall clock.
//!
//! Here: the clock by which expiry, windows, ages and sweeps are judged, and the offset file that tests move. Not here:
//! what is judged by it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// How long an offset that was read from the file is used before the file is read again.
const OFFSET_FRESH: Duration = Duration::from_millis(5);

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

/// Wall time, moved by the offset in a file if there is one. Cheap to clone; clones are the same clock.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Wall,
    Offset(Arc<OffsetFile>),
    Manual(Arc<AtomicI64>),
}

#[derive(Debug)]
struct OffsetFile {
    path: PathBuf,
    origin: Instant,
    /// The last offset that could be read: a file that is being written just now is half empty for a moment.
    offset_ms: AtomicI64,
    /// When it was read, in nanoseconds since `origin`.
    read_at: AtomicI64,
}

impl Clock {
    /// The wall clock, or with a file the wall clock plus the milliseconds written there. The file may be missing
    /// (offset 0); if it is there it must hold a whole number.
    ///
    /// # Errors
    /// When the file exists and does not hold a number.
    pub fn new(file: Option<PathBuf>) -> Result<Self, ClockError> {
        let Some(path) = file else {
            return Ok(Self(Source::Wall));
        };
        let offset = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| ClockError::NotANumber {
                path: path.display().to_string(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(source) => {
                return Err(ClockError::Unreadable {
                    path: path.display().to_string(),
                    source,
                });
            }
        };
        Ok(Self(Source::Offset(Arc::new(OffsetFile {
            path,
            origin: Instant::now(),
            offset_ms: AtomicI64::new(offset),
            read_at: AtomicI64::new(0),
        }))))
    }

    /// A clock that stands still until its [`Hand`] moves it: for tests in one address space.
    #[must_use]
    pub fn manual(start_ms: i64) -> (Self, Hand) {
        let hand = Arc::new(AtomicI64::new(start_ms));
        (Self(Source::Manual(Arc::clone(&hand))), Hand(hand))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::Wall => wall_ms(),
            Source::Offset(file) => wall_ms().saturating_add(file.offset()),
            Source::Manual(hand) => hand.load(Ordering::Relaxed),
        }
    }

    /// Now, to the millisecond.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        timestamp(self.now_ms())
    }
}

/// Moves a manual clock.
#[derive(Debug, Clone)]
pub struct Hand(Arc<AtomicI64>);

impl Hand {
    /// Moves the clock by so many milliseconds, backwards when negative.
    pub fn advance_ms(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

impl OffsetFile {
    fn offset(&self) -> i64 {
        let now = i64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let fresh = i64::try_from(OFFSET_FRESH.as_nanos()).unwrap_or(i64::MAX);
        if now.saturating_sub(self.read_at.load(Ordering::Relaxed)) < fresh {
            return self.offset_ms.load(Ordering::Relaxed);
        }
        match std::fs::read_to_string(&self.path) {
            Ok(text) => {
                if let Ok(offset) = text.trim().parse() {
                    self.offset_ms.store(offset, Ordering::Relaxed);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.offset_ms.store(0, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        self.read_at.store(now, Ordering::Relaxed);
        self.offset_ms.load(Ordering::Relaxed)
    }
}

/// The instant so many milliseconds after 1970; the nearest representable one when it lies outside.
#[must_use]
pub fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// The first whole millisecond since 1970 at or after an instant.
#[must_use]
pub fn ceiling_ms(instant: Timestamp) -> i64 {
    let ms = instant.as_millisecond();
    if timestamp(ms) < instant {
        ms.saturating_add(1)
    } else {
        ms
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the wall clock"
)]
fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis())
            .unwrap_or(i64::MAX)
            .saturating_neg(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eventually(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !condition() {
            assert!(Instant::now() < deadline, "did not come true in time");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_offset_is_read_again_and_a_half_written_file_keeps_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let clock = Clock::new(Some(path.clone())).unwrap();
        let is_off_by = |offset: i64| clock.now_ms().abs_diff(wall_ms() + offset) < 1_000;
        assert!(is_off_by(0));
        std::fs::write(&path, "90000000\n").unwrap();
        eventually(|| is_off_by(90_000_000));
        std::fs::write(&path, "").unwrap();
        let until = Instant::now() + OFFSET_FRESH * 3;
        while Instant::now() < until {
            assert!(is_off_by(90_000_000));
        }
        std::fs::remove_file(&path).unwrap();
        eventually(|| is_off_by(0));
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

    #[test]
    fn a_manual_clock_moves_only_by_its_hand() {
        let (clock, hand) = Clock::manual(1_000);
        assert_eq!(clock.clone().now_ms(), 1_000);
        hand.advance_ms(-400);
        assert_eq!(clock.now_ms(), 600);
    }
}
