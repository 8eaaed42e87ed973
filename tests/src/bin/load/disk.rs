//! What a durable write costs on this disk, with nothing around it.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::measure::Figures;

/// Appends 4 KiB and waits for fdatasync, again and again.
pub fn fdatasync(folder: &Path, seconds: Duration) -> Figures {
    let mut file = tempfile::tempfile_in(folder).expect("a file in the folder");
    let block = [7_u8; 4096];
    let mut figures = Figures::default();
    let start = Instant::now();
    while start.elapsed() < seconds {
        let since = Instant::now();
        file.write_all(&block).expect("room on the disk");
        file.sync_data().expect("a disk that syncs");
        figures.answered(since);
    }
    Figures::merge([figures], start.elapsed())
}
