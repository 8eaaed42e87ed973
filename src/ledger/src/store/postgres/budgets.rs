//! Budgets, the refusals that their brakes count, and the purchases that rules about equal ones know.

use keybrake_contract::digest::Digest;
use tokio_postgres::Row;

use super::link::{Link, Question};
use super::pending::rare;
use super::read::Conditions;
use super::rows::{code, get, json, json_if_any, parameters, text};
use super::statements;
use super::turn::PostgresStore;
use crate::clock::timestamp;
use crate::model::{Budget, BudgetFilter, Page};
use crate::store::codes::Coded as _;
use crate::store::paging::{page, page_size};
use crate::store::{
    BudgetNumber, FullBudget, KeyNumber, ListError, Purchase, RequestNumber, StoreError,
};

/// The columns of [`full_budget`] of a table `b`.
macro_rules! budget_columns {
    () => {
        "b.number, b.name, b.parent, (SELECT p.name FROM budgets p WHERE p.number = b.parent), b.caps, b.time_zone, \
         b.state, b.trip_on, b.duplicates, b.rule_version, b.version, b.created_at, b.tripped_at, b.metadata"
    };
}
pub(super) use budget_columns;

pub fn full_budget(row: &Row) -> Result<FullBudget, StoreError> {
    Ok(FullBudget {
        number: get(row, 0)?,
        parent: get(row, 2)?,
        budget: Budget {
            name: get(row, 1)?,
            parent: get(row, 3)?,
            caps: json(row, 4)?,
            time_zone: get(row, 5)?,
            state: code(row, 6)?,
            trip_on: json_if_any(row, 7)?,
            duplicates: json_if_any(row, 8)?,
            rule_version: get::<i64>(row, 9)?.cast_unsigned(),
            version: get::<i64>(row, 10)?.cast_unsigned(),
            created_at: timestamp(get(row, 11)?),
            tripped_at: get::<Option<i64>>(row, 12)?.map(timestamp),
            metadata: json_if_any(row, 13)?,
        },
    })
}

