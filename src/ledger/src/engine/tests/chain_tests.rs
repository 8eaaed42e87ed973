//! A chain in a file that shows every tampering.

use std::path::Path;

use keybrake_contract::digest::Digest;
use rusqlite::Connection;

use super::bench::*;
use crate::clock::Clock;
use crate::engine::{Broken, OpenError, VerifyReport};

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
    let running = verified(folder.path().join("k.db"));
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
