//! Budgets, and the refusals that their brakes count.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::codes::{Coded as _, Sql};
use super::keys::json;
use super::listing::Listing;
use crate::clock::timestamp;
use crate::model::{Budget, BudgetFilter, BudgetState, Page};
use crate::store::{BudgetNumber, FullBudget, ListError, RequestNumber, StoreError};

pub const COLUMNS: &str = "number, name, parent, (SELECT name FROM budgets p WHERE p.number = budgets.parent), caps, time_zone, \
    state, trip_on, duplicates, rule_version, version, created_at, tripped_at, metadata";

pub fn full_budget(row: &Row<'_>) -> rusqlite::Result<FullBudget> {
    fn read<T: serde::de::DeserializeOwned>(
        row: &Row<'_>,
        index: usize,
    ) -> rusqlite::Result<Option<T>> {
        let text: Option<String> = row.get(index)?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
            })
    }
    Ok(FullBudget {
        number: row.get(0)?,
        parent: row.get(2)?,
        budget: Budget {
            name: row.get(1)?,
            parent: row.get(3)?,
            caps: read(row, 4)?.unwrap_or_default(),
            time_zone: row.get(5)?,
            state: row.get::<_, Sql<BudgetState>>(6)?.0,
            trip_on: read(row, 7)?,
            duplicates: read(row, 8)?,
            rule_version: row.get::<_, i64>(9)?.cast_unsigned(),
            version: row.get::<_, i64>(10)?.cast_unsigned(),
            created_at: timestamp(row.get(11)?),
            tripped_at: row.get::<_, Option<i64>>(12)?.map(timestamp),
            metadata: read(row, 13)?,
        },
    })
}

pub fn by_number(
    connection: &Connection,
    number: BudgetNumber,
) -> Result<Option<FullBudget>, StoreError> {
    Ok(connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM budgets WHERE number = ?1"))?
        .query_row([number], full_budget)
        .optional()?)
}

pub fn by_name(connection: &Connection, name: &str) -> Result<Option<FullBudget>, StoreError> {
    Ok(connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM budgets WHERE name = ?1"))?
        .query_row([name], full_budget)
        .optional()?)
}

pub fn add(
    connection: &Connection,
    budget: &Budget,
    parent: Option<BudgetNumber>,
) -> Result<BudgetNumber, StoreError> {
    connection
        .prepare_cached("INSERT OR FAIL INTO subjects DEFAULT VALUES")?
        .execute([])?;
    let number = connection.last_insert_rowid();
    connection
        .prepare_cached(
            "INSERT OR FAIL INTO budgets (number, name, parent, caps, time_zone, state, trip_on, duplicates, rule_version, version,
                                          created_at, tripped_at, metadata)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            number,
            budget.name,
            parent,
            json(&budget.caps)?,
            budget.time_zone,
            budget.state.code(),
            budget.trip_on.as_ref().map(json).transpose()?,
            budget.duplicates.as_ref().map(json).transpose()?,
            budget.rule_version.cast_signed(),
            budget.version.cast_signed(),
            budget.created_at.as_millisecond(),
            budget.tripped_at.map(|at| at.as_millisecond()),
            budget.metadata.as_ref().map(json).transpose()?,
        ])?;
    Ok(number)
}

pub fn change(
    connection: &Connection,
    number: BudgetNumber,
    budget: &Budget,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE OR FAIL budgets SET caps = ?2, state = ?3, trip_on = ?4, duplicates = ?5, rule_version = ?6, version = ?7,
                                        tripped_at = ?8, metadata = ?9
             WHERE number = ?1",
        )?
        .execute(params![
            number,
            json(&budget.caps)?,
            budget.state.code(),
            budget.trip_on.as_ref().map(json).transpose()?,
            budget.duplicates.as_ref().map(json).transpose()?,
            budget.rule_version.cast_signed(),
            budget.version.cast_signed(),
            budget.tripped_at.map(|at| at.as_millisecond()),
            budget.metadata.as_ref().map(json).transpose()?,
        ])?;
    Ok(())
}

pub fn note_refusal(
    connection: &Connection,
    budget: BudgetNumber,
    request: RequestNumber,
    at: i64,
    since: i64,
) -> Result<u64, StoreError> {
    connection
        .prepare_cached("INSERT OR FAIL INTO refusals (budget, at, request) VALUES (?1, ?2, ?3)")?
        .execute(params![budget, at, request])?;
    connection
        .prepare_cached("DELETE FROM refusals WHERE budget = ?1 AND at <= ?2")?
        .execute(params![budget, since])?;
    let left: i64 = connection
        .prepare_cached("SELECT count(*) FROM refusals WHERE budget = ?1")?
        .query_row([budget], |row| row.get(0))?;
    Ok(left.cast_unsigned())
}

pub fn forget_refusals(connection: &Connection, budget: BudgetNumber) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM refusals WHERE budget = ?1")?
        .execute([budget])?;
    Ok(())
}

/// A page of budgets.
pub fn page_of(connection: &Connection, filter: &BudgetFilter) -> Result<Page<Budget>, ListError> {
    let BudgetFilter {
        state,
        parent,
        limit,
        cursor,
    } = filter;
    let mut listing = Listing::new();
    if let Some(state) = state {
        listing.and("state = ?#", state.code());
    }
    if let Some(parent) = parent {
        listing.and(
            "parent = (SELECT number FROM budgets p WHERE p.name = ?#)",
            parent.clone(),
        );
    }
    listing.page(
        connection,
        (COLUMNS, "budgets"),
        (cursor.as_deref(), *limit),
        full_budget,
        |budget| budget.number,
        |budget| budget.budget,
    )
}
