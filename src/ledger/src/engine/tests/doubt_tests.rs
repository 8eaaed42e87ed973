//! What goes wrong between a ledger and its database: refused transactions, lost answers, lost connections.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keybrake_contract::digest::Digest;
use keybrake_contract::wire::*;

use super::bench::*;
use super::place::Place;
use crate::clock::Clock;
use crate::engine::{LedgerOptions, Readiness, Unavailable};
use crate::model::AuditQuery;
use crate::store::postgres::relay::Relay;
use crate::store::postgres::server::Server;

/// A ledger whose way to the database goes through a relay.
fn relayed() -> (Bench, Relay) {
    let folder = Folder::new();
    let mut place = Place::new(folder.path());
    let relay = Relay::to(place.schema.address());
    place.url = Some(place.schema.url_at(relay.port));
    (Bench::at(place, folder), relay)
}

/// Has the server refuse so many of the next transactions that put a request on record.
fn refuse_next(bench: &Bench, count: u32, code: &str) {
    bench.place.schema.sql(&format!(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') <= {count} THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON requests FOR EACH STATEMENT EXECUTE FUNCTION refuse();"
    ));
}

#[tokio::test]
async fn a_transaction_that_the_server_refuses_is_done_again_and_once() {
    for code in ["40001", "40P01"] {
        let bench = Bench::new();
        let key = bench.key(daily(2_000)).await;
        refuse_next(&bench, 3, code);
        let before = bench.ledger.figures().await;
        let nobodys = Reserve {
            key_digest: Digest::of(b"nobody's"),
            ..charge(&key, 1, "k-0")
        };
        let commands = [
            received(&Command::Reserve(Box::new(nobodys))),
            received(&Command::Reserve(Box::new(charge(&key, 500, "k-1")))),
        ];
        let answers = bench.ledger.execute(commands.to_vec()).await.unwrap();
        assert!(matches!(answers[1].result, CommandResult::Admitted(_)));
        assert_eq!(bench.parts(&key).await, [1_500, 500, 0, 0]);
        let after = bench.ledger.figures().await;
        assert_eq!(after.commits, before.commits + 1, "{code}");
        assert_eq!(after.events, before.events + 1);
        assert_eq!(
            after.refusals["vault_key_invalid"], 1,
            "counted once, however often it was tried"
        );
        let tried = bench.place.schema.sql("SELECT last_value FROM tries");
        assert_eq!(tried, "4");
        assert_eq!(bench.ledger.readiness(), Readiness::Ready);
    }
}

#[tokio::test]
async fn a_transaction_that_is_always_refused_is_given_up_and_nothing_is_done() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    refuse_next(&bench, 1_000_000, "40001");
    let command = Command::Reserve(Box::new(charge(&key, 500, "k-1")));
    let refused = bench.try_send(command.clone()).await;
    assert_eq!(refused, Err(Unavailable::Unreachable));
    // A chore that the server does not refuse may have found it again already.
    bench.place.schema.sql("DROP TRIGGER refuse ON requests");
    bench
        .eventually("it goes on", || async {
            bench.ledger.readiness() == Readiness::Ready
        })
        .await;
    assert_eq!(bench.parts(&key).await, [2_000, 0, 0, 0]);
    assert!(matches!(
        bench.send(command).await,
        CommandResult::Admitted(_)
    ));
    assert_eq!(bench.parts(&key).await, [1_500, 500, 0, 0]);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_again_and_debited_once() {
    let (bench, relay) = relayed();
    let key = bench.key(daily(2_000)).await;
    relay.cut_after_next_commit();
    let first = charge(&key, 500, "k-1");
    let admitted = bench.admitted(first.clone()).await;
    assert_eq!(relay.cuts.load(Ordering::SeqCst), 1);
    assert_eq!(bench.parts(&key).await, [1_500, 500, 0, 0]);
    let again = bench.reserve(first).await;
    assert_eq!(again, CommandResult::Admitted(admitted.clone()));
    relay.cut_after_next_commit();
    bench.outcome(charged(&admitted, "ch_1", 500)).await;
    assert_eq!(bench.parts(&key).await, [1_500, 0, 500, 0]);
    relay.cut_after_next_commit();
    let keys = bench.ledger.issue(vec![new_key(daily(5), NOON)]).await;
    assert_eq!(keys.unwrap().len(), 1);
    assert_eq!(bench.ledger.figures().await.keys, 2, "issued once");
    assert_eq!(relay.cuts.load(Ordering::SeqCst), 3);
    assert_eq!(bench.entries(AuditQuery::default()).await.len(), 1);
}

