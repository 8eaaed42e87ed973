//! How closed sets are written in columns, whichever the database. The numbers are part of the schema: they never change.

use keybrake_contract::lifecycle::{HoldState, RecordState};

use super::{AttemptState, Kind};
use crate::book::Rate;
use crate::model::{BudgetState, EntryOutcome};

/// A closed set as a number in a column.
pub trait Coded: Copy + 'static {
    /// Every value, each at the index that is its number.
    const ALL: &'static [Self];
    /// The number.
    fn code(self) -> i64;
    /// The value with this number.
    fn from_code(code: i64) -> Option<Self> {
        let index = usize::try_from(code).ok()?;
        Self::ALL.get(index).copied()
    }
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

/// An exchange rate as its column keeps it.
pub fn rate_of(picos: i64) -> Option<Rate> {
    Rate::from_picos(picos.cast_unsigned())
}

/// An exchange rate for its column: its 64 bits.
pub fn rate_code(rate: Option<Rate>) -> Option<i64> {
    rate.map(|rate| rate.picos().cast_signed())
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
