//! Fills an empty database from somewhere else, all in one transaction.

use super::address::Address;
use super::link::{Link, Parameter, Question};
use super::rows::{get, parameter, parameters, text};
use crate::engine::OpenError;
use crate::store::migrate::Sink;
use crate::store::tables::{Cell, Holds, Table};
use crate::store::{ChainHead, StoreError};

/// An empty database that is to be filled.
pub struct Target {
    link: Link,
}

impl Target {
    /// Opens the database, and makes its tables if there are none.
    pub fn open(address: &Address) -> Result<Self, OpenError> {
        Ok(Self {
            link: super::connect(address)?,
        })
    }

    /// The first table that has a row.
    pub fn first_with_rows(
        &mut self,
        tables: &'static [Table],
    ) -> Result<Option<&'static str>, StoreError> {
        for table in tables {
            let sql = format!("SELECT 1 FROM {} LIMIT 1", table.name);
            if !self.link.ask_text(&sql, &[])?.is_empty() {
                return Ok(Some(table.name));
            }
        }
        Ok(None)
    }

    /// Takes everything that `source` hands on. Answers how many rows each table has got.
    pub fn fill(
        &mut self,
        head: &ChainHead,
        source: impl FnOnce(&mut Sink<'_>) -> Result<(), StoreError>,
    ) -> Result<Vec<(&'static str, u64)>, StoreError> {
        self.link.tell("BEGIN")?;
        let taken = self.link.ask(&Question::new(
            "SELECT number FROM turn WHERE only_one = 1 FOR UPDATE",
            Vec::new(),
        ))?;
        let number: Option<i64> = taken.first().map(|row| get(row, 0)).transpose()?;
        let mut counts: Vec<(&'static str, u64)> = Vec::new();
        let link = &mut self.link;
        source(&mut |table, rows| {
            let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
            match counts.last_mut().filter(|(name, _)| *name == table.name) {
                Some((_, sum)) => *sum = sum.saturating_add(count),
                None => counts.push((table.name, count)),
            }
            insert(link, table, rows)
        })?;
        let moved = self.link.write_all(&[Question::new(
            "UPDATE turn SET number = number + 1,
                 chain = $2, seq = $3, hash = $4, at = $5,
                 next_request = (SELECT coalesce(max(number), 0) + 1 FROM requests),
                 next_subject = (SELECT coalesce(max(number), 0) + 1 FROM subjects),
                 keys = (SELECT count(*) FROM keys)
             WHERE only_one = 1 AND number = $1",
            parameters![
                number,
                head.chain.to_string(),
                head.seq.cast_signed(),
                head.hash.as_bytes().to_vec(),
                head.at
            ],
        )])?;
        if moved != [1] {
            return Err(StoreError::new("a ledger is at work on the target"));
        }
        self.link.commit()?;
        Ok(counts)
    }
}

fn insert(link: &mut Link, table: &Table, rows: Vec<Vec<Cell>>) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let expected = rows.len();
    let mut names = Vec::new();
    let mut sources = Vec::new();
    let mut parameters: Vec<Parameter> = Vec::new();
    let mut columns: Vec<Vec<Cell>> = table.columns.iter().map(|_| Vec::new()).collect();
    for row in rows {
        for (column, cell) in columns.iter_mut().zip(row) {
            column.push(cell);
        }
    }
    for ((name, holds), cells) in table.columns.iter().zip(columns) {
        parameters.push(array(*holds, cells));
        names.push(format!("\"{name}\""));
        let kind = match holds {
            Holds::Integer => "bigint",
            Holds::Bytes => "bytea",
            Holds::Text => "text",
        };
        sources.push(format!("${}::{kind}[]", parameters.len()));
    }
    let sql = format!(
        "INSERT INTO {} ({}) SELECT u.* FROM unnest({}) u",
        table.name,
        names.join(", "),
        sources.join(", ")
    );
    let written = link.write_text(&sql, &parameters)?;
    if usize::try_from(written) != Ok(expected) {
        return Err(StoreError::new(format!(
            "{written} of {expected} rows of {} were written",
            table.name
        )));
    }
    Ok(())
}

fn array(holds: Holds, cells: Vec<Cell>) -> Parameter {
    let cells = cells.into_iter();
    match holds {
        Holds::Integer => parameter(
            cells
                .map(|cell| match cell {
                    Cell::Integer(value) => Some(value),
                    _ => None,
                })
                .collect::<Vec<Option<i64>>>(),
        ),
        Holds::Bytes => parameter(
            cells
                .map(|cell| match cell {
                    Cell::Bytes(value) => Some(value),
                    _ => None,
                })
                .collect::<Vec<Option<Vec<u8>>>>(),
        ),
        Holds::Text => parameter(
            cells
                .map(|cell| match cell {
                    Cell::Text(value) => Some(text(&value)),
                    _ => None,
                })
                .collect::<Vec<Option<String>>>(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::server::Schema;
    use crate::store::tables::TABLES;

    #[test]
    fn every_column_of_every_table_is_filled() {
        let schema = Schema::fresh();
        let address = super::Address::parse(&schema.url).unwrap();
        drop(super::Target::open(&address).unwrap());
        let found: BTreeSet<(String, String)> = schema
            .sql(
                "SELECT table_name, column_name FROM information_schema.columns
                 WHERE table_schema = current_schema() AND table_name NOT IN ('turn', 'keybrake_version')",
            )
            .lines()
            .map(|line| line.split_once('|').unwrap())
            .map(|(table, column)| (table.to_owned(), column.to_owned()))
            .collect();
        let listed: BTreeSet<(String, String)> = TABLES
            .iter()
            .flat_map(|table| {
                let columns = table.columns.iter();
                columns.map(|(column, _)| (table.name.to_owned(), (*column).to_owned()))
            })
            .collect();
        assert_eq!(listed, found);
    }
}
