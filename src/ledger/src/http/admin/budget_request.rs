//! What the admin API reads of budgets: one to be made, a change of one.

use crate::book::canonical_zone;
use crate::http::admin::caps::{
    Whose, changed_caps, changed_duplicates, new_caps, new_duplicates, trip_on,
};
use crate::http::admin::terms::metadata;
use crate::http::fields::{self, Fields};
use crate::http::problem::FieldError;
use crate::model::{Budget, BudgetChange, BudgetState, NewBudget};

/// Fields of `POST /admin/budgets`.
pub const NEW_FIELDS: &[&str] = &[
    "name",
    "parent",
    "daily_usd_cap",
    "per_request_usd_cap",
    "monthly_usd_cap",
    "rolling_usd_cap",
    "rolling_hours",
    "lifetime_usd_cap",
    "uncapped",
    "time_zone",
    "trip_on",
    "duplicate_window_seconds",
    "duplicate_fields",
    "metadata",
];

/// Fields of `PATCH /admin/budgets/{name}`.
pub const CHANGE_FIELDS: &[&str] = &[
    "state",
    "daily_usd_cap",
    "per_request_usd_cap",
    "monthly_usd_cap",
    "rolling_usd_cap",
    "rolling_hours",
    "lifetime_usd_cap",
    "uncapped",
    "trip_on",
    "duplicate_window_seconds",
    "duplicate_fields",
    "metadata",
    "parent",
];

/// Words of `state` that may be set. A brake trips by itself.
pub const SET_STATES: &[(&str, BudgetState)] = &[
    ("open", BudgetState::Open),
    ("frozen", BudgetState::Frozen),
    ("closed", BudgetState::Closed),
];

/// Longest name.
const MAX_NAME: usize = 64;

/// Reads the body of `POST /admin/budgets`.
///
/// # Errors
/// Every fault, by field.
pub fn new_budget(text: &str) -> Result<NewBudget, Vec<FieldError>> {
    let mut fields = Fields::read(text, "", NEW_FIELDS).map_err(|fault| vec![fault])?;
    let name = fields.need("name", budget_name);
    let parent = fields.take("parent", budget_name);
    if name.is_some() && name == parent {
        fields.fault(
            "parent",
            "would make a cycle: a budget is not its own parent",
        );
    }
    let caps = new_caps(&mut fields, Whose::Budget);
    let time_zone = fields.take("time_zone", time_zone);
    let trip_on = fields.take("trip_on", trip_on);
    let duplicates = new_duplicates(&mut fields);
    let metadata = fields.take("metadata", metadata);
    fields.finish()?;
    let (Some(name), Some(caps)) = (name, caps) else {
        return Err(vec![FieldError::new("", "cannot be read")]);
    };
    Ok(NewBudget {
        name,
        parent,
        caps,
        time_zone: time_zone.unwrap_or_else(|| "UTC".to_owned()),
        trip_on,
        duplicates,
        metadata,
    })
}

/// Reads the body of `PATCH /admin/budgets/{name}` against the budget as it is. What is not named stays.
///
/// # Errors
/// Every fault, by field.
pub fn change(text: &str, budget: &Budget) -> Result<BudgetChange, Vec<FieldError>> {
    let mut fields = Fields::read(text, "", CHANGE_FIELDS).map_err(|fault| vec![fault])?;
    if text.trim_ascii().trim_start_matches('{').trim_ascii_start() == "}" {
        fields.fault(
            "",
            format!(
                "nothing to change; give at least one of {}",
                CHANGE_FIELDS.join(", ")
            ),
        );
    }
    let state = fields.take("state", |raw| {
        let word = fields::string(raw)?;
        let found = SET_STATES.iter().find(|(known, _)| *known == word);
        found
            .map(|(_, state)| *state)
            .ok_or_else(|| "must be one of open, frozen, closed".to_owned())
    });
    let change = BudgetChange {
        caps: changed_caps(&mut fields, budget.caps, Whose::Budget),
        state,
        trip_on: fields.take_nullable("trip_on", trip_on),
        duplicates: changed_duplicates(&mut fields, budget.duplicates.as_ref()),
        metadata: fields.take("metadata", metadata),
        parent: fields.take_nullable("parent", budget_name),
    };
    fields.finish()?;
    Ok(change)
}

/// The name of a budget: it stands in paths and headers.
///
/// # Errors
/// Says what is wanted.
pub fn budget_name(text: &str) -> Result<String, String> {
    let name = fields::name(MAX_NAME)(text)?;
    if name.starts_with(|letter: char| letter.is_ascii_alphanumeric()) {
        Ok(name)
    } else {
        Err("must begin with a letter or a digit".to_owned())
    }
}

fn time_zone(text: &str) -> Result<String, String> {
    let name = fields::string(text)?;
    canonical_zone(&name).ok_or_else(|| {
        format!(
            "`{}` is no time zone; give an IANA name such as Europe/Berlin",
            fields::shorten(&name)
        )
    })
}

#[cfg(test)]
#[path = "budget_request_tests.rs"]
mod tests;
