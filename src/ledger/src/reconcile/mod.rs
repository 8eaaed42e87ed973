//! The reconciler: settles requests whose outcome nobody knows by the vendor's own records, and by nothing else.
//!
//! Here: which records are read, what they show about which request, the loop that reads them through Envoy like any caller,
//! and what came of it. Not here: what evidence may decide (`book`), how it is applied (`engine`), where a vendor's records
//! stand (the vendor's pack). A request is never sent again: there is nothing here that could write at a vendor.

mod absence;
mod calls;
mod judge;
mod keys;
mod page;
mod pass;
mod report;
mod search;
mod state;
mod task;

pub use keys::LABEL;
pub use report::{Decided, Failure, Report, Unsettled, Why};
pub use state::{Counts, Progress, Reconciler, Shown};
pub use task::{Settings, Task};

/// Milliseconds by which the vendor's clock and ours may differ.
const SKEW_MS: i64 = 300_000;

#[cfg(test)]
mod tests;
