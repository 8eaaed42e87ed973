//! The audit's entries, by every filter and page by page.

use keybrake_contract::wire::*;
use std::sync::Arc;

use super::bench::*;
use crate::clock::timestamp;
use crate::engine::QueryError;
use crate::model::{AuditQuery, EntryOutcome, EntryVerdict};

#[tokio::test]
async fn entries_are_found_by_every_filter_and_come_page_by_page() {
    let bench = Bench::new();
    let first = bench.key(daily(10_000)).await;
    let second = bench
        .key_like(daily(10_000), |key| key.label = "nightly".to_owned())
        .await;
    let mut holds = Vec::new();
    for number in 0..6_u64 {
        let key = if number % 2 == 0 { &first } else { &second };
        let mut reserve = charge(key, 100, &format!("k-{number}"));
        Arc::make_mut(&mut reserve.request).run_id = Some(format!("run-{}", number / 3));
        let admitted = bench.admitted(reserve).await;
        bench
            .outcome(charged(&admitted, &format!("ch_{number}"), 100))
            .await;
        holds.push(admitted.hold.to_string());
        bench.hand.advance_ms(1_000);
    }
    let refused = bench.reserve(charge(&first, 100_000, "k-6")).await;
    assert!(matches!(refused, CommandResult::Refused(_)));
    let looked = bench.admitted(read(&second)).await;
    let found = async |query: AuditQuery| -> Vec<Option<usize>> {
        let entries = bench.entries(query).await;
        let place = |id: &str| holds.iter().position(|hold| hold == id);
        entries.iter().map(|entry| place(&entry.id)).collect()
    };
    let all = AuditQuery::default;
    let text = |text: &str| Some(text.to_owned());
    let those = |numbers: &[usize]| numbers.iter().copied().map(Some).collect::<Vec<_>>();
    let [none, zero] = [None, Some(0)];
    assert_eq!(
        found(all()).await,
        [
            none,
            none,
            Some(5),
            Some(4),
            Some(3),
            Some(2),
            Some(1),
            zero
        ]
    );
    #[rustfmt::skip]
    let rows = [
        (AuditQuery { key_id: text(&first.key.key_id), ..all() }, vec![none, Some(4), Some(2), zero]),
        (AuditQuery { key_id: text("vk_none"), ..all() }, vec![]),
        (AuditQuery { label: text("nightly"), ..all() }, vec![none, Some(5), Some(3), Some(1)]),
        (AuditQuery { run_id: text("run-1"), ..all() }, those(&[5, 4, 3])),
        (AuditQuery { vendor: text("stripe"), operation: text("charges.retrieve"), ..all() }, vec![none]),
        (AuditQuery { vendor: text("twilio"), ..all() }, vec![]),
        (AuditQuery { outcome: Some(EntryOutcome::InFlight), ..all() }, vec![none]),
        (AuditQuery { outcome: Some(EntryOutcome::Settled), ..all() }, those(&[5, 4, 3, 2, 1, 0])),
        (AuditQuery { verdict: Some(EntryVerdict::Refused), ..all() }, vec![none]),
        (AuditQuery { vendor_object_id: text("ch_3"), ..all() }, those(&[3])),
        (AuditQuery { idempotency_key: text("k-2"), ..all() }, those(&[2])),
        (AuditQuery { idempotency_key: text("k-6"), ..all() }, vec![none]),
        (AuditQuery { idempotency_key: text("k-7"), ..all() }, vec![]),
        (AuditQuery { idempotency_key: text("k-2"), key_id: text(&second.key.key_id), ..all() }, vec![]),
        (AuditQuery { since: Some(timestamp(NOON + 4_000)), until: Some(timestamp(NOON + 6_000)), ..all() }, those(&[5, 4])),
        (AuditQuery { since: Some(timestamp(NOON + 3_001)), key_id: text(&first.key.key_id), ..all() }, vec![none, Some(4)]),
        (AuditQuery { until: Some(timestamp(NOON)), ..all() }, vec![]),
    ];
    for (query, expected) in rows {
        assert_eq!(found(query.clone()).await, expected, "{query:?}");
    }
    for filter in [
        all(),
        AuditQuery {
            key_id: text(&second.key.key_id),
            ..all()
        },
        AuditQuery {
            idempotency_key: text("k-1"),
            ..all()
        },
    ] {
        let whole: Vec<String> = bench
            .entries(filter.clone())
            .await
            .into_iter()
            .map(|entry| entry.id)
            .collect();
        let mut paged = Vec::new();
        let mut cursor = None;
        loop {
            let query = AuditQuery {
                limit: 1,
                cursor,
                ..filter.clone()
            };
            let page = bench.ledger.audit(query).await.unwrap();
            paged.extend(page.items.into_iter().map(|entry| entry.id));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(paged, whole);
    }
    let strange = AuditQuery {
        cursor: text("7"),
        limit: 1,
        ..all()
    };
    assert_eq!(
        bench.ledger.audit(strange).await.err(),
        Some(QueryError::InvalidCursor)
    );
    let entry = bench.entry(looked.hold).await;
    assert_eq!(
        (entry.method.as_str(), entry.path.as_str()),
        ("GET", "/v1/charges/ch_1")
    );
    assert_eq!(entry.params["customer"], "cus_1");
    assert_eq!(entry.key_id, second.key.key_id);
}

#[tokio::test]
async fn an_idempotency_keys_entry_that_moved_money_comes_first_over_all_pages() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    let first = bench.admitted(charge(&key, 900, "k-1")).await;
    bench.outcome(charged(&first, "ch_1", 900)).await;
    for _ in 0..3 {
        bench.reserve(charge(&key, 901, "k-1")).await;
    }
    let mut cursor = None;
    let mut seen = Vec::new();
    loop {
        let query = AuditQuery {
            idempotency_key: Some("k-1".to_owned()),
            limit: 2,
            cursor,
            ..AuditQuery::default()
        };
        let page = bench.ledger.audit(query).await.unwrap();
        seen.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[0].stripe_charge_id.as_deref(), Some("ch_1"));
    assert!(
        seen[1..]
            .iter()
            .all(|entry| entry.verdict == EntryVerdict::Refused)
    );
}
