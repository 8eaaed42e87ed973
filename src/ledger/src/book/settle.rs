//! What an execution settles: on its own hold, and on the open holds of the same vendor object.

use keybrake_contract::money::{Currency, Micros, Minor};
use keybrake_contract::wire::ExecutedMoney;

use super::rate::{Rate, Rated};

/// The most that one execution is counted with: ten thousand million dollars. A vendor's word beyond that is counted as
/// this much, so that no sum can overflow.
pub const MAX_COST: Micros = Micros::new(10_000_000_000_000_000);

/// What an executed amount costs in dollars: `None` when it was not said, or is in a currency that the hold has no rate for.
/// `held`: amount and exchange rate that the hold was made with. A rate that the operator has changed since counts for new
/// requests only.
#[must_use]
pub fn executed_cost(amount: Option<Minor>, held: (Option<Minor>, Option<Rate>)) -> Option<Micros> {
    let minor = amount?;
    let (asked, rate) = held;
    let is_same = asked.is_some_and(|asked| asked.currency == minor.currency);
    let rate = match rate.filter(|_| is_same) {
        Some(rate) => rate,
        None if minor.currency == Currency::USD => Rate::US_CENT,
        None => return None,
    };
    let cost = Rated { minor, rate }.cost();
    Some(cost.map_or(MAX_COST, |cost| cost.min(MAX_COST)))
}

/// What is left of the total that the vendor says it took for an object, after what is settled on it. Never below zero.
#[must_use]
pub fn beyond_settled(total: Micros, settled: Micros) -> Micros {
    total
        .checked_sub(settled)
        .unwrap_or(total)
        .max(Micros::ZERO)
}

/// An open hold of the object that was acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenPart {
    /// What it holds.
    pub cost: Micros,
}

/// What an execution does to its own hold and to the open ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The cost of the execution's own hold after it; `None`: as unknown as before.
    pub own: Option<Micros>,
    /// Whether the vendor took more than was held.
    pub above_hold: bool,
    /// Cost of each open hold after it, in the order given. (Its state is `contract::lifecycle::on_object`'s to say.)
    pub open: Vec<Micros>,
}

/// Settles. `asked`: the own hold's cost; `taken`: what the vendor says it took, less what earlier requests have settled of
/// it; `open`: the open holds of the same object, oldest first.
///
/// Money that still may move is never lowered, since a later capture may take it; the vendor's amount fills the oldest hold
/// first and what goes beyond all of them is debited to the own hold in full.
#[must_use]
pub fn settle(
    money: ExecutedMoney,
    asked: Option<Micros>,
    taken: Option<Micros>,
    open: &[OpenPart],
) -> Settlement {
    let before = open.iter().fold(Micros::ZERO, |sum, part| {
        sum.checked_add(part.cost).unwrap_or(MAX_COST)
    });
    let beyond = taken.map(|total| total.checked_sub(before).unwrap_or(total).max(Micros::ZERO));
    let above_hold = matches!((beyond, asked), (Some(beyond), Some(asked)) if beyond > asked);
    match money {
        ExecutedMoney::Moved => Settlement {
            own: beyond.or(asked),
            above_hold,
            open: fill(taken, open),
        },
        ExecutedMoney::Open => Settlement {
            own: if above_hold { beyond } else { asked.or(beyond) },
            above_hold,
            open: open.iter().map(|part| part.cost).collect(),
        },
        ExecutedMoney::Cancelled => Settlement {
            own: asked,
            above_hold: false,
            open: open.iter().map(|part| part.cost).collect(),
        },
    }
}

