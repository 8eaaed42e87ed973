//! Evidence that was gathered from the vendor's records: it covers the attempts that were made by then, and may bring the answer.

use keybrake_contract::wire::*;
use serde_json::json;

use super::bench::*;
use crate::book::{Evidence, Finding, Undecided};
use crate::engine::{ResolveError, Word};
use crate::model::{EntryOutcome, IssuedKey};

async fn unknown(bench: &Bench, key: &IssuedKey) -> Admitted {
    let admitted = bench.admitted(charge(key, 100, "k-1")).await;
    bench
        .outcome(outcome_of(&admitted, AttemptOutcome::Indeterminate))
        .await;
    admitted
}

fn found(attempts: u32) -> Word {
    Word {
        finding: Finding::Executed {
            executed: Executed {
                money: ExecutedMoney::Moved,
                amount: Some(cents(100)),
                is_total: false,
            },
            object: Some("ch_1".to_owned()),
            charge: Some("ch_1".to_owned()),
        },
        evidence: Evidence::VendorEvent {
            event_id: "evt_1".to_owned(),
        },
        attempts: Some(attempts),
        answer: Some(StoredAnswer {
            status: 200,
            content_type: "application/json".to_owned(),
            body: r#"{"id":"ch_1","object":"charge","amount":100}"#.to_owned(),
            vendor_request_id: Some("req_1".to_owned()),
        }),
    }
}

fn absent(attempts: u32) -> Word {
    Word {
        finding: Finding::NotExecuted,
        evidence: Evidence::Absence { reads: 2 },
        attempts: Some(attempts),
        answer: None,
    }
}

#[tokio::test]
async fn a_retrieved_object_is_the_answer_from_then_on_and_is_marked() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    let admitted = unknown(&bench, &key).await;
    let word = found(1);
    let stored = word.answer.clone().unwrap();
    let entry = bench
        .ledger
        .apply_evidence(admitted.hold, word)
        .await
        .unwrap();
    assert_eq!(entry.outcome, Some(EntryOutcome::Settled));
    let said = json!({"vendor_event": {"event_id": "evt_1"}});
    assert_eq!(entry.resolution.unwrap().evidence, said);
    assert_eq!(bench.parts(&key).await, [900, 0, 100, 0]);
    for _ in 0..2 {
        let CommandResult::Replay(replay) = bench.reserve(charge(&key, 100, "k-1")).await else {
            panic!("not replayed")
        };
        assert_eq!(replay.answer, stored);
        assert!(replay.retrieved && !replay.summary);
    }
    // The answer of a charge that nobody had to look for is not marked.
    let other = bench.admitted(charge(&key, 100, "k-2")).await;
    bench.outcome(charged(&other, "ch_2", 100)).await;
    let CommandResult::Replay(replay) = bench.reserve(charge(&key, 100, "k-2")).await else {
        panic!("not replayed")
    };
    assert!(!replay.retrieved && !replay.summary);
}

#[tokio::test]
async fn an_answer_that_arrived_after_a_wrong_word_is_not_marked() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    let admitted = unknown(&bench, &key).await;
    let given_back = bench.ledger.apply_evidence(admitted.hold, absent(1)).await;
    assert_eq!(given_back.unwrap().outcome, Some(EntryOutcome::Released));
    bench.outcome(charged(&admitted, "ch_1", 100)).await;
    assert_eq!(bench.parts(&key).await, [900, 0, 100, 0]);
    let CommandResult::Replay(replay) = bench.reserve(charge(&key, 100, "k-1")).await else {
        panic!("not replayed")
    };
    assert!(!replay.retrieved, "it is the vendor's own answer");
}

#[tokio::test]
async fn evidence_that_does_not_know_of_an_attempt_decides_nothing() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    let admitted = unknown(&bench, &key).await;
    let again = bench.admitted(charge(&key, 100, "k-1")).await;
    let running = Err(ResolveError::Undecided(Undecided::InFlight));
    for word in [found(1), absent(1)] {
        assert_eq!(
            bench.ledger.apply_evidence(admitted.hold, word).await,
            running
        );
    }
    bench
        .outcome(outcome_of(&again, AttemptOutcome::Indeterminate))
        .await;
    let before = bench.ledger.figures().await.events;
    let late = Err(ResolveError::Undecided(Undecided::AttemptedAgain));
    for word in [found(1), absent(1), absent(3)] {
        assert_eq!(bench.ledger.apply_evidence(admitted.hold, word).await, late);
    }
    assert_eq!(bench.ledger.figures().await.events, before);
    assert_eq!(bench.parts(&key).await, [900, 0, 0, 100]);
    let entry = bench.ledger.apply_evidence(admitted.hold, found(2)).await;
    assert_eq!(entry.unwrap().outcome, Some(EntryOutcome::Settled));
}
