//! What the events of keys and budgets say of them, and what their rows must therefore say.

use serde_json::{Value, json};

use crate::model::{Budget, Key};

/// The key as it is after an event; never its digest. Members sorted, nothing absent written.
#[must_use]
pub fn key_facts(key: &Key) -> Value {
    // A `Value` keeps the members of every object sorted.
    without_nulls(json!({
        "budget": key.budget,
        "caps": key.caps,
        "duplicates": key.duplicates,
        "expires_at": key.expires_at.as_millisecond(),
        "grant": key.grant,
        "key_id": key.key_id,
        "label": key.label,
        "workspace": key.workspace,
        "worst_case": key.worst_case,
    }))
}

/// The budget as it is after an event. Members sorted, nothing absent written.
#[must_use]
pub fn budget_facts(budget: &Budget) -> Value {
    without_nulls(json!({
        "budget": budget.name,
        "caps": budget.caps,
        "duplicates": budget.duplicates,
        "parent": budget.parent,
        "state": budget.state,
        "time_zone": budget.time_zone,
        "trip_on": budget.trip_on,
        "version": budget.version,
    }))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, member)| !member.is_null())
            .map(|(name, member)| (name, without_nulls(member)))
            .collect(),
        other => other,
    }
}