fn fill(taken: Option<Micros>, open: &[OpenPart]) -> Vec<Micros> {
    let mut left = taken;
    open.iter()
        .map(|part| {
            let share = left.map_or(part.cost, |left| left.min(part.cost));
            left = left.map(|left| left.checked_sub(share).unwrap_or_default());
            share
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ExecutedMoney::{Cancelled, Moved, Open};

    use super::*;

    type Row = (
        ExecutedMoney,
        Option<i64>,
        Option<i64>,
        &'static [i64],
        Option<i64>,
        bool,
        &'static [i64],
    );

    #[test]
    fn every_kind_of_settlement() {
        #[rustfmt::skip]
        let rows: &[Row] = &[
            // money, asked, taken, open holds → own, above, open holds after
            (Moved, Some(10), Some(10), &[], Some(10), false, &[]),
            (Moved, Some(10), None, &[], Some(10), false, &[]),
            (Moved, Some(10), Some(7), &[], Some(7), false, &[]),
            (Moved, Some(10), Some(12), &[], Some(12), true, &[]),
            (Moved, None, Some(12), &[], Some(12), false, &[]),
            (Moved, None, None, &[], None, false, &[]),
            (Open, Some(10), Some(7), &[], Some(10), false, &[]),
            (Open, Some(10), Some(12), &[], Some(12), true, &[]),
            (Open, None, Some(12), &[], Some(12), false, &[]),
            (Cancelled, Some(10), Some(10), &[], Some(10), false, &[]),
            // A capture of an authorisation of 10.
            (Moved, Some(0), Some(10), &[10], Some(0), false, &[10]),
            (Moved, Some(0), Some(8), &[10], Some(0), false, &[8]),
            (Moved, Some(0), None, &[10], Some(0), false, &[10]),
            (Moved, Some(0), Some(11), &[10], Some(1), true, &[10]),
            // It had been raised by 5 first.
            (Open, Some(5), Some(15), &[10], Some(5), false, &[10]),
            (Moved, Some(0), Some(15), &[10, 5], Some(0), false, &[10, 5]),
            (Moved, Some(0), Some(12), &[10, 5], Some(0), false, &[10, 2]),
            (Moved, Some(3), Some(12), &[10, 5], Some(0), false, &[10, 2]),
            (Cancelled, Some(0), Some(0), &[10, 5], Some(0), false, &[10, 5]),
        ];
        for (money, asked, taken, open, own, above_hold, after) in rows {
            let parts: Vec<OpenPart> = open
                .iter()
                .map(|cost| OpenPart {
                    cost: Micros::new(*cost),
                })
                .collect();
            let expected = Settlement {
                own: own.map(Micros::new),
                above_hold: *above_hold,
                open: after.iter().copied().map(Micros::new).collect(),
            };
            let settlement = settle(
                *money,
                asked.map(Micros::new),
                taken.map(Micros::new),
                &parts,
            );
            assert_eq!(
                settlement, expected,
                "{money:?} {asked:?} {taken:?} {open:?}"
            );
        }
    }

    #[test]
    fn of_a_total_only_what_is_not_settled_yet_is_left() {
        for (total, settled, left) in [(10, 0, 10), (10, 4, 6), (10, 10, 0), (10, 12, 0), (0, 0, 0)]
        {
            let beyond = beyond_settled(Micros::new(total), Micros::new(settled));
            assert_eq!(beyond, Micros::new(left), "{total} {settled}");
        }
    }

    #[test]
    fn an_amount_beyond_counting_is_counted_as_the_most() {
        let minor = |amount, currency: &str| {
            Some(Minor {
                amount,
                currency: Currency::parse(currency).unwrap(),
            })
        };
        let rate = Rate::from_picos(12_000_000_000);
        let nothing = (None, None);
        let euros = (minor(1_000, "eur"), rate);
        #[rustfmt::skip]
        let rows = [
            (minor(u64::MAX, "usd"), nothing, Some(MAX_COST)),
            (minor(900_000_000_000_000, "usd"), nothing, Some(MAX_COST)),
            (minor(999, "usd"), nothing, Some(Micros::new(9_990_000))),
            (minor(999, "eur"), nothing, None),
            (None, nothing, None),
            (minor(999, "eur"), euros, Some(Micros::new(11_988_000))),
            (minor(u64::MAX, "eur"), euros, Some(MAX_COST)),
            (minor(999, "gbp"), euros, None),
            // Asked in euros, taken in dollars: what was taken is what counts.
            (minor(999, "usd"), euros, Some(Micros::new(9_990_000))),
        ];
        for (taken, held, cost) in rows {
            assert_eq!(executed_cost(taken, held), cost, "{taken:?} {held:?}");
        }
    }
}
