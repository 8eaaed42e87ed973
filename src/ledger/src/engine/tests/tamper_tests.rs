//! What was made from the events cannot be edited unseen: entries, keys, balances.

use std::path::Path;

use rusqlite::Connection;

use super::bench::*;
use super::chain_tests::history;
use crate::engine::Broken;
use crate::model::{BudgetChange, Caps, TripOn};

#[tokio::test]
async fn a_flipped_byte_of_any_event_is_named() {
    let (folder, events) = history().await;
    let database = folder.path().join("k.db");
    let connection = Connection::open(&database).unwrap();
    for seq in 1..=i64::try_from(events).unwrap() {
        let body: Vec<u8> = connection
            .query_row("SELECT body FROM events WHERE seq = ?1", [seq], |row| {
                row.get(0)
            })
            .unwrap();
        let put = |body: &[u8]| {
            let change = rusqlite::params![body, seq];
            connection
                .execute("UPDATE events SET body = ?1 WHERE seq = ?2", change)
                .unwrap();
        };
        for place in [0, body.len() / 2, body.len() - 1] {
            let mut changed = body.clone();
            changed[place] ^= 1;
            put(&changed);
            let expected = Broken::Altered {
                seq: seq.cast_unsigned(),
            };
            assert_eq!(verified(&database).broken, Some(expected));
        }
        put(&body);
    }
    assert_eq!(verified(&database).broken, None);
}

/// What a verification says of a database after this edit.
async fn said_after(edit: &str) -> String {
    let (folder, _) = history().await;
    let database = folder.path().join("k.db");
    let whole = verified(&database);
    assert_eq!((whole.entries, whole.broken), (Some(5), None));
    said_of(&database, edit)
}

/// The same of this one.
fn said_of(database: &Path, edit: &str) -> String {
    let connection = Connection::open(database).unwrap();
    connection.execute_batch(edit).unwrap();
    drop(connection);
    verified(database)
        .broken
        .map_or_else(|| "whole".to_owned(), |broken| broken.to_string())
}

#[tokio::test]
async fn an_edited_entry_disagrees_with_its_events() {
    #[rustfmt::skip]
    let rows = [
        ("SET cost = 1 WHERE number = 2", "its cost"),
        ("SET amount = 1 WHERE number = 2", "its amount"),
        ("SET currency = 'eur' WHERE number = 2", "its amount"),
        ("SET hold = 2 WHERE number = 2", "the state of its money"),
        ("SET record = 2 WHERE number = 2", "the state of its money or of its record"),
        ("SET outcome = 3 WHERE number = 2", "its outcome"),
        ("SET attempts = 2 WHERE number = 2", "how often it was forwarded"),
        ("SET replays = 7 WHERE number = 2", "how often it was replayed"),
        ("SET status = 402 WHERE number = 2", "the vendor's status"),
        ("SET object = 'ch_x' WHERE number = 2", "the vendor's object"),
        ("SET charge = 'ch_x', charge_is_object = 0 WHERE number = 2", "charge"),
        ("SET label = 'x' WHERE number = 2", "its key, label"),
        ("SET idempotency_key = 'x' WHERE number = 2", "idempotency key"),
        ("SET kind = 2 WHERE number = 2", "its verdict"),
        ("SET event = 2 WHERE number = 3", "which event decided it"),
        ("SET id = zeroblob(24) WHERE number = 3", "there is no event of it"),
    ];
    for (edit, what) in rows {
        let said = said_after(&format!("UPDATE requests {edit}")).await;
        assert!(said.starts_with("the entry of request "), "{edit}: {said}");
        assert!(said.contains(what), "{edit}: {said}");
    }
    let said = said_after("DELETE FROM requests WHERE number IN (2, 4)").await;
    assert!(said.ends_with("(event 4) is missing"), "{said}");
}

