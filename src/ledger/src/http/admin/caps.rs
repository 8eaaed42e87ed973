//! Caps, brakes and rules about equal purchases, read from their fields: the same for keys and budgets.

use crate::http::admin::terms::MAX_TEXT;
use crate::http::fields::{self, Fields};
use crate::model::{Caps, DuplicateRule, Rolling, TripOn};

/// Longest rolling window, in hours: 31 days.
const MAX_HOURS: u64 = 744;
/// Longest time for which equal purchases are refused: 30 days.
const MAX_DUPLICATE_SECONDS: u64 = 30 * 24 * 60 * 60;
/// Most refusals that a brake counts.
const MAX_REFUSALS: u64 = 1_000;
/// Longest time over which a brake counts: a day.
const MAX_TRIP_SECONDS: u64 = 24 * 60 * 60;
/// What makes a purchase, when nothing is said.
const DEFAULT_FIELDS: [&str; 3] = ["customer", "amount", "currency"];

const CAP_FIELDS: [&str; 5] = [
    "daily_usd_cap",
    "per_request_usd_cap",
    "monthly_usd_cap",
    "rolling_usd_cap",
    "lifetime_usd_cap",
];

/// Whose caps are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A key's: `max_requests` is among them.
    Key,
    /// A budget's.
    Budget,
}

/// Caps of a new key or budget: at least one on money, or `"uncapped": true`. A key that names a budget may leave them to it.
pub fn new_caps(fields: &mut Fields<'_>, whose: Whose) -> Option<Caps> {
    let named = CAP_FIELDS.iter().any(|name| fields.has(name));
    let is_left_to_budget = whose == Whose::Key && fields.has("budget");
    let caps = Caps {
        per_request: fields.take("per_request_usd_cap", fields::usd),
        daily: fields.take("daily_usd_cap", fields::usd),
        monthly: fields.take("monthly_usd_cap", fields::usd),
        rolling: new_rolling(fields),
        lifetime: fields.take("lifetime_usd_cap", fields::usd),
        max_requests: match whose {
            Whose::Key => fields.take("max_requests", fields::whole(1, fields::MAX_EXACT)),
            Whose::Budget => None,
        },
    };
    let has_uncapped = fields.has("uncapped");
    let uncapped = fields.take("uncapped", fields::boolean);
    if has_uncapped && uncapped.is_none() {
        return None;
    }
    match (uncapped.unwrap_or(false), named) {
        (true, true) => fields.fault("uncapped", "contradicts the caps on money: give one or the other"),
        (false, false) if is_left_to_budget => return Some(caps),
        (false, false) if caps.max_requests.is_some() => fields.fault(
            "max_requests",
            "is not a cap on money: add at least one of daily_usd_cap, per_request_usd_cap, monthly_usd_cap, \
             rolling_usd_cap, lifetime_usd_cap, or \"uncapped\": true",
        ),
        (false, false) => fields.fault(
            "daily_usd_cap",
            "give at least one cap (daily_usd_cap, per_request_usd_cap, monthly_usd_cap, rolling_usd_cap, \
             lifetime_usd_cap), or \"uncapped\": true",
        ),
        (true, false) | (false, true) => return Some(caps),
    }
    None
}

fn new_rolling(fields: &mut Fields<'_>) -> Option<Rolling> {
    let (has_cap, has_hours) = (fields.has("rolling_usd_cap"), fields.has("rolling_hours"));
    let cap = fields.take("rolling_usd_cap", fields::usd);
    let hours = fields.take("rolling_hours", hours);
    match (has_cap, has_hours) {
        (true, false) => fields.fault(
            "rolling_hours",
            "is missing: the cap holds in any so many hours",
        ),
        (false, true) => fields.fault("rolling_hours", "counts only with rolling_usd_cap"),
        _ => {}
    }
    Some(Rolling {
        cap: cap?,
        hours: hours?,
    })
}

fn hours(text: &str) -> Result<u16, String> {
    fields::whole(1, MAX_HOURS)(text).map(|hours| u16::try_from(hours).unwrap_or(u16::MAX))
}

/// A whole number that fits.
fn small(min: u64, max: u64) -> impl FnOnce(&str) -> Result<u32, String> {
    move |text| {
        fields::whole(min, max)(text).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }
}

