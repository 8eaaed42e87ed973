//! How budgets look in the admin API's answers.

use jiff::Timestamp;
use serde::Serialize;

use super::view::{BalanceView, cents};
use crate::model::{Balance, Budget, BudgetState, TripOn};

/// One budget.
#[derive(Serialize)]
pub struct BudgetView<'a> {
    name: &'a str,
    parent: Option<&'a str>,
    state: BudgetState,
    time_zone: &'a str,
    daily_usd_cap: Option<String>,
    per_request_usd_cap: Option<String>,
    monthly_usd_cap: Option<String>,
    rolling_usd_cap: Option<String>,
    rolling_hours: Option<u16>,
    lifetime_usd_cap: Option<String>,
    uncapped: bool,
    trip_on: Option<TripOn>,
    duplicate_window_seconds: Option<u32>,
    duplicate_fields: Option<&'a [String]>,
    metadata: Option<&'a serde_json::Value>,
    version: u64,
    created_at: Timestamp,
    tripped_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balances: Option<Vec<BalanceView<'a>>>,
}

/// A page of budgets.
#[derive(Serialize)]
pub struct BudgetList<'a> {
    /// The budgets.
    pub budgets: Vec<BudgetView<'a>>,
    /// Where the next page begins.
    pub next_cursor: Option<&'a str>,
}

impl<'a> BudgetView<'a> {
    /// A budget, without balances.
    #[must_use]
    pub fn of(budget: &'a Budget) -> Self {
        let Budget {
            name,
            parent,
            caps,
            time_zone,
            state,
            trip_on,
            duplicates,
            rule_version: _,
            version,
            created_at,
            tripped_at,
            metadata,
        } = budget;
        let rule = duplicates.as_ref();
        Self {
            name,
            parent: parent.as_deref(),
            state: *state,
            time_zone,
            daily_usd_cap: caps.daily.map(cents),
            per_request_usd_cap: caps.per_request.map(cents),
            monthly_usd_cap: caps.monthly.map(cents),
            rolling_usd_cap: caps.rolling.map(|rolling| cents(rolling.cap)),
            rolling_hours: caps.rolling.map(|rolling| rolling.hours),
            lifetime_usd_cap: caps.lifetime.map(cents),
            uncapped: caps.is_uncapped(),
            trip_on: *trip_on,
            duplicate_window_seconds: rule.map(|rule| rule.window_seconds),
            duplicate_fields: rule.map(|rule| rule.fields.as_slice()),
            metadata: metadata.as_ref(),
            version: *version,
            created_at: *created_at,
            tripped_at: *tripped_at,
            balances: None,
        }
    }

    /// The same with these balances.
    #[must_use]
    pub fn with(self, balances: &'a [Balance]) -> Self {
        Self {
            balances: Some(balances.iter().map(BalanceView::of).collect()),
            ..self
        }
    }
}
