//! Keys: issued, listed, changed, revoked, expired.

use keybrake_contract::digest::Digest;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::vault_key;
use keybrake_contract::wire::CommandResult;

use super::bench::*;
use crate::clock::timestamp;
use crate::engine::{ChangeError, IssueError, QueryError};
use crate::model::{Caps, KeyChange, KeyFilter, KeyStatus};

#[tokio::test]
async fn an_issued_key_is_on_record_by_its_digest_alone() {
    let bench = Bench::new();
    let issued = bench
        .key_like(daily(5), |key| {
            key.metadata = Some(serde_json::json!({"team": "x"}));
            key.worst_case = Some(usd(7));
        })
        .await;
    let secret = issued.secret.expose();
    assert_eq!(vault_key::digest(secret.as_bytes()), Ok(issued.key.digest));
    assert_eq!(issued.key.grant.key_id, issued.key.key_id);
    assert_eq!(issued.key.grant.version, 1);
    let (key, balances) = bench.ledger.key(&issued.key.key_id).await.unwrap().unwrap();
    assert_eq!(format!("{key:?}"), format!("{:?}", issued.key));
    assert_eq!(balances.len(), 1);
    assert_eq!(balances[0].free, usd(5));
    let secret = secret.to_owned();
    bench.ledger.close().await;
    let everything = bench.place.everything();
    assert!(everything.len() > 100);
    let is_there = everything
        .windows(secret.len())
        .any(|part| part == secret.as_bytes());
    assert!(!is_there);
}

#[tokio::test]
async fn many_keys_are_issued_all_or_none() {
    let bench = Bench::new();
    let key = || new_key(daily(5), NOON);
    let mut foreign = key();
    foreign.grant.vendor = "nobody".to_owned();
    assert_eq!(
        bench.ledger.issue(vec![key(), foreign]).await.err(),
        Some(IssueError::UnknownVendor { index: 1 })
    );
    let mut late = key();
    late.expires_at = timestamp(NOON);
    assert_eq!(
        bench.ledger.issue(vec![key(), late]).await.err(),
        Some(IssueError::AlreadyExpired { index: 1 })
    );
    assert_eq!(bench.ledger.figures().await.keys, 0);
    let issued = bench.ledger.issue(vec![key(), key(), key()]).await.unwrap();
    assert_eq!(issued.len(), 3);
    assert_eq!(bench.ledger.figures().await.keys, 3);
}

#[tokio::test]
async fn keys_are_listed_newest_first_page_by_page() {
    let bench = Bench::new();
    let mut ids = Vec::new();
    for number in 0..5 {
        let issued = bench
            .key_like(daily(5), |key| {
                key.label = format!("run-{number}%_");
                key.workspace = if number % 2 == 0 { "even" } else { "odd" }.to_owned();
                if number == 4 {
                    key.expires_at = timestamp(NOON + 1);
                }
            })
            .await;
        ids.push(issued.key.key_id);
    }
    bench.ledger.revoke(&ids[0]).await.unwrap().unwrap();
    bench.hand.advance_ms(1);
    let list = async |filter: KeyFilter| {
        let page = bench.ledger.keys(filter).await.unwrap();
        let found: Vec<usize> = page
            .items
            .iter()
            .map(|key| ids.iter().position(|id| *id == key.key_id).unwrap())
            .collect();
        (found, page.next_cursor)
    };
    let all = || KeyFilter {
        limit: 2,
        ..KeyFilter::default()
    };
    let (first, cursor) = list(all()).await;
    assert_eq!(first, [4, 3]);
    let (second, cursor) = list(KeyFilter { cursor, ..all() }).await;
    assert_eq!(second, [2, 1]);
    let (third, cursor) = list(KeyFilter { cursor, ..all() }).await;
    assert_eq!((third, cursor), (vec![0], None));
    let some = |filter| {
        list(KeyFilter {
            limit: 100,
            ..filter
        })
    };
    let by_prefix = |prefix: &str| KeyFilter {
        label_prefix: Some(prefix.to_owned()),
        ..KeyFilter::default()
    };
    assert_eq!(some(by_prefix("run-3")).await.0, [3]);
    assert!(some(by_prefix("run-%")).await.0.is_empty(), "no wildcards");
    for (status, expected) in [
        (KeyStatus::Active, vec![3, 2, 1]),
        (KeyStatus::Expired, vec![4]),
        (KeyStatus::Revoked, vec![0]),
    ] {
        let filter = KeyFilter {
            status: Some(status),
            ..KeyFilter::default()
        };
        assert_eq!(some(filter).await.0, expected);
    }
    let filter = KeyFilter {
        workspace: Some("odd".to_owned()),
        vendor: Some("stripe".to_owned()),
        ..KeyFilter::default()
    };
    assert_eq!(some(filter).await.0, [3, 1]);
    let strange = KeyFilter {
        cursor: Some("first".to_owned()),
        ..all()
    };
    assert_eq!(
        bench.ledger.keys(strange).await.err(),
        Some(QueryError::InvalidCursor)
    );
}

