//! One page of a list that is newest first: conditions that are put together, a cursor, a limit.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::model::Page;
use crate::store::paging::{page, page_size};
use crate::store::{ListError, StoreError};

/// The conditions of a list, with the values that are bound in them.
pub(super) struct Listing {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Listing {
    /// Everything.
    pub(super) fn new() -> Self {
        Self {
            conditions: vec!["true".to_owned()],
            values: Vec::new(),
        }
    }

    /// Only what also fits this condition; `?#` stands in it for the value.
    pub(super) fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        let place = format!("?{}", self.values.len());
        self.conditions.push(condition.replace("?#", &place));
    }

    /// At most `limit` rows of a table whose `number` rises with time, newest first, after the page that ended at `cursor`.
    pub(super) fn page<F, T>(
        mut self,
        connection: &Connection,
        (columns, table): (&str, &str),
        (cursor, limit): (Option<&str>, u32),
        row: impl Fn(&Row<'_>) -> rusqlite::Result<F>,
        number: impl Fn(&F) -> i64,
        item: impl Fn(F) -> T,
    ) -> Result<Page<T>, ListError> {
        if let Some(cursor) = cursor {
            let before: i64 = cursor.parse().map_err(|_| ListError::InvalidCursor)?;
            self.and("number < ?#", before);
        }
        let limit = page_size(limit);
        let sql = format!(
            "SELECT {columns} FROM {table} WHERE {} ORDER BY number DESC LIMIT {}",
            self.conditions.join(" AND "),
            limit.saturating_add(1)
        );
        let found = connection
            .prepare_cached(&sql)
            .and_then(|mut statement| {
                statement
                    .query_map(params_from_iter(self.values), row)?
                    .collect::<Result<Vec<_>, _>>()
            })
            .map_err(StoreError::from)?;
        Ok(page(found, limit, |one| number(one).to_string(), item))
    }
}
