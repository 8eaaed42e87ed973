//! Evidence: what an end of an attempt rests on, and what may decide a request whose outcome nobody knows.
//!
//! The one place that says which evidence decides what. Whoever brings it (an operator, a reconciler that read the vendor's
//! events or lists) hands it to `engine`'s `apply_evidence`, which asks here first.

use keybrake_contract::lifecycle::{HoldState, RecordState, State, Verdict};
use keybrake_contract::wire::{Executed, ExecutedMoney};
use serde::Serialize;

/// What a word about an attempt or a request rests on. Recorded in the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// On nothing: time passed.
    None,
    /// The vendor's answer to the attempt.
    VendorAnswer,
    /// The vendor's stored answer, given again to a later attempt.
    VendorReplay,
    /// The filter's word that the attempt was never begun.
    NotForwarded,
    /// An operator's word.
    Operator {
        /// Why.
        reason: String,
        /// Whose.
        who: String,
    },
    /// An event of the vendor's that names the request.
    VendorEvent {
        /// The event's id.
        event_id: String,
    },
    /// An object in one of the vendor's lists that was made by the request.
    VendorList {
        /// The object's id.
        object_id: String,
    },
    /// The vendor's lists and events were read to their end and hold nothing of it.
    Absence {
        /// How many reads that took.
        reads: u32,
    },
}

/// What evidence says about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The vendor did it.
    Executed {
        /// For how much.
        executed: Executed,
        /// What was made or changed, when that is known.
        object: Option<String>,
        /// The charge behind it.
        charge: Option<String>,
    },
    /// For certain nothing was done.
    NotExecuted,
}

/// Why evidence decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// An attempt is being made: its outcome decides.
    #[error("an attempt of the request is being made; wait for its outcome")]
    InFlight,
    /// Its outcome is known.
    #[error("the outcome of the request is not unknown, and nothing is held for it")]
    NotUnknown,
    /// It is unknown again, after another attempt that the evidence does not know of.
    #[error("another attempt of the request was made since the evidence was gathered")]
    AttemptedAgain,
    /// This evidence cannot show that.
    #[error("such evidence cannot show that")]
    ShowsNothing,
}

/// What evidence does to a request in this state. Only a request whose outcome is unknown is decided by it, save that an operator's
/// word also ends what is held for an object that the vendor made: nobody may ever hear that it was paid or has lapsed there.
///
/// # Errors
/// [`Undecided`]: nothing may be changed.
pub const fn decide(
    state: State,
    evidence: &Evidence,
    finding: &Finding,
) -> Result<Verdict, Undecided> {
    match (state.record, state.hold, evidence) {
        (RecordState::Unknown, _, _) => {}
        (RecordState::InFlight, _, _) => return Err(Undecided::InFlight),
        (RecordState::Answered, HoldState::Held, Evidence::Operator { .. }) => {
            return match finding {
                Finding::Executed { executed, .. } => match executed.money {
                    // That is what is known of it: it ends nothing, and money that may still move is never lowered.
                    ExecutedMoney::Open => Err(Undecided::ShowsNothing),
                    ended => Ok(verdict_of(ended)),
                },
                // It was made, and moves nothing.
                Finding::NotExecuted => Ok(Verdict::ExecutedCancelled),
            };
        }
        (RecordState::Answered | RecordState::Released, _, _) => {
            return Err(Undecided::NotUnknown);
        }
    }
    match (evidence, finding) {
        (Evidence::None | Evidence::NotForwarded, _)
        // That nothing is there never shows that something was done, nor that something is there that it was not.
        | (Evidence::Absence { .. }, Finding::Executed { .. })
        | (Evidence::VendorList { .. }, Finding::NotExecuted) => Err(Undecided::ShowsNothing),
        (_, Finding::NotExecuted) => Ok(Verdict::NotExecuted),
        (_, Finding::Executed { executed, .. }) => Ok(verdict_of(executed.money)),
    }
}

