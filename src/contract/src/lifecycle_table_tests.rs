//! The table, cell by cell. A cell that is not listed fails the test, so that a new state or verdict forces a decision.

use super::Verdict::{
    DeclinedFinal, ExecutedCancelled, ExecutedMoved, ExecutedOpen, Indeterminate, NotExecuted,
};
use super::*;

const fn state(record: RecordState, hold: HoldState) -> State {
    State { record, hold }
}

const IN_FLIGHT: State = State::ADMITTED;
const AGAIN: State = state(RecordState::InFlight, HoldState::Unknown);
const SETTLED: State = state(RecordState::Answered, HoldState::Settled);
const OPEN: State = state(RecordState::Answered, HoldState::Held);
const CANCELLED: State = state(RecordState::Answered, HoldState::Released);

const EVERY_CONTEXT: [(WhichAttempt, OtherAttempts); 4] = [
    (WhichAttempt::Latest, OtherAttempts::NoneExecuted),
    (WhichAttempt::Latest, OtherAttempts::Doubtful),
    (WhichAttempt::Earlier, OtherAttempts::NoneExecuted),
    (WhichAttempt::Earlier, OtherAttempts::Doubtful),
];

#[test]
fn every_reserve_cell() {
    use OnReserve as R;
    use RecordState as S;
    // Columns: same & window open, same & closed, same purchase & open, same purchase & closed, other & open, other & closed.
    let rows: [(Option<S>, [R; 6]); 5] = [
        (None, [R::NewHold; 6]),
        (Some(S::Released), [R::NewHold; 6]),
        (
            Some(S::InFlight),
            [
                R::InFlight,
                R::InFlight,
                R::InFlight,
                R::InFlight,
                R::Mismatch,
                R::Mismatch,
            ],
        ),
        (
            Some(S::Answered),
            [
                R::Replay,
                R::Replay,
                R::Replay,
                R::Replay,
                R::Mismatch,
                R::Mismatch,
            ],
        ),
        (
            Some(S::Unknown),
            [
                R::NextAttempt,
                R::OutcomeUnknown,
                R::OutcomeUnknown,
                R::OutcomeUnknown,
                R::Mismatch,
                R::Mismatch,
            ],
        ),
    ];
    let columns = [Likeness::Same, Likeness::SamePurchase, Likeness::Other]
        .into_iter()
        .flat_map(|likeness| {
            [
                (likeness, VendorWindow::Open),
                (likeness, VendorWindow::Closed),
            ]
        });
    for (record, answers) in rows {
        for ((likeness, window), expected) in columns.clone().zip(answers) {
            assert_eq!(
                on_reserve(record, likeness, window),
                expected,
                "{record:?} {likeness:?} {window:?}"
            );
        }
    }
}

/// Expected state after, for the four contexts of [`EVERY_CONTEXT`].
fn expected(before: State, verdict: Verdict) -> [State; 4] {
    let always = |after| [after; 4];
    match (before, verdict) {
        (IN_FLIGHT | AGAIN | UNKNOWN | RELEASED, ExecutedMoved) => always(SETTLED),
        (IN_FLIGHT | AGAIN | UNKNOWN | RELEASED, ExecutedOpen) => always(OPEN),
        (IN_FLIGHT | AGAIN | UNKNOWN | RELEASED, ExecutedCancelled) => always(CANCELLED),
        (IN_FLIGHT | AGAIN | UNKNOWN | RELEASED, DeclinedFinal) => always(RELEASED),
        (IN_FLIGHT, NotExecuted) => [RELEASED, UNKNOWN, RELEASED, IN_FLIGHT],
        (AGAIN, NotExecuted) => [RELEASED, UNKNOWN, RELEASED, AGAIN],
        (UNKNOWN, NotExecuted) => [RELEASED, UNKNOWN, RELEASED, UNKNOWN],
        (IN_FLIGHT | AGAIN, Indeterminate) => [UNKNOWN, UNKNOWN, AGAIN, AGAIN],
        (UNKNOWN, Indeterminate) => always(UNKNOWN),
        (RELEASED, NotExecuted | Indeterminate) => always(RELEASED),
        (SETTLED | OPEN | CANCELLED, _) => always(before),
        other => panic!("{other:?} is not in the table"),
    }
}

#[test]
fn every_outcome_cell() {
    for before in State::REACHABLE {
        for verdict in Verdict::ALL {
            for ((which, others), after) in EVERY_CONTEXT.into_iter().zip(expected(before, verdict))
            {
                let step = on_outcome(before, verdict, which, others);
                assert_eq!(
                    step.state, after,
                    "{before:?} {verdict:?} {which:?} {others:?}"
                );
                assert!(
                    State::REACHABLE.contains(&step.state),
                    "{:?} is not listed as reachable",
                    step.state
                );
            }
        }
    }
}

#[test]
fn only_an_execution_after_a_release_is_alarmed() {
    for before in State::REACHABLE {
        for verdict in Verdict::ALL {
            let step = on_outcome(
                before,
                verdict,
                WhichAttempt::Latest,
                OtherAttempts::NoneExecuted,
            );
            let executed = matches!(verdict, ExecutedMoved | ExecutedOpen | ExecutedCancelled);
            assert_eq!(
                step.alarm.is_some(),
                before == RELEASED && executed,
                "{before:?} {verdict:?}"
            );
        }
    }
}

#[test]
fn every_cell_of_a_later_request_on_the_same_object() {
    for before in State::REACHABLE {
        for verdict in Verdict::ALL {
            let after = match (before, verdict) {
                (OPEN, ExecutedMoved) => SETTLED,
                (OPEN, ExecutedCancelled) => CANCELLED,
                (before, _) => before,
            };
            assert_eq!(on_object(before, verdict), after, "{before:?} {verdict:?}");
        }
    }
}

#[test]
fn settled_is_final() {
    for verdict in Verdict::ALL {
        for (which, others) in EVERY_CONTEXT {
            assert_eq!(on_outcome(SETTLED, verdict, which, others).state, SETTLED);
        }
    }
}

#[test]
fn money_of_a_doubtful_hold_is_never_given_back_without_evidence() {
    for before in [IN_FLIGHT, AGAIN, UNKNOWN] {
        for which in [WhichAttempt::Latest, WhichAttempt::Earlier] {
            for verdict in [NotExecuted, Indeterminate] {
                let after = on_outcome(before, verdict, which, OtherAttempts::Doubtful).state;
                assert_ne!(
                    after.hold,
                    HoldState::Released,
                    "{before:?} {verdict:?} {which:?}"
                );
            }
        }
    }
}