#[tokio::test]
async fn an_edited_key_or_balance_disagrees_with_its_events() {
    #[rustfmt::skip]
    let rows = [
        ("UPDATE balances SET settled = settled - 1, free = free + 1", "what is held, settled or unknown"),
        ("UPDATE balances SET cap = cap + 5, free = free + 5", "its cap is not the one that was set"),
        ("UPDATE keys SET caps = replace(caps, '20000000', '90000000')", "its caps, grant, end or label"),
        ("UPDATE keys SET expires_at = expires_at + 1", "its caps, grant, end or label"),
        ("UPDATE keys SET key_grant = replace(key_grant, 'charges', 'refunds')", "its caps, grant, end or label"),
        ("UPDATE keys SET revoked_at = 5", "whether it is revoked"),
        ("UPDATE keys SET key_id = 'vk_x'", "there is no event of it"),
    ];
    for (edit, what) in rows {
        let said = said_after(edit).await;
        assert!(said.contains(what), "{edit}: {said}");
    }
}

/// A settled and a held charge under two budgets of different time zones, one of which has tripped; caps changed meanwhile.
async fn with_budgets() -> Folder {
    let bench = Bench::new();
    let caps = Caps {
        daily: Some(usd(5_000)),
        lifetime: Some(usd(10_000)),
        ..Caps::default()
    };
    bench.budget("company", None, caps).await;
    bench
        .budget_like("team", Some("company"), caps, |budget| {
            budget.time_zone = "Pacific/Auckland".to_owned();
            budget.trip_on = Some(TripOn {
                refusals: 1,
                within_seconds: 60,
            });
        })
        .await;
    let under = async |name: &str| {
        let change = |key: &mut crate::model::NewKey| key.budget = Some(name.to_owned());
        bench.key_like(daily(2_000), change).await
    };
    let (own, above) = (under("team").await, under("company").await);
    let settled = bench.admitted(charge(&own, 300, "k-1")).await;
    bench.outcome(charged(&settled, "ch_1", 300)).await;
    let raised = Caps {
        monthly: Some(usd(9_000)),
        ..caps
    };
    let change = BudgetChange {
        caps: Some(raised),
        ..BudgetChange::default()
    };
    bench.budget_change("team", change).await;
    bench.admitted(charge(&own, 40, "k-2")).await;
    bench.admitted(charge(&above, 5, "k-3")).await;
    bench.reserve(charge(&own, 2_001, "k-4")).await;
    let Bench { ledger, folder, .. } = bench;
    ledger.close().await;
    folder
}

#[tokio::test]
async fn an_edited_budget_or_its_balance_disagrees_with_its_events() {
    const NUMBER: &str = "(SELECT number FROM budgets WHERE name =";
    #[rustfmt::skip]
    let rows = [
        ("", "whole"),
        ("UPDATE balances SET settled = settled - 1, free = free + 1 WHERE settled > 0 AND subject = $ 'team')",
         "the balance of budget team in window"),
        ("UPDATE balances SET held = held - 1, free = free + 1 WHERE subject = $ 'company')",
         "the balance of budget company in window"),
        ("UPDATE balances SET cap = cap + 5, free = free + 5 WHERE subject = $ 'team')", "its cap is not the one that was set"),
        ("UPDATE budgets SET caps = replace(caps, '50000000', '90000000') WHERE name = 'team'",
         "the budget team does not agree with its events: its caps, state"),
        ("UPDATE budgets SET state = 0 WHERE name = 'team'", "the budget team does not agree"),
        ("UPDATE budgets SET trip_on = NULL WHERE name = 'team'", "the budget team does not agree"),
        ("UPDATE budgets SET parent = NULL WHERE name = 'team'", "the budget team does not agree"),
        ("UPDATE budgets SET time_zone = 'UTC' WHERE name = 'team'", "the budget team does not agree"),
        ("UPDATE budgets SET name = 'x' WHERE name = 'team'", "the key vk_"),
        ("INSERT INTO subjects DEFAULT VALUES;
          INSERT INTO budgets SELECT last_insert_rowid(), 'x', parent, caps, time_zone, state, trip_on, duplicates, rule_version,
              version, created_at, tripped_at, metadata FROM budgets WHERE name = 'team'",
         "the budget x does not agree with its events: there is no event of it"),
        ("UPDATE requests SET budget = $ 'company') WHERE budget = $ 'team')", "its key, label, budget"),
    ];
    for (edit, what) in rows {
        let folder = with_budgets().await.for_damage();
        let said = said_of(&folder.path().join("k.db"), &edit.replace('$', NUMBER));
        assert!(said.contains(what), "{edit}: {said}");
    }
}
