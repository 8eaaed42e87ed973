//! How closed sets are written in columns. The numbers are part of the schema: they never change.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::lifecycle::{HoldState, RecordState};
use keybrake_contract::money::{Currency, Micros, Minor};
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::model::{BudgetState, EntryOutcome};
use crate::store::{AttemptState, Kind, RecordKey};

/// A closed set as a number in a column.
pub trait Coded: Copy + 'static {
    /// Every value, each at the index that is its number.
    const ALL: &'static [Self];
    /// The number.
    fn code(self) -> i64;
}

macro_rules! coded {
    ($kind:ty: $($value:path = $code:literal),+ $(,)?) => {
        impl Coded for $kind {
            const ALL: &'static [Self] = &[$($value),+];
            fn code(self) -> i64 {
                match self { $($value => $code),+ }
            }
        }
    };
}

coded!(Kind: Kind::Read = 0, Kind::Write = 1, Kind::Refused = 2, Kind::RefusedByFilter = 3);
coded!(RecordState: RecordState::InFlight = 0, RecordState::Answered = 1, RecordState::Unknown = 2, RecordState::Released = 3);
coded!(HoldState: HoldState::Held = 0, HoldState::Settled = 1, HoldState::Released = 2, HoldState::Unknown = 3);
coded!(
    EntryOutcome: EntryOutcome::InFlight = 0, EntryOutcome::Held = 1, EntryOutcome::Settled = 2, EntryOutcome::Released = 3,
    EntryOutcome::Unknown = 4, EntryOutcome::Abandoned = 5,
);
coded!(
    AttemptState: AttemptState::Open = 0, AttemptState::Executed = 1, AttemptState::Declined = 2, AttemptState::NotExecuted = 3,
    AttemptState::NotForwarded = 4, AttemptState::Indeterminate = 5, AttemptState::Overdue = 6,
);

coded!(BudgetState: BudgetState::Open = 0, BudgetState::Frozen = 1, BudgetState::Closed = 2, BudgetState::Tripped = 3);

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
        let code = usize::try_from(value.as_i64()?).map_err(|_| FromSqlError::InvalidType)?;
        T::ALL
            .get(code)
            .map(|value| Self(*value))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in_order<T: Coded>() {
        for (value, index) in T::ALL.iter().zip(0_i64..) {
            assert_eq!(value.code(), index);
        }
    }

    #[test]
    fn every_value_stands_at_its_number() {
        is_in_order::<Kind>();
        is_in_order::<RecordState>();
        is_in_order::<HoldState>();
        is_in_order::<EntryOutcome>();
        is_in_order::<AttemptState>();
        is_in_order::<BudgetState>();
    }
}