/// The table's verdict for an execution.
#[must_use]
pub const fn verdict_of(money: ExecutedMoney) -> Verdict {
    match money {
        ExecutedMoney::Moved => Verdict::ExecutedMoved,
        ExecutedMoney::Open => Verdict::ExecutedOpen,
        ExecutedMoney::Cancelled => Verdict::ExecutedCancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executed(money: ExecutedMoney) -> Finding {
        Finding::Executed {
            executed: Executed {
                money,
                amount: None,
                is_total: false,
            },
            object: None,
            charge: None,
        }
    }

    fn all_evidence() -> Vec<Evidence> {
        let text = || "x".to_owned();
        vec![
            Evidence::None,
            Evidence::VendorAnswer,
            Evidence::VendorReplay,
            Evidence::NotForwarded,
            Evidence::Operator {
                reason: text(),
                who: text(),
            },
            Evidence::VendorEvent { event_id: text() },
            Evidence::VendorList { object_id: text() },
            Evidence::Absence { reads: 2 },
        ]
    }

    #[test]
    fn nothing_but_an_unknown_is_decided_by_evidence() {
        for state in State::REACHABLE {
            let is_held = state.record == RecordState::Answered && state.hold == HoldState::Held;
            for evidence in all_evidence() {
                if is_held && matches!(evidence, Evidence::Operator { .. }) {
                    continue;
                }
                for finding in [executed(ExecutedMoney::Moved), Finding::NotExecuted] {
                    let decided = decide(state, &evidence, &finding);
                    let expected = match state.record {
                        RecordState::Unknown => continue,
                        RecordState::InFlight => Undecided::InFlight,
                        _ => Undecided::NotUnknown,
                    };
                    assert_eq!(decided, Err(expected), "{state:?} {evidence:?}");
                }
            }
        }
    }

    #[test]
    fn an_operators_word_ends_what_is_held() {
        let held = State {
            record: RecordState::Answered,
            hold: HoldState::Held,
        };
        let all = all_evidence();
        let mut all = all.iter();
        let operator = all.find(|one| matches!(one, Evidence::Operator { .. }));
        let decided = |finding| decide(held, operator.unwrap(), &finding);
        assert_eq!(
            decided(executed(ExecutedMoney::Moved)),
            Ok(Verdict::ExecutedMoved)
        );
        assert_eq!(
            decided(Finding::NotExecuted),
            Ok(Verdict::ExecutedCancelled)
        );
        assert_eq!(
            decided(executed(ExecutedMoney::Open)),
            Err(Undecided::ShowsNothing)
        );
    }

    #[test]
    fn evidence_shows_what_it_can_show() {
        let unknown = State::REACHABLE
            .into_iter()
            .find(|state| state.record == RecordState::Unknown)
            .unwrap();
        // Whether it can show that it was done, and that it was not.
        let can = [
            (false, false),
            (true, true),
            (true, true),
            (false, false),
            (true, true),
            (true, true),
            (true, false),
            (false, true),
        ];
        for (evidence, (done, not_done)) in all_evidence().iter().zip(can) {
            for money in [
                ExecutedMoney::Moved,
                ExecutedMoney::Open,
                ExecutedMoney::Cancelled,
            ] {
                let expected = if done {
                    Ok(verdict_of(money))
                } else {
                    Err(Undecided::ShowsNothing)
                };
                assert_eq!(decide(unknown, evidence, &executed(money)), expected);
            }
            let expected = if not_done {
                Ok(Verdict::NotExecuted)
            } else {
                Err(Undecided::ShowsNothing)
            };
            assert_eq!(decide(unknown, evidence, &Finding::NotExecuted), expected);
        }
    }

    #[test]
    fn evidence_is_written_as_a_word_or_a_word_with_its_facts() {
        let said = |evidence: &Evidence| serde_json::to_string(evidence).unwrap();
        let all = all_evidence();
        assert_eq!(said(&all[0]), r#""none""#);
        assert_eq!(said(&all[1]), r#""vendor_answer""#);
        assert_eq!(said(&all[7]), r#"{"absence":{"reads":2}}"#);
        let operator = said(&Evidence::Operator {
            reason: "r".to_owned(),
            who: "w".to_owned(),
        });
        assert_eq!(operator, r#"{"operator":{"reason":"r","who":"w"}}"#);
    }
}
