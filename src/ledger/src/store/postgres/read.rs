//! Reading connections: lists, balances, the chains. Each answer is as of one moment.

use std::ops::ControlFlow;

use keybrake_contract::ids::CommandId;
use keybrake_contract::money::Micros;
use tokio_postgres::Row;

use super::link::{Link, Parameter, Question};
use super::rows::{full_key, get, key_columns, parameter, parameters, text};
use super::turn::head_of;
use super::{budgets, entries, money, periods, pieces};
use crate::book::Parts;
use crate::engine::UnknownFigures;
use crate::model::{
    AuditQuery, Budget, BudgetFilter, Entry, Key, KeyFilter, KeyStatus, Page, Tally, UnknownQuery,
    UnknownRequest,
};
use crate::store::paging::{page, page_size};
use crate::store::{
    ChainHead, EventRow, FullBudget, FullKey, ListError, Period, Piece, Reads, Spender, StoreError,
};

/// A connection that only reads.
pub struct PostgresReads {
    link: Link,
}

/// Conditions of a question that is put together, with their parameters.
#[derive(Default)]
pub(super) struct Conditions {
    pub texts: Vec<String>,
    pub values: Vec<Parameter>,
}

impl Conditions {
    /// Adds a value; answers how it is named.
    pub fn value<T: tokio_postgres::types::ToSql + Sync + Send + 'static>(
        &mut self,
        value: T,
    ) -> String {
        self.values.push(parameter(value));
        format!("${}", self.values.len())
    }

    /// Adds a condition that ends with a value.
    pub fn need<T: tokio_postgres::types::ToSql + Sync + Send + 'static>(
        &mut self,
        comparison: &str,
        value: T,
    ) {
        let value = self.value(value);
        self.texts.push(format!("{comparison} {value}"));
    }

    /// All of them.
    pub fn joined(&self) -> String {
        if self.texts.is_empty() {
            "true".to_owned()
        } else {
            self.texts.join(" AND ")
        }
    }
}

impl PostgresReads {
    pub(super) const fn new(link: Link) -> Self {
        Self { link }
    }

    fn ask(
        &mut self,
        sql: &'static str,
        parameters: Vec<Parameter>,
    ) -> Result<Vec<Row>, StoreError> {
        self.link.ask(&Question::new(sql, parameters))
    }

    /// Several questions as of one moment.
    fn at_one_moment<T, E: From<StoreError>>(
        &mut self,
        work: impl FnOnce(&mut Link) -> Result<T, E>,
    ) -> Result<T, E> {
        self.link
            .tell("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let done = work(&mut self.link);
        self.link.tell("ROLLBACK")?;
        done
    }
}

impl Reads for PostgresReads {
    fn key(&mut self, key_id: &str) -> Result<Option<FullKey>, StoreError> {
        let rows = self.ask(
            concat!(
                "SELECT ",
                key_columns!(),
                " FROM keys k WHERE k.key_id = $1"
            ),
            parameters![text(key_id)],
        )?;
        rows.first().map(full_key).transpose()
    }

    fn balances(
        &mut self,
        subject: i64,
        windows: &[(i64, i64)],
    ) -> Result<Vec<Option<Parts>>, StoreError> {
        self.at_one_moment(|link| {
            let ranges = windows.iter();
            ranges
                .map(|range| money::joined(link, subject, *range))
                .collect()
        })
    }

    fn periods(
        &mut self,
        spender: Spender,
        periods: &[Period],
    ) -> Result<Vec<(Option<Parts>, Tally)>, StoreError> {
        self.at_one_moment(|link| {
            let all = periods.iter();
            all.map(|period| periods::period(link, spender, period))
                .collect()
        })
    }

    fn budget(&mut self, name: &str) -> Result<Option<FullBudget>, StoreError> {
        budgets::by_name(&mut self.link, name)
    }

    fn budgets(&mut self, filter: &BudgetFilter) -> Result<Page<Budget>, ListError> {
        budgets::page_of(&mut self.link, filter)
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
        let mut conditions = Conditions::default();
        if let Some(prefix) = label_prefix {
            let prefix = conditions.value(text(prefix));
            conditions.texts.push(format!(
                "left(k.label, char_length({prefix}::text)) = {prefix}::text"
            ));
        }
        if let Some(vendor) = vendor {
            conditions.need("k.vendor =", text(vendor));
        }
        if let Some(workspace) = workspace {
            conditions.need("k.workspace =", text(workspace));
        }
        if let Some(budget) = budget {
            let budget = conditions.value(text(budget));
            conditions.texts.push(below("k.budget", &budget));
        }
        match status {
            None => {}
            Some(KeyStatus::Active) => {
                conditions.need("k.revoked_at IS NULL AND k.expires_at >", now);
            }
            Some(KeyStatus::Expired) => {
                conditions.need("k.revoked_at IS NULL AND k.expires_at <=", now);
            }
            Some(KeyStatus::Revoked) => {
                conditions.texts.push("k.revoked_at IS NOT NULL".to_owned())
            }
        }
        if let Some(cursor) = cursor {
            let before: i64 = cursor.parse().map_err(|_| ListError::InvalidCursor)?;
            conditions.need("k.number <", before);
        }
        let limit = page_size(*limit);
        let sql = format!(
            "SELECT {} FROM keys k WHERE {} ORDER BY k.number DESC LIMIT {}",
            key_columns!(),
            conditions.joined(),
            limit.saturating_add(1)
        );
        let rows = self.link.ask_text(&sql, &conditions.values)?;
        let found = rows.iter().map(full_key).collect::<Result<Vec<_>, _>>()?;
        Ok(page(
            found,
            limit,
            |key| key.number.to_string(),
            |key| key.key,
        ))
    }

