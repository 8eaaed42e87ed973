//! How values are written in SQLite's columns.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::money::{Currency, Micros, Minor};
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::store::RecordKey;
pub use crate::store::codes::Coded;

/// Whether a conditional write found its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// It did, and changed it.
    Row,
    /// It did not. Nothing was changed.
    Nothing,
}

impl Wrote {
    /// From the number of changed rows.
    pub const fn rows(changed: usize) -> Self {
        match changed {
            0 => Self::Nothing,
            _ => Self::Row,
        }
    }
}

/// Wraps a value for SQL.
pub struct Sql<T>(pub T);

impl<T: Coded> ToSql for Sql<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.code()))
    }
}

impl<T: Coded> FromSql for Sql<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        T::from_code(value.as_i64()?)
            .map(Self)
            .ok_or(FromSqlError::InvalidType)
    }
}

/// Reads a digest.
pub fn digest(row: &Row<'_>, index: usize) -> rusqlite::Result<Digest> {
    row.get::<_, [u8; 32]>(index).map(Digest::from_bytes)
}

/// Reads a digest that may be missing.
pub fn digest_if_any(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Digest>> {
    Ok(row
        .get::<_, Option<[u8; 32]>>(index)?
        .map(Digest::from_bytes))
}

/// Reads a command id.
pub fn command_id(row: &Row<'_>, index: usize) -> rusqlite::Result<CommandId> {
    row.get::<_, [u8; 24]>(index).map(CommandId::from_bytes)
}

/// Reads a record's key that may be missing.
pub fn record_key(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<RecordKey>> {
    Ok(row
        .get::<_, Option<[u8; 24]>>(index)?
        .map(RecordKey::from_bytes))
}

/// Reads an amount and, in the column after it, its currency.
pub fn minor(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Minor>> {
    let amount: Option<i64> = row.get(index)?;
    let currency = row.get_ref(index.saturating_add(1))?.as_str_or_null()?;
    let currency = currency.and_then(|text| Currency::parse(text).ok());
    Ok(amount.zip(currency).map(|(amount, currency)| Minor {
        amount: amount.cast_unsigned(),
        currency,
    }))
}

/// An amount for a column: its 64 bits, so that no amount is too large to be kept.
pub fn amount(minor: Option<Minor>) -> Option<i64> {
    minor.map(|minor| minor.amount.cast_signed())
}

/// Reads micro-dollars.
pub fn micros(row: &Row<'_>, index: usize) -> rusqlite::Result<Micros> {
    row.get(index).map(Micros::new)
}

/// Reads micro-dollars that may be missing.
pub fn micros_if_any(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Micros>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(Micros::new))
}