/// Caps after a change: those that are named, over those before. A cap of `null` is taken away.
pub fn changed_caps(fields: &mut Fields<'_>, before: Caps, whose: Whose) -> Option<Caps> {
    let mut caps = before;
    if let Some(cap) = fields.take_nullable("per_request_usd_cap", fields::usd) {
        caps.per_request = cap;
    }
    if let Some(cap) = fields.take_nullable("daily_usd_cap", fields::usd) {
        caps.daily = cap;
    }
    if let Some(cap) = fields.take_nullable("monthly_usd_cap", fields::usd) {
        caps.monthly = cap;
    }
    if let Some(cap) = fields.take_nullable("lifetime_usd_cap", fields::usd) {
        caps.lifetime = cap;
    }
    changed_rolling(fields, &mut caps.rolling);
    if whose == Whose::Key
        && let Some(most) =
            fields.take_nullable("max_requests", fields::whole(1, fields::MAX_EXACT))
    {
        caps.max_requests = most;
    }
    match fields.take("uncapped", fields::boolean) {
        Some(true) if !caps.is_uncapped() => {
            fields.fault(
                "uncapped",
                "contradicts the caps on money: set each of them to null as well",
            );
        }
        Some(false) if caps.is_uncapped() => {
            fields.fault("uncapped", "give at least one cap on money")
        }
        None if caps.is_uncapped() && !before.is_uncapped() => {
            fields.fault(
                "uncapped",
                "the last cap on money would go: say \"uncapped\": true as well",
            );
        }
        _ => {}
    }
    (caps != before).then_some(caps)
}

fn changed_rolling(fields: &mut Fields<'_>, rolling: &mut Option<Rolling>) {
    let cap = fields.take_nullable("rolling_usd_cap", fields::usd);
    let hours = fields.take("rolling_hours", hours);
    let known = hours.or(rolling.map(|before| before.hours));
    match (cap, known) {
        (Some(None), _) if hours.is_none() => *rolling = None,
        (Some(Some(cap)), Some(hours)) => *rolling = Some(Rolling { cap, hours }),
        (Some(Some(_)), None) => fields.fault("rolling_hours", "is missing"),
        (None, Some(hours)) if rolling.is_some() => {
            *rolling = rolling.map(|before| Rolling { hours, ..before });
        }
        (None, None) => {}
        _ => fields.fault("rolling_hours", "counts only with rolling_usd_cap"),
    }
}

/// The rule about equal purchases of a new key or budget.
pub fn new_duplicates(fields: &mut Fields<'_>) -> Option<DuplicateRule> {
    let has_window = fields.has("duplicate_window_seconds");
    if !has_window && fields.has("duplicate_fields") {
        fields.fault(
            "duplicate_fields",
            "counts only with duplicate_window_seconds",
        );
    }
    let window = fields.take("duplicate_window_seconds", small(1, MAX_DUPLICATE_SECONDS));
    let names = fields.take("duplicate_fields", fields::texts(32, MAX_TEXT));
    Some(DuplicateRule {
        window_seconds: window?,
        fields: names.unwrap_or_else(default_fields),
    })
}

/// The rule after a change. A window of `null` takes it away.
pub fn changed_duplicates(
    fields: &mut Fields<'_>,
    before: Option<&DuplicateRule>,
) -> Option<Option<DuplicateRule>> {
    let window = fields.take_nullable("duplicate_window_seconds", small(1, MAX_DUPLICATE_SECONDS));
    let names = fields.take("duplicate_fields", fields::texts(32, MAX_TEXT));
    let after = match (window, names, before) {
        (Some(None), None, _) => None,
        (Some(Some(window_seconds)), names, before) => Some(DuplicateRule {
            window_seconds,
            fields: names
                .or_else(|| before.map(|rule| rule.fields.clone()))
                .unwrap_or_else(default_fields),
        }),
        (None, Some(names), Some(before)) => Some(DuplicateRule {
            fields: names,
            ..before.clone()
        }),
        (None, None, _) => return None,
        (Some(None), Some(_), _) | (None, Some(_), None) => {
            fields.fault(
                "duplicate_fields",
                "counts only with duplicate_window_seconds",
            );
            return None;
        }
    };
    Some(after)
}

fn default_fields() -> Vec<String> {
    DEFAULT_FIELDS.map(str::to_owned).to_vec()
}

/// Reads a brake: `{"refusals": 5, "within_seconds": 60}`.
///
/// # Errors
/// Says what is wanted.
pub fn trip_on(text: &str) -> Result<TripOn, String> {
    let mut brake = Fields::read(text, "", &["refusals", "within_seconds"])
        .map_err(|_| "must be an object with `refusals` and `within_seconds`".to_owned())?;
    let refusals = brake.need("refusals", small(1, MAX_REFUSALS));
    let within_seconds = brake.need("within_seconds", small(1, MAX_TRIP_SECONDS));
    brake.finish().map_err(|faults| {
        let told = faults
            .into_iter()
            .map(|fault| format!("`{}` {}", fault.field, fault.message));
        told.collect::<Vec<_>>().join("; ")
    })?;
    refusals
        .zip(within_seconds)
        .map(|(refusals, within_seconds)| TripOn {
            refusals,
            within_seconds,
        })
        .ok_or_else(|| "cannot be read".to_owned())
}
