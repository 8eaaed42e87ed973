//! What the sums of a period's requests come to, whichever store has summed them.

use keybrake_contract::lifecycle::HoldState;
use keybrake_contract::money::Micros;

use crate::model::{Line, Tally};

/// One hold state's sums.
pub struct Sums {
    pub state: HoldState,
    pub cost: Line,
    pub asked: Line,
    pub beyond: Line,
    pub left: Line,
}

/// A tally with these sums.
pub fn added(tally: Tally, sums: &Sums) -> Option<Tally> {
    let nothing = Line::default();
    let is = |state| {
        if sums.state == state {
            sums.cost
        } else {
            nothing
        }
    };
    let released = match sums.state {
        // What was given back is what was taken, whatever it would have cost.
        HoldState::Released => Line {
            count: sums.asked.count,
            amount: sums.asked.amount.checked_add(sums.beyond.amount)?,
        },
        _ => sums.left,
    };
    Some(Tally {
        holds: plus(tally.holds, sums.asked)?,
        beyond: plus(tally.beyond, sums.beyond)?,
        held: plus(tally.held, is(HoldState::Held))?,
        settlements: plus(tally.settlements, is(HoldState::Settled))?,
        unknowns: plus(tally.unknowns, is(HoldState::Unknown))?,
        releases: plus(tally.releases, released)?,
    })
}

fn plus(one: Line, other: Line) -> Option<Line> {
    Some(Line {
        count: one.count.saturating_add(other.count),
        amount: Micros::checked_add(one.amount, other.amount)?,
    })
}