impl PostgresStore {
    /// Reads all up to the root: they are asked for next.
    pub(super) fn budget(
        &mut self,
        number: BudgetNumber,
    ) -> Result<Option<FullBudget>, StoreError> {
        if let Some(known) = self.known.facts.budgets.get(&number) {
            return Ok(Some(known.clone()));
        }
        let rows = self.ask_all_sent(
            concat!(
                "WITH RECURSIVE way (number, parent) AS (
                     SELECT b.number, b.parent FROM budgets b WHERE b.number = $1
                     UNION SELECT b.number, b.parent FROM way w JOIN budgets b ON b.number = w.parent)
                 SELECT ",
                budget_columns!(),
                " FROM way w JOIN budgets b ON b.number = w.number"
            ),
            parameters![number],
        )?;
        for row in &rows {
            let budget = full_budget(row)?;
            self.known.facts.budgets.insert(budget.number, budget);
        }
        Ok(self.known.facts.budgets.get(&number).cloned())
    }

    pub(super) fn budget_by_name(&mut self, name: &str) -> Result<Option<FullBudget>, StoreError> {
        self.flush()?;
        by_name(self.connection()?, name)
    }

    pub(super) fn add_budget(
        &mut self,
        budget: &Budget,
        parent: Option<BudgetNumber>,
    ) -> Result<BudgetNumber, StoreError> {
        let number = self.new_subject()?;
        self.pending.rare.push(rare(
            "INSERT INTO budgets (number, name, parent, caps, time_zone, state, trip_on, duplicates, rule_version, version,
                                  created_at, tripped_at, metadata)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            parameters![
                number,
                text(&budget.name),
                parent,
                statements::json(&budget.caps)?,
                text(&budget.time_zone),
                budget.state.code(),
                statements::json_if_any(budget.trip_on.as_ref())?,
                statements::json_if_any(budget.duplicates.as_ref())?,
                budget.rule_version.cast_signed(),
                budget.version.cast_signed(),
                budget.created_at.as_millisecond(),
                budget.tripped_at.map(|at| at.as_millisecond()),
                statements::json_if_any(budget.metadata.as_ref())?,
            ],
            Some(1),
        ));
        let full = FullBudget {
            number,
            parent,
            budget: budget.clone(),
        };
        self.known.facts.budgets.insert(number, full);
        Ok(number)
    }

    pub(super) fn change_budget(
        &mut self,
        number: BudgetNumber,
        budget: &Budget,
    ) -> Result<(), StoreError> {
        self.pending.rare.push(rare(
            "UPDATE budgets SET caps = $2, state = $3, trip_on = $4, duplicates = $5, rule_version = $6, version = $7,
                    tripped_at = $8, metadata = $9
             WHERE number = $1",
            parameters![
                number,
                statements::json(&budget.caps)?,
                budget.state.code(),
                statements::json_if_any(budget.trip_on.as_ref())?,
                statements::json_if_any(budget.duplicates.as_ref())?,
                budget.rule_version.cast_signed(),
                budget.version.cast_signed(),
                budget.tripped_at.map(|at| at.as_millisecond()),
                statements::json_if_any(budget.metadata.as_ref())?,
            ],
            Some(1),
        ));
        if let Some(known) = self.known.facts.budgets.get_mut(&number) {
            known.budget = budget.clone();
        }
        Ok(())
    }

    pub(super) fn note_refusal(
        &mut self,
        budget: BudgetNumber,
        request: RequestNumber,
        at: i64,
        since: i64,
    ) -> Result<u64, StoreError> {
        self.pending.rare.push(rare(
            "INSERT INTO refusals (budget, at, request) VALUES ($1, $2, $3)",
            parameters![budget, at, request],
            Some(1),
        ));
        self.pending.rare.push(rare(
            "DELETE FROM refusals WHERE budget = $1 AND at <= $2",
            parameters![budget, since],
            None,
        ));
        let rows = self.ask_all_sent(
            "SELECT count(*) FROM refusals WHERE budget = $1",
            parameters![budget],
        )?;
        let left = rows.first().map(|row| get::<i64>(row, 0)).transpose()?;
        Ok(left.unwrap_or_default().cast_unsigned())
    }

    pub(super) fn forget_refusals(&mut self, budget: BudgetNumber) -> Result<(), StoreError> {
        self.pending.rare.push(rare(
            "DELETE FROM refusals WHERE budget = $1",
            parameters![budget],
            None,
        ));
        Ok(())
    }

    pub(super) fn purchase(
        &mut self,
        subject: KeyNumber,
        digest: &Digest,
    ) -> Result<Option<Purchase>, StoreError> {
        if let Some(known) = self.known.facts.purchases.get(&(subject, *digest)) {
            return Ok(*known);
        }
        let rows = self.ask(
            "SELECT request, at FROM purchases WHERE subject = $1 AND digest = $2",
            parameters![subject, digest.as_bytes().to_vec()],
        )?;
        let found = match rows.first() {
            Some(row) => Some(Purchase {
                request: get(row, 0)?,
                at: get(row, 1)?,
            }),
            None => None,
        };
        self.known.facts.purchases.insert((subject, *digest), found);
        Ok(found)
    }

    pub(super) fn set_purchase(
        &mut self,
        subject: KeyNumber,
        digest: &Digest,
        purchase: Purchase,
        until: i64,
    ) -> Result<(), StoreError> {
        let known = &mut self.known.facts.purchases;
        known.insert((subject, *digest), Some(purchase));
        let place = (subject, *digest.as_bytes());
        self.pending.purchases.insert(place, (purchase, until));
        Ok(())
    }

    pub(super) fn prune_purchases(&mut self, now: i64, most: u32) -> Result<u32, StoreError> {
        let gone = self.ask_all_sent(
            "DELETE FROM purchases WHERE (subject, digest) IN
                 (SELECT subject, digest FROM purchases WHERE until <= $1 ORDER BY until LIMIT $2)
             RETURNING 1::bigint",
            parameters![now, i64::from(most)],
        )?;
        if !gone.is_empty() {
            self.known.facts.purchases.clear();
            self.has_written()?;
        }
        Ok(u32::try_from(gone.len()).unwrap_or(u32::MAX))
    }
}

pub fn by_name(link: &mut Link, name: &str) -> Result<Option<FullBudget>, StoreError> {
    let rows = link.ask(&Question::new(
        concat!(
            "SELECT ",
            budget_columns!(),
            " FROM budgets b WHERE b.name = $1"
        ),
        parameters![text(name)],
    ))?;
    rows.first().map(full_budget).transpose()
}

/// A page of budgets.
pub fn page_of(link: &mut Link, filter: &BudgetFilter) -> Result<Page<Budget>, ListError> {
    let BudgetFilter {
        state,
        parent,
        limit,
        cursor,
    } = filter;
    let mut conditions = Conditions::default();
    if let Some(state) = state {
        conditions.need("b.state =", state.code());
    }
    if let Some(parent) = parent {
        let parent = conditions.value(text(parent));
        conditions.texts.push(format!(
            "b.parent = (SELECT p.number FROM budgets p WHERE p.name = {parent})"
        ));
    }
    if let Some(cursor) = cursor {
        let before: i64 = cursor.parse().map_err(|_| ListError::InvalidCursor)?;
        conditions.need("b.number <", before);
    }
    let limit = page_size(*limit);
    let sql = format!(
        "SELECT {} FROM budgets b WHERE {} ORDER BY b.number DESC LIMIT {}",
        budget_columns!(),
        conditions.joined(),
        limit.saturating_add(1)
    );
    let rows = link.ask_text(&sql, &conditions.values)?;
    let found = rows
        .iter()
        .map(full_budget)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(page(
        found,
        limit,
        |budget| budget.number.to_string(),
        |budget| budget.budget,
    ))
}
