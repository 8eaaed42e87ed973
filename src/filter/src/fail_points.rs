//! Traps on demand, for tests of what a trap costs. Only in builds with the feature `fail_points`.

use crate::host::HeaderBytes;
use crate::worker::Worker;

const HEADER: &[u8] = b"x-keybrake-fail-point";

/// `trap`: here and now. `trap-root`: in the next callback of the root.
pub(crate) fn on_headers(headers: &HeaderBytes, worker: &Worker) {
    let point = headers
        .iter()
        .find(|(name, _)| name == HEADER)
        .map(|(_, value)| value.as_slice());
    match point {
        Some(b"trap") => trap(),
        Some(b"trap-root") => worker.root_traps.set(true),
        _ => {}
    }
}

/// Ends the VM as a defect of ours would.
#[expect(clippy::panic, reason = "this is what the feature is for")]
pub(crate) fn trap() -> ! {
    panic!("asked to trap")
}
