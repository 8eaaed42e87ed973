//! Where a request says what it costs.

use std::sync::Arc;

use keybrake_contract::wire::Draws;

use crate::{IntegerBounds, PricedRule, StatedRule};

/// Where a request says what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CostRule {
    /// Moves no money.
    Nothing,
    /// Amount and currency stand in these fields. The currency is required where the amount is.
    Fields {
        /// Where the amount stands.
        amount: AmountAt,
        /// The field with the currency.
        currency: String,
        /// What it means that the amount is not there.
        absent: Absent,
    },
    /// Depends on a vendor object.
    Object {
        /// Where the reference to the object stands.
        object: ObjectAt,
        /// How much of it the request is about.
        amount: ObjectAmount,
        /// Where its money comes from.
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
pub struct AmountAt {
    /// The field.
    pub field: String,
    /// What it must keep to.
    pub bounds: IntegerBounds,
    /// Whether it may be below zero.
    pub sign: Sign,
}

/// Whether an amount may be below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It may not.
    Never,
    /// It may: money moves either way, and its magnitude counts.
    Either,
}

/// What an amount that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The request cannot be read.
    Refused,
    /// The vendor chooses the amount.
    Unknown,
}

/// Where the reference to an object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectAt {
    /// The path segment at this position (0 = first).
    Segment(usize),
    /// Exactly one of these fields.
    Fields(Vec<String>),
}

/// How much of an object a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectAmount {
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
