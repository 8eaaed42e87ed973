//! Statements: what became of everything that was taken from a cap in one window.

use jiff::Timestamp;
use keybrake_contract::money::Micros;

use crate::book::Parts;

/// How many holds, and what they come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// Holds.
    pub count: u64,
    /// Together.
    pub amount: Micros,
}

/// The holds of a window, counted from the requests themselves, not from the balance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// What was taken when they were admitted.
    pub holds: Line,
    /// What vendors took beyond that.
    pub beyond: Line,
    /// What is still set aside for requests on their way.
    pub held: Line,
    /// What was spent.
    pub settlements: Line,
    /// What may have been spent.
    pub unknowns: Line,
    /// What was given back, of settled holds the rest that was not needed.
    pub releases: Line,
}

/// One cap in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Which cap: `daily_usd_cap` and so on.
    pub limit: &'static str,
    /// `day:2026-11-23` and so on.
    pub window: String,
    /// When it began; `None` for a lifetime.
    pub begins_at: Option<Timestamp>,
    /// When it ends; `None` for a lifetime and for a rolling window.
    pub ends_at: Option<Timestamp>,
    /// The cap untouched.
    pub opening: Parts,
    /// What became of what was taken.
    pub tally: Tally,
    /// The balance as it stands.
    pub closing: Parts,
}

impl Statement {
    /// Whether the requests come to the balance: taken and beyond = spent, given back, unknown and still held, and
    /// opening less all that is not given back = closing.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let Tally {
            holds,
            beyond,
            held,
            settlements,
            unknowns,
            releases,
        } = self.tally;
        let sum = |lines: &[Line]| {
            lines
                .iter()
                .try_fold(Micros::ZERO, |sum, line| sum.checked_add(line.amount))
        };
        let taken = sum(&[holds, beyond]);
        let closing = Parts::with_spent(
            self.opening.cap,
            held.amount,
            settlements.amount,
            unknowns.amount,
        );
        taken.is_some()
            && taken == sum(&[settlements, unknowns, releases, held])
            && closing == Some(self.closing)
    }
}
