//! Reading connections: lists, balances, the chain.

use std::ops::ControlFlow;

use keybrake_contract::ids::CommandId;
use keybrake_contract::money::Micros;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::codes::digest;
use super::listing::Listing;
use super::{budgets, entries, keys, money, pieces, statements, write};
use crate::book::Parts;
use crate::engine::UnknownFigures;
use crate::model::{
    AuditQuery, Budget, BudgetFilter, Entry, Key, KeyFilter, KeyStatus, Page, Tally, UnknownQuery,
    UnknownRequest,
};
use crate::store::{
    ChainHead, EventRow, FullBudget, FullKey, ListError, Period, Piece, Reads, Spender, StoreError,
};

/// A connection that only reads.
pub struct SqliteReads {
    connection: Connection,
}

impl SqliteReads {
    pub(super) const fn new(connection: Connection) -> Self {
        Self { connection }
    }
}

impl Reads for SqliteReads {
    fn key(&mut self, key_id: &str) -> Result<Option<FullKey>, StoreError> {
        keys::by_id(&self.connection, key_id)
    }

    fn balances(
        &mut self,
        subject: i64,
        windows: &[(i64, i64)],
    ) -> Result<Vec<Option<Parts>>, StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        let balances = windows
            .iter()
            .map(|range| money::joined(&transaction, subject, *range))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(balances)
    }

    fn periods(
        &mut self,
        spender: Spender,
        periods: &[Period],
    ) -> Result<Vec<(Option<Parts>, Tally)>, StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        periods
            .iter()
            .map(|period| statements::period(&transaction, spender, period))
            .collect()
    }

    fn budget(&mut self, name: &str) -> Result<Option<FullBudget>, StoreError> {
        budgets::by_name(&self.connection, name)
    }

    fn budgets(&mut self, filter: &BudgetFilter) -> Result<Page<Budget>, ListError> {
        budgets::page_of(&self.connection, filter)
    }

    fn keys(&mut self, filter: &KeyFilter, now: i64) -> Result<Page<Key>, ListError> {
        let KeyFilter {
            label_prefix,
            vendor,
            workspace,
            budget,
            status,
            limit,
            cursor,
        } = filter;
        let mut listing = Listing::new();
        if let Some(prefix) = label_prefix {
            listing.and(
                "label >= ?# AND substr(label, 1, length(?#)) = ?#",
                prefix.clone(),
            );
        }
        if let Some(vendor) = vendor {
            listing.and("vendor = ?#", vendor.clone());
        }
        if let Some(workspace) = workspace {
            listing.and("workspace = ?#", workspace.clone());
        }
        if let Some(budget) = budget {
            listing.and(
                "budget IN (WITH RECURSIVE tree (number) AS (
                     SELECT number FROM budgets WHERE name = ?#
                     UNION ALL SELECT b.number FROM tree t JOIN budgets b ON b.parent = t.number)
                 SELECT number FROM tree)",
                budget.clone(),
            );
        }
        match status {
            None => {}
            Some(KeyStatus::Active) => listing.and("revoked_at IS NULL AND expires_at > ?#", now),
            Some(KeyStatus::Expired) => listing.and("revoked_at IS NULL AND expires_at <= ?#", now),
            Some(KeyStatus::Revoked) => {
                listing.and("revoked_at IS NOT NULL AND ?# >= 0", 0_i64);
            }
        }
        listing.page(
            &self.connection,
            (keys::COLUMNS, "keys"),
            (cursor.as_deref(), *limit),
            keys::full_key,
            |key| key.number,
            |key| key.key,
        )
    }

    fn entries(&mut self, query: &AuditQuery) -> Result<Page<Entry>, ListError> {
        let transaction = self
            .connection
            .unchecked_transaction()
            .map_err(StoreError::from)?;
        entries::page_of(&transaction, query)
    }

    fn unknown(&mut self, now: i64) -> Result<UnknownFigures, StoreError> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT count(*), coalesce(sum(cost), 0), min(at) FROM requests WHERE hold = 3 AND kind = 1",
            )?
            .query_row([], |row| unknown_figures(row, now))?)
    }

    fn unknown_of(&mut self, key_id: &str, now: i64) -> Result<UnknownFigures, StoreError> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT count(*), coalesce(sum(cost), 0), min(at) FROM requests
                 WHERE hold = 3 AND kind = 1 AND subject = (SELECT number FROM keys WHERE key_id = ?1)",
            )?
            .query_row([key_id], |row| unknown_figures(row, now))?)
    }

    fn unknown_requests(
        &mut self,
        query: &UnknownQuery,
        now: i64,
    ) -> Result<Page<UnknownRequest>, ListError> {
        let transaction = self
            .connection
            .unchecked_transaction()
            .map_err(StoreError::from)?;
        entries::unknown_page(&transaction, query, now)
    }

    fn entry(&mut self, id: CommandId) -> Result<Option<Entry>, StoreError> {
        entries::by_id(&self.connection, id)
    }

    fn chain_head(&mut self) -> Result<ChainHead, StoreError> {
        Ok(write::chain_head(&self.connection)?)
    }

    fn chain(
        &mut self,
        visit: &mut dyn FnMut(EventRow) -> ControlFlow<()>,
    ) -> Result<ChainHead, StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        let head = write::chain_head(&transaction)?;
        let mut statement =
            transaction.prepare_cached("SELECT seq, hash, body FROM events ORDER BY seq")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let event = EventRow {
                seq: row.get::<_, i64>(0)?.cast_unsigned(),
                hash: digest(row, 1)?,
                body: row.get(2)?,
            };
            if visit(event).is_break() {
                break;
            }
        }
        Ok(head)
    }

    fn pieces(
        &mut self,
        visit: &mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) -> Result<ChainHead, StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        let head = write::chain_head(&transaction)?;
        // Stopping early is what the visitor wanted: the head is the answer all the same.
        let _ = pieces::visit_all(&transaction, visit)?;
        Ok(head)
    }

    fn last_signed_heads(&mut self) -> Result<Option<String>, StoreError> {
        Ok(pieces::last_signed_heads(&self.connection)?)
    }
}

fn unknown_figures(row: &Row<'_>, now: i64) -> rusqlite::Result<UnknownFigures> {
    let oldest: Option<i64> = row.get(2)?;
    Ok(UnknownFigures {
        count: row.get::<_, i64>(0)?.cast_unsigned(),
        amount: row.get(1).map(Micros::new)?,
        oldest_age_ms: oldest.map(|at| now.saturating_sub(at).max(0)),
    })
}

/// The number of the first request at or after an instant. Requests are numbered without gaps in the order of time.
pub(super) fn first_since(connection: &Connection, ms: i64) -> Result<i64, StoreError> {
    let last: i64 =
        connection.query_row("SELECT coalesce(max(number), 0) FROM requests", [], |row| {
            row.get(0)
        })?;
    let mut statement = connection.prepare_cached("SELECT at FROM requests WHERE number = ?1")?;
    let (mut low, mut high) = (1_i64, last.saturating_add(1));
    while low < high {
        let middle = low.midpoint(high);
        let at: Option<i64> = statement
            .query_row(params![middle], |row| row.get(0))
            .optional()?;
        if at.is_some_and(|at| at < ms) {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    Ok(low)
}