#[tokio::test]
async fn a_commit_that_did_not_arrive_is_done_again_and_debited_once() {
    let (bench, relay) = relayed();
    let key = bench.key(daily(2_000)).await;
    relay.cut_before_next_commit();
    bench.admitted(charge(&key, 500, "k-1")).await;
    assert_eq!(relay.cuts.load(Ordering::SeqCst), 1);
    assert_eq!(bench.parts(&key).await, [1_500, 500, 0, 0]);
    relay.cut_before_next_commit();
    bench
        .ledger
        .issue(vec![new_key(daily(5), NOON)])
        .await
        .unwrap();
    assert_eq!(bench.ledger.figures().await.keys, 2);
}

#[tokio::test]
async fn without_its_database_a_ledger_turns_away_soon_and_goes_on_without_a_restart() {
    let (bench, relay) = relayed();
    let key = bench.key(daily(2_000)).await;
    let admitted = bench.admitted(charge(&key, 500, "k-1")).await;
    relay.close();
    let late = Command::Reserve(Box::new(charge(&key, 500, "k-2")));
    let begun = Instant::now();
    assert_eq!(
        bench.try_send(late.clone()).await,
        Err(Unavailable::Unreachable)
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(matches!(
        bench.ledger.readiness(),
        Readiness::Unreachable { .. }
    ));
    for _ in 0..3 {
        let begun = Instant::now();
        assert!(bench.try_send(late.clone()).await.is_err());
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "nobody waits again"
        );
    }
    relay.open();
    bench
        .eventually("it goes on", || async {
            bench.ledger.readiness() == Readiness::Ready
        })
        .await;
    assert!(matches!(bench.send(late).await, CommandResult::Admitted(_)));
    bench.outcome(charged(&admitted, "ch_1", 500)).await;
    assert_eq!(bench.parts(&key).await, [1_000, 500, 500, 0]);
}

#[tokio::test]
async fn a_lost_answer_and_a_lost_database_leave_it_open_until_it_is_known() {
    let (bench, relay) = relayed();
    let key = bench.key(daily(2_000)).await;
    let command = Command::Reserve(Box::new(charge(&key, 500, "k-1")));
    // The server is asked to wait with the commit, so that the relay can be closed before anybody looks.
    relay.cut_after_next_commit();
    let (ledger, sent) = (bench.ledger.clone(), received(&command));
    let waiting = tokio::spawn(async move { ledger.execute(vec![sent]).await });
    bench
        .eventually("it was cut", || async {
            relay.cuts.load(Ordering::SeqCst) == 1
        })
        .await;
    relay.close();
    let answer = waiting.await.unwrap();
    relay.open();
    bench
        .eventually("it goes on", || async {
            bench.ledger.readiness() == Readiness::Ready
        })
        .await;
    // Whether the answer was in doubt or had been settled before the way was closed: it was committed, once.
    if let Err(why) = answer {
        assert_eq!(why, Unavailable::InDoubt);
    }
    assert!(matches!(
        bench.send(command).await,
        CommandResult::Admitted(_)
    ));
    assert_eq!(bench.parts(&key).await, [1_500, 500, 0, 0]);
    assert_eq!(bench.entries(AuditQuery::default()).await.len(), 1);
}

#[tokio::test]
async fn a_database_that_has_gone_back_in_time_is_not_written_to() {
    let mut bench = Bench::new();
    bench.place.is_damaged = true;
    let key = bench.key(daily(2_000)).await;
    bench.admitted(charge(&key, 500, "k-1")).await;
    bench
        .place
        .schema
        .sql("UPDATE turn SET number = number - 1");
    let failed = tokio::time::timeout(Duration::from_secs(20), bench.ledger.failed());
    let why = failed.await.unwrap();
    assert!(
        why.contains("the database has lost what was committed"),
        "{why}"
    );
    let command = Command::Reserve(Box::new(charge(&key, 500, "k-2")));
    assert_eq!(bench.try_send(command).await, Err(Unavailable::Failed));
}

