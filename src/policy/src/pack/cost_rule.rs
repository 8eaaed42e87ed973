//! Where a request says what it costs.

use std::sync::Arc;

use keybrake_contract::wire::Draws;

use super::{IntegerBounds, PricedRule, StatedRule};

/// Where a request says what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CostRule {
    /// Moves no money.
    Nothing,
    /// Amount and currency stand in these fields. The currency is required where the amount is.
    Fields {
        amount: AmountAt,
        currency: String,
        absent: Absent,
    },
    /// Depends on a vendor object.
    Object {
        object: ObjectAt,
        amount: ObjectAmount,
        draws: Draws,
    },
    /// By the pack's own rates.
    Priced(Arc<PricedRule>),
    /// Cannot be told.
    Unknown,
    /// Cannot be told, and is no less than what the lines say.
    AtLeast(Arc<[StatedRule]>),
}

/// Where an amount stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AmountAt {
    pub field: String,
    pub bounds: IntegerBounds,
    pub sign: Sign,
}

/// Whether an amount may be below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It may not.
    Never,
    /// It may: money moves either way, and its magnitude counts.
    Either,
}

/// What an amount that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The request cannot be read.
    Refused,
    /// The vendor chooses the amount.
    Unknown,
}

/// Where the reference to an object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ObjectAt {
    /// The path segment at this position (0 = first).
    Segment(usize),
    /// Exactly one of these fields.
    Fields(Vec<String>),
}

/// How much of an object a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ObjectAmount {
    /// This field, which must be there.
    Required(AmountAt),
    /// This field; absent: the whole.
    Field(AmountAt),
    /// This field; absent: nobody can tell.
    FieldOrUnknown(AmountAt),
    /// Always this much (a cancellation takes nothing).
    Fixed(u64),
    /// Always the whole.
    Whole,
}
