//! The audit: entries by every filter, and a chain that shows every tampering.

use std::path::Path;

use keybrake_contract::digest::Digest;
use keybrake_contract::wire::*;
use rusqlite::Connection;

use super::bench::*;
use crate::clock::{Clock, timestamp};
use crate::engine::{Broken, OpenError, QueryError, VerifyReport};
use crate::model::{AuditQuery, EntryOutcome, EntryVerdict};

/// A ledger with some history, closed.
pub async fn history() -> (tempfile::TempDir, u64) {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    for number in 0..5 {
        let admitted = bench
            .admitted(charge(&key, 100, &format!("k-{number}")))
            .await;
        bench
            .outcome(charged(&admitted, &format!("ch_{number}"), 100))
            .await;
    }
    bench.reserve(charge(&key, 100, "k-1")).await;
    let events = bench.ledger.figures().await.events;
    let Bench { ledger, folder, .. } = bench;
    let running = verified(&folder.path().join("k.db"));
    assert_eq!((running.events, running.broken), (events, None));
    ledger.close().await;
    (folder.for_damage(), events)
}

pub fn tampered(database: &Path, sql: &str) -> VerifyReport {
    let connection = Connection::open(database).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    verified(database)
}

#[tokio::test]
async fn verify_names_the_first_event_that_was_edited_dropped_swapped_or_cut_off() {
    let edit = "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), '\"amount\":100', '\"amount\":101') AS BLOB)
                WHERE seq IN (4, 6)";
    let swap = "UPDATE events SET seq = -1 WHERE seq = 5; UPDATE events SET seq = 5 WHERE seq = 7;
                UPDATE events SET seq = 7 WHERE seq = -1";
    let cases = [
        (edit, Broken::Altered { seq: 4 }),
        (
            "UPDATE events SET hash = zeroblob(32) WHERE seq = 3",
            Broken::Altered { seq: 3 },
        ),
        (
            "DELETE FROM events WHERE seq = 6",
            Broken::Missing { seq: 6 },
        ),
        (
            "DELETE FROM events WHERE seq = 1",
            Broken::Missing { seq: 1 },
        ),
        (swap, Broken::Altered { seq: 5 }),
        (
            "DELETE FROM events WHERE seq > 8",
            Broken::BehindSigned {
                missing: 9,
                signed: 12,
            },
        ),
        (
            "DELETE FROM events",
            Broken::BehindSigned {
                missing: 1,
                signed: 12,
            },
        ),
        (
            "DELETE FROM signed_heads; DELETE FROM events WHERE seq > 8",
            Broken::CutOff { last: 8, head: 12 },
        ),
        (
            "INSERT INTO events SELECT 13, hash, body FROM events WHERE seq = 12",
            Broken::Altered { seq: 13 },
        ),
        (
            "UPDATE events SET seq = -seq WHERE seq > 6; INSERT INTO events SELECT 7, hash, body FROM events WHERE seq = 6;
             UPDATE events SET seq = 1 - seq WHERE seq < 0",
            Broken::Altered { seq: 7 },
        ),
        (
            "UPDATE events SET seq = seq - 1 WHERE seq > 0; DELETE FROM events WHERE seq = 0",
            Broken::Altered { seq: 1 },
        ),
        ("UPDATE chain SET seq = 11", Broken::NotTheHead { seq: 12 }),
        (
            "UPDATE chain SET hash = zeroblob(32)",
            Broken::NotTheHead { seq: 12 },
        ),
        (
            "UPDATE chain SET id = 'another'",
            Broken::Altered { seq: 1 },
        ),
    ];
    for (sql, expected) in cases {
        let (folder, events) = history().await;
        assert_eq!(events, 12);
        let database = folder.path().join("k.db");
        let report = tampered(&database, sql);
        assert_eq!(report.broken, Some(expected), "{sql}");
        let is_seen_at_the_end = ["chain SET seq", "chain SET hash", "SELECT 13"]
            .iter()
            .any(|edit| sql.contains(edit));
        assert_eq!(report.events < 12, !is_seen_at_the_end, "{sql}");
    }
}

#[tokio::test]
async fn an_edited_event_with_a_hash_to_match_is_shown_by_the_next_one() {
    let (folder, _) = history().await;
    let database = folder.path().join("k.db");
    let connection = Connection::open(&database).unwrap();
    let (chain, before): (String, [u8; 32]) = connection
        .query_row(
            "SELECT c.id, e.hash FROM chain c, events e WHERE e.seq = 3",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let forged = br#"{"alarm":"none","at":1,"event":"alarm"}"#.as_slice();
    let hash = Digest::of_parts([chain.as_bytes(), &4_u64.to_be_bytes(), &before, forged]);
    connection
        .execute(
            "UPDATE events SET body = ?1, hash = ?2 WHERE seq = 4",
            rusqlite::params![forged, hash.as_bytes()],
        )
        .unwrap();
    drop(connection);
    let report = verified(&database);
    assert_eq!(report.broken, Some(Broken::Altered { seq: 5 }));
}

#[tokio::test]
async fn a_chain_that_was_cut_off_is_not_opened_and_not_gone_on_with() {
    let (folder, _) = history().await;
    let database = folder.path().join("k.db");
    tampered(
        &database,
        "DELETE FROM signed_heads; DELETE FROM events WHERE seq > 8",
    );
    let (clock, _) = Clock::manual(NOON);
    match open_at(&database, &clock) {
        Err(OpenError::Corrupt { why, .. }) => assert!(why.contains("ends at event 8"), "{why}"),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn the_chain_goes_on_over_a_restart_and_keeps_its_name() {
    let (folder, events) = history().await;
    let database = folder.path().join("k.db");
    let before = verified(&database);
    let (clock, _) = Clock::manual(NOON);
    let ledger = open_at(&database, &clock).unwrap();
    ledger.issue(vec![new_key(daily(5), NOON)]).await.unwrap();
    ledger.close().await;
    let after = verified(&database);
    assert_eq!(after.broken, None);
    assert_eq!(after.chain, before.chain);
    assert_eq!(after.head.0, events + 1);
}

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
        reserve.request.run_id = Some(format!("run-{}", number / 3));
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