#[tokio::test]
async fn money_that_was_changed_past_the_ledger_is_not_overwritten() {
    let mut bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    bench.admitted(charge(&key, 500, "k-1")).await;
    bench.place.is_damaged = true;
    // By hand, without taking the turn: 15 dollars of the 20 are gone.
    bench
        .place
        .schema
        .sql("UPDATE balances SET free = 0, settled = settled + free");
    let command = Command::Reserve(Box::new(charge(&key, 500, "k-2")));
    let refused = bench.send(command).await;
    assert!(matches!(refused, CommandResult::Refused(_)), "{refused:?}");
    assert_eq!(bench.parts(&key).await, [0, 500, 1_500, 0]);
}

#[tokio::test]
async fn a_text_that_no_column_can_hold_costs_no_outcome() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let admitted = bench.admitted(charge(&key, 500, "k-1")).await;
    let odd = Outcome {
        vendor_request_id: Some("req\0_1".to_owned()),
        answer: Some(StoredAnswer {
            body: "{\"x\":\"\0\"}".to_owned(),
            ..answer("ch_1", 500)
        }),
        ..charged(&admitted, "ch\0_1", 500)
    };
    bench.outcome(odd).await;
    assert_eq!(bench.parts(&key).await, [1_500, 0, 500, 0]);
    let CommandResult::Replay(replay) = bench.reserve(charge(&key, 500, "k-1")).await else {
        panic!("no replay")
    };
    assert_eq!(replay.answer.body, "{\"x\":\"\0\"}", "the answer is whole");
}

#[tokio::test]
async fn what_cannot_be_opened_is_one_line_without_a_password() {
    let bench = Bench::new();
    let (clock, _) = Clock::manual(NOON);
    let wrong = bench.place.schema.url.replace(
        "sandbox-database-password-0001",
        "sandbox-wrong-password-0001",
    );
    let nobody = "postgres://u:sandbox-wrong-password-0001@127.0.0.1:1/k".to_owned();
    let mut foreign = Place::new(bench.folder.path());
    foreign.is_damaged = true;
    foreign.schema.sql("CREATE TABLE requests (x int)");
    let mut newer = Place::new(bench.folder.path());
    newer.is_damaged = true;
    open(newer.options(bench.folder.path()), &clock)
        .unwrap()
        .close()
        .await;
    newer.schema.sql("UPDATE keybrake_version SET version = 99");
    for (url, expected) in [
        (wrong, "password authentication failed"),
        (nobody, "cannot use the database postgres://127.0.0.1:1/k"),
        (foreign.schema.url.clone(), "tables of another program"),
        (
            newer.schema.url.clone(),
            "schema version 99; this program knows up to 1",
        ),
    ] {
        let database = crate::store::Database::parse(&url).unwrap();
        let error = open(LedgerOptions::new(database), &clock).err().unwrap();
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("sandbox-"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_not_on_the_standby_is_not_called_done() {
    let server = Server::start(&[]);
    let folder = Folder::new();
    let mut place = Place::new(folder.path());
    place.url = Some(server.url(&server.schema()));
    let bench = Bench::at(place, folder);
    let key = bench.key(daily(2_000)).await;
    // From now on every commit waits for a standby that is not there.
    server.configure("synchronous_standby_names = 'nobody'");
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let command = Command::Reserve(Box::new(charge(&key, 500, "k-1")));
    let (ledger, sent) = (bench.ledger.clone(), received(&command));
    let asked = tokio::spawn(async move { ledger.execute(vec![sent]).await });
    bench
        .eventually("a commit waits", || async {
            !server.sql("public", waiting).is_empty()
        })
        .await;
    // An impatient operator: the server now says that it is committed, with a warning.
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    while !asked.is_finished() {
        server.sql("public", cancel);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(asked.await.unwrap(), Err(Unavailable::InDoubt));
    assert!(
        server
            .log()
            .contains("canceling wait for synchronous replication")
    );
    server.configure("synchronous_standby_names = ''");
    bench
        .eventually("it goes on", || async {
            bench.ledger.readiness() == Readiness::Ready
        })
        .await;
    assert!(matches!(
        bench.send(command).await,
        CommandResult::Admitted(_)
    ));
    assert_eq!(bench.parts(&key).await, [1_500, 500, 0, 0]);
    assert_eq!(bench.entries(AuditQuery::default()).await.len(), 1);
}