    fn entries(&mut self, query: &AuditQuery) -> Result<Page<Entry>, ListError> {
        self.at_one_moment(|link| entries::page_of(link, query))
    }

    fn unknown(&mut self, now: i64) -> Result<UnknownFigures, StoreError> {
        let rows = self.ask(
            "SELECT count(*), coalesce(sum(cost), 0)::bigint, min(at) FROM requests WHERE hold = 3 AND kind = 1",
            Vec::new(),
        )?;
        unknown_figures(rows.first(), now)
    }

    fn unknown_of(&mut self, key_id: &str, now: i64) -> Result<UnknownFigures, StoreError> {
        let rows = self.ask(
            "SELECT count(*), coalesce(sum(cost), 0)::bigint, min(at) FROM requests
             WHERE hold = 3 AND kind = 1 AND subject = (SELECT number FROM keys WHERE key_id = $1)",
            parameters![text(key_id)],
        )?;
        unknown_figures(rows.first(), now)
    }

    fn unknown_requests(
        &mut self,
        query: &UnknownQuery,
        now: i64,
    ) -> Result<Page<UnknownRequest>, ListError> {
        entries::unknown_page(&mut self.link, query, now)
    }

    fn entry(&mut self, id: CommandId) -> Result<Option<Entry>, StoreError> {
        entries::by_id(&mut self.link, id)
    }

    fn chain_head(&mut self) -> Result<ChainHead, StoreError> {
        chain_head(&mut self.link)
    }

    fn chain(
        &mut self,
        visit: &mut dyn FnMut(EventRow) -> ControlFlow<()>,
    ) -> Result<ChainHead, StoreError> {
        self.at_one_moment(|link| {
            let head = chain_head(link)?;
            // Stopping early is what the visitor wanted: the head is the answer all the same.
            let _ = pieces::events(link, &mut |_, event| visit(event))?;
            Ok(head)
        })
    }

    fn pieces(
        &mut self,
        visit: &mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) -> Result<ChainHead, StoreError> {
        self.at_one_moment(|link| {
            let head = chain_head(link)?;
            let _ = pieces::visit_all(link, visit)?;
            Ok(head)
        })
    }

    fn last_signed_heads(&mut self) -> Result<Option<String>, StoreError> {
        pieces::last_signed_heads(&mut self.link)
    }
}

/// Whether a column names a budget with this name or one below it.
pub(super) fn below(column: &str, name: &str) -> String {
    format!(
        "{column} IN (WITH RECURSIVE tree (number) AS (
             SELECT number FROM budgets WHERE name = {name}
             UNION ALL SELECT b.number FROM tree t JOIN budgets b ON b.parent = t.number)
         SELECT number FROM tree)"
    )
}

fn chain_head(link: &mut Link) -> Result<ChainHead, StoreError> {
    let rows = link.ask(&Question::new(
        "SELECT chain, seq, hash, at FROM turn WHERE only_one = 1",
        Vec::new(),
    ))?;
    let row = rows.first();
    head_of(
        row.ok_or_else(|| StoreError::new("the turn's row is missing"))?,
        0,
    )
}

fn unknown_figures(row: Option<&Row>, now: i64) -> Result<UnknownFigures, StoreError> {
    let Some(row) = row else {
        return Ok(UnknownFigures::default());
    };
    let oldest: Option<i64> = get(row, 2)?;
    Ok(UnknownFigures {
        count: get::<i64>(row, 0)?.cast_unsigned(),
        amount: Micros::new(get(row, 1)?),
        oldest_age_ms: oldest.map(|at| now.saturating_sub(at).max(0)),
    })
}

/// The number of the first request at or after an instant. Requests are numbered without gaps in the order of time.
pub(super) fn first_since(link: &mut Link, ms: i64) -> Result<i64, StoreError> {
    let last = link.ask(&Question::new(
        "SELECT coalesce(max(number), 0) FROM requests",
        Vec::new(),
    ))?;
    let last: i64 = last
        .first()
        .map(|row| get(row, 0))
        .transpose()?
        .unwrap_or(0);
    let (mut low, mut high) = (1_i64, last.saturating_add(1));
    while low < high {
        let middle = low.midpoint(high);
        let at = link.ask(&Question::new(
            "SELECT at FROM requests WHERE number = $1",
            parameters![middle],
        ))?;
        let at: Option<i64> = at.first().map(|row| get(row, 0)).transpose()?;
        if at.is_some_and(|at| at < ms) {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    Ok(low)
}
