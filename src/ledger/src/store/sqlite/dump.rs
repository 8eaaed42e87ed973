//! Reads whole tables of a file, as of one moment.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::store::StoreError;
use crate::store::migrate::Sink;
use crate::store::tables::{Cell, Holds, Table};

/// Rows that are handed on at a time.
const ROWS: usize = 2_000;

/// Hands on every row of these tables, each table's in their order.
pub fn dump(path: &Path, tables: &'static [Table], sink: &mut Sink<'_>) -> Result<(), StoreError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let moment = connection.unchecked_transaction()?;
    for table in tables {
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let mut statement = moment.prepare(&format!(
            "SELECT {} FROM {}",
            columns.join(", "),
            table.name
        ))?;
        let mut rows = statement.query([])?;
        let mut gathered = Vec::new();
        while let Some(row) = rows.next()? {
            let cells = table.columns.iter().enumerate();
            let cells = cells
                .map(|(index, (name, holds))| cell(row.get_ref(index)?, *holds, name))
                .collect::<Result<Vec<_>, StoreError>>()?;
            gathered.push(cells);
            if gathered.len() >= ROWS {
                sink(table, std::mem::take(&mut gathered))?;
            }
        }
        sink(table, gathered)?;
    }
    Ok(())
}

fn cell(value: ValueRef<'_>, holds: Holds, name: &str) -> Result<Cell, StoreError> {
    Ok(match (value, holds) {
        (ValueRef::Null, _) => Cell::Null,
        (ValueRef::Integer(value), Holds::Integer) => Cell::Integer(value),
        (ValueRef::Text(bytes) | ValueRef::Blob(bytes), Holds::Bytes) => {
            Cell::Bytes(bytes.to_vec())
        }
        (ValueRef::Text(bytes), Holds::Text) => {
            Cell::Text(String::from_utf8_lossy(bytes).into_owned())
        }
        _ => {
            return Err(StoreError::new(format!(
                "the column {name} holds something else than it should"
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::tables::TABLES;

    #[test]
    fn every_column_of_every_table_is_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.db");
        drop(crate::store::sqlite::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        let mut statement = connection
            .prepare(
                "SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
                 WHERE t.type = 'table' AND t.name <> 'schema_version'",
            )
            .unwrap();
        let found: BTreeSet<(String, String)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .filter(|(table, _): &(String, String)| table != "chain")
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
