//! Whether a history of overlapping operations can be told as one of operations one after the other.
//!
//! The search of Wing and Gong, with the memory of Lowe: which operation may be the next one is tried in turn, and what was tried
//! once in the same state with the same operations done is not tried again.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// An operation with what it answered, and when it was called and had returned. Instants are numbers of one counter.
#[derive(Debug, Clone)]
pub struct Call<O, A> {
    pub op: O,
    pub answer: A,
    pub called: u64,
    pub returned: u64,
}

/// Most operations of a history.
const MOST: usize = 64;

/// Whether there is an order in which these operations, made one after the other from this state, give the answers they gave, and
/// in which none comes before one that had returned before it was called.
pub fn is_linearizable<S, O, A>(
    state: &S,
    history: &[Call<O, A>],
    apply: &impl Fn(&mut S, &O) -> A,
) -> bool
where
    S: Clone + Eq + Hash,
    A: PartialEq,
{
    assert!(history.len() <= MOST, "longer than can be checked");
    search(state, history, 0, apply, &mut HashSet::new())
}

fn search<S, O, A>(
    state: &S,
    history: &[Call<O, A>],
    done: u64,
    apply: &impl Fn(&mut S, &O) -> A,
    tried: &mut HashSet<(u64, S)>,
) -> bool
where
    S: Clone + Eq + Hash,
    A: PartialEq,
{
    let waiting = || {
        let calls = history.iter().enumerate();
        calls.filter(|(number, _)| done & (1 << number) == 0)
    };
    let Some(first_return) = waiting().map(|(_, call)| call.returned).min() else {
        return true;
    };
    if !tried.insert((done, state.clone())) {
        return false;
    }
    let may_be_next = waiting().filter(|(_, call)| call.called <= first_return);
    may_be_next.into_iter().any(|(number, call)| {
        let mut after = state.clone();
        apply(&mut after, &call.op) == call.answer
            && search(&after, history, done | (1 << number), apply, tried)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes from what is left; answers whether there was enough.
    fn take(left: &mut i64, asked: &i64) -> bool {
        let is_enough = *asked <= *left;
        if is_enough {
            *left -= asked;
        }
        is_enough
    }

    fn history(calls: &[(i64, bool, u64, u64)]) -> Vec<Call<i64, bool>> {
        let calls = calls.iter();
        calls
            .map(|(op, answer, called, returned)| Call {
                op: *op,
                answer: *answer,
                called: *called,
                returned: *returned,
            })
            .collect()
    }

    #[test]
    fn what_overlaps_may_be_told_in_either_order() {
        let overlapping = history(&[(6, false, 1, 4), (6, true, 2, 3)]);
        assert!(is_linearizable(&10, &overlapping, &take));
        let three = history(&[(4, true, 1, 6), (6, true, 2, 3), (1, false, 4, 5)]);
        assert!(is_linearizable(&10, &three, &take));
    }

    #[test]
    fn two_that_took_the_same_money_cannot_be_told() {
        let twice = history(&[(6, true, 1, 4), (6, true, 2, 3)]);
        assert!(!is_linearizable(&10, &twice, &take));
    }

    #[test]
    fn what_had_returned_comes_first() {
        // The second began after the first was over, and was refused for want of what nobody had taken yet.
        let stale = history(&[(6, false, 1, 2), (6, true, 3, 4)]);
        assert!(!is_linearizable(&10, &stale, &take));
        let forgetful = history(&[(6, true, 1, 2), (6, true, 3, 4)]);
        assert!(!is_linearizable(&10, &forgetful, &take));
    }
}
