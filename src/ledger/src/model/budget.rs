//! Budgets: named shared caps that keys draw from. They form a tree.

use jiff::Timestamp;

use super::{Balance, Caps};

/// Most budgets on the way from one to its root, both counted.
pub const MAX_DEPTH: usize = 8;

/// When equal purchases under different idempotency keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DuplicateRule {
    /// Request fields that make a purchase. Never empty.
    pub fields: Vec<String>,
    /// For so long after a purchase an equal one is refused. 1 second to 30 days.
    pub window_seconds: u32,
}

/// When a budget's brake trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TripOn {
    /// So many refusals; 1 to 1,000.
    pub refusals: u32,
    /// Within so many seconds; 1 to 86,400.
    pub within_seconds: u32,
}

/// Whether something may be admitted under a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetState {
    /// It may.
    Open,
    /// Nothing new, until it is opened again.
    Frozen,
    /// Nothing new, for good.
    Closed,
    /// Nothing new: its brake has tripped. Until an admin opens it again.
    Tripped,
}

/// A budget on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Names it, for good.
    pub name: String,
    /// The budget that it draws from in turn, for good.
    pub parent: Option<String>,
    /// Its caps; never `max_requests`.
    pub caps: Caps,
    /// IANA name of the time zone of its days and months, for good: what is spent stays in its window.
    pub time_zone: String,
    /// See [`BudgetState`].
    pub state: BudgetState,
    /// Its brake.
    pub trip_on: Option<TripOn>,
    /// Its rule about equal purchases.
    pub duplicates: Option<DuplicateRule>,
    /// Rises with every change of `duplicates`: the grants of all keys under it change with it.
    pub rule_version: u64,
    /// Rises with every change.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its brake last tripped.
    pub tripped_at: Option<Timestamp>,
    /// The caller's own JSON object, returned as it came. At most 4 KiB.
    pub metadata: Option<serde_json::Value>,
}

/// A budget to be made.
#[derive(Debug, Clone)]
pub struct NewBudget {
    /// See [`Budget`].
    pub name: String,
    /// See [`Budget`].
    pub parent: Option<String>,
    /// See [`Budget`].
    pub caps: Caps,
    /// See [`Budget`]; known to be a time zone.
    pub time_zone: String,
    /// See [`Budget`].
    pub trip_on: Option<TripOn>,
    /// See [`Budget`].
    pub duplicates: Option<DuplicateRule>,
    /// See [`Budget`].
    pub metadata: Option<serde_json::Value>,
}

/// What to change about a budget. `None` = leave as it is.
#[derive(Debug, Clone, Default)]
pub struct BudgetChange {
    /// New caps, whole.
    pub caps: Option<Caps>,
    /// Open, frozen or closed.
    pub state: Option<BudgetState>,
    /// New brake, or none.
    pub trip_on: Option<Option<TripOn>>,
    /// New rule, or none.
    pub duplicates: Option<Option<DuplicateRule>>,
    /// New metadata.
    pub metadata: Option<serde_json::Value>,
    /// A parent that was named: taken only when it is the one it has.
    pub parent: Option<Option<String>>,
}

/// Which budgets to list: newest first.
#[derive(Debug, Clone, Default)]
pub struct BudgetFilter {
    /// State is.
    pub state: Option<BudgetState>,
    /// Parent is.
    pub parent: Option<String>,
    /// At most so many; 1 to 1000.
    pub limit: u32,
    /// From the previous page.
    pub cursor: Option<String>,
}

/// A budget and its balances of the present windows.
pub type BudgetNow = (Budget, Vec<Balance>);