#[tokio::test]
async fn a_change_is_effective_on_the_very_next_reserve() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    bench.admitted(charge(&key, 10, "k-1")).await;
    let mut grant = key.key.grant.clone();
    grant.vendor_accounts = vec!["acct_1".to_owned()];
    grant.key_id = "vk_of_somebody_else".to_owned();
    grant.version = 99;
    let change = KeyChange {
        grant: Some(grant),
        label: Some("renamed".to_owned()),
        worst_case: Some(usd(3)),
        ..KeyChange::default()
    };
    let (changed, _) = bench.ledger.change(&key.key.key_id, change).await.unwrap();
    assert_eq!(changed.grant.key_id, key.key.key_id);
    assert_eq!(changed.grant.version, 2);
    let CommandResult::Grant(grant) = bench.reserve(charge(&key, 10, "k-2")).await else {
        panic!("no grant")
    };
    assert_eq!(*grant, changed.grant);
    let (found, _) = bench.ledger.key(&key.key.key_id).await.unwrap().unwrap();
    assert_eq!(
        (found.label.as_str(), found.worst_case),
        ("renamed", Some(usd(3)))
    );
    let nobody = bench.ledger.change("vk_none", KeyChange::default()).await;
    assert_eq!(nobody.err(), Some(ChangeError::NotFound));
    assert!(bench.ledger.revoke("vk_none").await.unwrap().is_none());
    bench.ledger.revoke(&key.key.key_id).await.unwrap().unwrap();
    let revoked = bench
        .ledger
        .change(&key.key.key_id, KeyChange::default())
        .await;
    assert_eq!(revoked.err(), Some(ChangeError::Revoked));
}

#[tokio::test]
async fn keys_end_by_time_by_hand_and_by_label() {
    let bench = Bench::new();
    let refused = |code| CommandResult::Refused(Refusal::plain(code));
    let short = bench
        .key_like(daily(1_000), |key| key.expires_at = timestamp(NOON + HOUR))
        .await;
    bench.hand.advance_ms(HOUR - 1);
    bench.admitted(charge(&short, 10, "k-1")).await;
    bench.hand.advance_ms(1);
    assert_eq!(
        bench.reserve(charge(&short, 10, "k-1")).await,
        refused(RefusalCode::VaultKeyExpired),
        "also for a known idempotency key"
    );
    let labelled = async |label: &str| {
        let label = label.to_owned();
        bench.key_like(daily(1_000), |key| key.label = label).await
    };
    let (one, two, other) = (
        labelled("run-1").await,
        labelled("run-12").await,
        labelled("Run-1").await,
    );
    bench.ledger.revoke(&one.key.key_id).await.unwrap().unwrap();
    assert_eq!(bench.ledger.revoke_by_label_prefix("run-1").await, Ok(1));
    assert_eq!(bench.ledger.revoke_by_label_prefix("run-1").await, Ok(0));
    for key in [&one, &two] {
        assert_eq!(
            bench.reserve(charge(key, 10, "k-2")).await,
            refused(RefusalCode::VaultKeyRevoked)
        );
    }
    bench.admitted(charge(&other, 10, "k-3")).await;
    // A key that was cached keeps nothing of its former self.
    let again = bench.ledger.revoke(&two.key.key_id).await.unwrap().unwrap();
    assert!(again.revoked_at.is_some());
    assert_ne!(again.digest, Digest::of(b""));
    let _ = Caps::default();
}
