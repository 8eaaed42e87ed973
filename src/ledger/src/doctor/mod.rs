//! Whether the gate works: canaries through Envoy's listeners, and what Envoy's own configuration says.
//!
//! A canary is a request with a vault key that nobody issued: a gate that works refuses it, and nothing goes to the vendor. So
//! an Envoy that dropped a field it does not know, a filter that is missing or in the wrong place, and a filter that fails open are
//! found before money is. Here: canaries, and judging what came back. Not here: what is printed (`cli`).

mod canary;
mod config;
mod envoy;
mod examine;
mod judge;
mod watch;

use serde::Serialize;

pub use canary::{InvalidTarget, Target};
pub use envoy::{Admin, InvalidAdmin};
pub use examine::examine;
pub use watch::{GateWatch, watch};

/// Whether one thing is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is.
    Ok,
    /// It is not, and money may be at risk or requests do not come through.
    Fault,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub checked: String,
    /// How it is.
    pub state: State,
    /// What was seen, and what to do about a fault.
    pub detail: String,
}

impl Finding {
    fn ok(checked: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            checked: checked.into(),
            state: State::Ok,
            detail: detail.into(),
        }
    }

    fn fault(checked: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            checked: checked.into(),
            state: State::Fault,
            detail: detail.into(),
        }
    }
}
