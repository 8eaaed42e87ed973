//! Signed heads: when they are made, and what they show that a chain alone does not.

use std::path::{Path, PathBuf};

use keybrake_contract::digest::Digest;
use rusqlite::{Connection, params};

use super::bench::*;
use super::chain_tests::history;
use crate::audit::{Head, PublicKey, SignedHeads, export, verify_export};
use crate::clock::Clock;
use crate::engine::{
    Broken, LedgerOptions, OpenError, Trust, VerifyReport, last_signed_heads, verify,
};
use crate::signing::{MissingKey, key_beside, make_key, read_key};
use crate::store::sqlite;

fn heads_of(database: &Path) -> Vec<SignedHeads> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection
        .prepare("SELECT line FROM signed_heads ORDER BY number")
        .unwrap();
    let lines = statement.query_map([], |row| row.get::<_, String>(0));
    lines
        .unwrap()
        .map(|line| SignedHeads::parse(&line.unwrap()).unwrap())
        .collect()
}

fn seqs(heads: &[SignedHeads]) -> Vec<u64> {
    heads.iter().map(|signed| signed.heads[0].seq).collect()
}

fn kept(file: &Path) -> Vec<SignedHeads> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| SignedHeads::parse(line).unwrap());
    lines.collect()
}

fn with_kept(database: &Path, kept: Vec<SignedHeads>) -> VerifyReport {
    let trust = Trust {
        kept,
        public_keys: Vec::new(),
    };
    verify(database, &trust).unwrap()
}

fn with_key(database: &Path, key: PublicKey) -> VerifyReport {
    let trust = Trust {
        kept: Vec::new(),
        public_keys: vec![key],
    };
    verify(database, &trust).unwrap()
}

/// All files of a database, as they are, under another name.
fn copied(database: &Path, name: &str) -> PathBuf {
    let copy = database.with_file_name(name);
    std::fs::copy(database, &copy).unwrap();
    copy
}

#[tokio::test]
async fn heads_are_signed_after_so_many_events_and_when_the_ledger_closes() {
    let bench = Bench::with(|options| options.signing.every_events = 5);
    let key = bench.key(daily(100_000)).await;
    for number in 0..11 {
        bench.reserve(charge(&key, 1, &format!("k-{number}"))).await;
    }
    let database = bench.database();
    assert_eq!(seqs(&heads_of(&database)), [5, 10], "not one per request");
    let bench = bench.reopened().await;
    assert_eq!(seqs(&heads_of(&database)), [5, 10, 12]);
    let bench = bench.reopened().await;
    assert_eq!(
        seqs(&heads_of(&database)),
        [5, 10, 12],
        "nothing new, nothing signed"
    );
    let report = verified(bench.database());
    assert_eq!(report.signed.unwrap().seq, 12);
}

#[tokio::test]
async fn a_head_is_signed_when_an_event_has_waited_long_enough() {
    let bench = Bench::new();
    bench.key(daily(5)).await;
    let database = bench.database();
    assert!(last_signed_heads(&database).unwrap().is_none());
    bench.hand.advance_ms(9_999);
    bench.key(daily(5)).await;
    assert!(last_signed_heads(&database).unwrap().is_none());
    bench.hand.advance_ms(1);
    bench
        .eventually("the chores sign", async || {
            last_signed_heads(&database).unwrap().is_some()
        })
        .await;
    let heads = heads_of(&database);
    assert_eq!((seqs(&heads), heads[0].at), (vec![2], NOON + 10_000));
}

#[tokio::test]
async fn a_chain_that_was_written_anew_is_not_the_one_that_was_signed() {
    let (folder, _) = history().await;
    let database = folder.path().join("k.db");
    let key = heads_of(&database)[0].public_key;
    assert_eq!(with_key(&database, key).broken, None);
    forge_event(&database, 4);
    let broken = verified(&database).broken;
    assert_eq!(broken, Some(Broken::NotAsSigned { from: 1, to: 12 }));
    let connection = Connection::open(&database).unwrap();
    connection.execute("DELETE FROM signed_heads", []).unwrap();
    assert_eq!(
        verified(&database).broken,
        None,
        "without any key to rely on it is a chain like another"
    );
    let broken = with_key(&database, key).broken;
    assert_eq!(broken, Some(Broken::NotSigned { from: 1 }));
    // Signed by whoever wrote it anew.
    let forger = make_key(&folder.path().join("forger")).unwrap();
    let head = Head {
        chain: verified(&database).chain,
        hash: verified(&database).head.1.as_str().try_into().unwrap(),
        seq: 12,
    };
    let line = forger.sign(NOON, vec![head]).unwrap().to_line().unwrap();
    let add = "INSERT INTO signed_heads (seq, line) VALUES (12, ?1)";
    connection.execute(add, [&line]).unwrap();
    assert_eq!(with_key(&database, forger.public()).broken, None);
    let broken = with_key(&database, key).broken.unwrap().to_string();
    assert!(broken.contains("another key"), "{broken}");
    let cut = line.replace("\"seq\":12", "\"seq\":11");
    connection
        .execute("UPDATE signed_heads SET line = ?1", [&cut])
        .unwrap();
    let broken = verified(&database).broken.unwrap().to_string();
    assert!(broken.contains("its signature is wrong"), "{broken}");
}

/// Edits an event so that its entry still agrees, and makes every hash after it fit.
fn forge_event(database: &Path, from: i64) {
    let connection = Connection::open(database).unwrap();
    connection
        .execute(
            "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'cus_1', 'cus_2') AS BLOB) WHERE seq = ?1",
            [from],
        )
        .unwrap();
    rechain(&connection);
}

fn rechain(connection: &Connection) {
    let (chain, last): (String, i64) = connection
        .query_row(
            "SELECT id, (SELECT max(seq) FROM events) FROM chain",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let mut hash = Digest::from_bytes([0; 32]);
    for seq in 1..=last {
        let body: Vec<u8> = connection
            .query_row("SELECT body FROM events WHERE seq = ?1", [seq], |row| {
                row.get(0)
            })
            .unwrap();
        let number = seq.cast_unsigned().to_be_bytes();
        hash = Digest::of_parts([chain.as_bytes(), &number, hash.as_bytes(), &body]);
        connection
            .execute(
                "UPDATE events SET hash = ?1 WHERE seq = ?2",
                params![hash.as_bytes(), seq],
            )
            .unwrap();
    }
    connection
        .execute(
            "UPDATE chain SET seq = ?1, hash = ?2",
            params![last, hash.as_bytes()],
        )
        .unwrap();
}

#[tokio::test]
async fn a_truncated_tail_is_shown_by_heads_kept_elsewhere_and_by_nothing_else() {
    let (folder, _) = history().await;
    let database = folder.path().join("k.db");
    let heads = heads_of(&database);
    let report = with_kept(&database, heads.clone());
    assert_eq!((report.broken, report.kept_heads), (None, 1));
    // The last event is a replay: it goes together with everything that speaks of it.
    let connection = Connection::open(&database).unwrap();
    connection
        .execute_batch(
            "DELETE FROM signed_heads; DELETE FROM events WHERE seq = 12; UPDATE requests SET replays = 0",
        )
        .unwrap();
    rechain(&connection);
    assert_eq!(verified(&database).broken, None);
    let broken = with_kept(&database, heads.clone()).broken;
    assert_eq!(
        broken,
        Some(Broken::BehindSigned {
            missing: 12,
            signed: 12
        })
    );
    let (other, _) = history().await;
    let broken = with_kept(&other.path().join("k.db"), heads.clone()).broken;
    let chain = heads[0].heads[0].chain.clone();
    assert_eq!(broken, Some(Broken::OtherChain { chain }));
}

#[tokio::test]
async fn an_older_database_that_was_put_back_is_shown_and_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("k.db");
    let file = folder.path().join("heads.jsonl");
    let options = || {
        let mut options = LedgerOptions::new(&database);
        options.signing.heads_file = Some(file.clone());
        options
    };
    let (clock, _) = Clock::manual(NOON);
    let issue = async |options: LedgerOptions| -> Result<(), OpenError> {
        let ledger = open(options, &clock)?;
        ledger.issue(vec![new_key(daily(5), NOON)]).await.unwrap();
        ledger.close().await;
        Ok(())
    };
    issue(options()).await.unwrap();
    let old = copied(&database, "old.db");
    issue(options()).await.unwrap();
    assert_eq!(seqs(&kept(&file)), [1, 2]);
    assert_eq!(with_kept(&database, kept(&file)).kept_heads, 2);

    std::fs::copy(&old, &database).unwrap();
    let broken = with_kept(&database, kept(&file)).broken;
    let expected = Broken::BehindSigned {
        missing: 2,
        signed: 2,
    };
    assert_eq!(broken, Some(expected));
    let refused = issue(options()).await.unwrap_err();
    assert!(matches!(refused, OpenError::NotAsSigned { .. }));
    let text = refused.to_string();
    assert!(
        text.contains("it ends at event 1, and event 2 was signed"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);

    // Gone on with all the same, without the file: the heads in it still show it.
    issue(LedgerOptions::new(&database)).await.unwrap();
    let broken = with_kept(&database, kept(&file)).broken;
    assert_eq!(broken, Some(Broken::NotAsSigned { from: 2, to: 2 }));
    let refused = issue(options()).await.unwrap_err().to_string();
    assert!(
        refused.contains("event 2 is not the one that was signed"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_lost_signing_key_stops_the_ledger_and_a_new_one_is_on_record() {
    let (folder, _) = history().await;
    let database = folder.path().join("k.db");
    let old = heads_of(&database)[0].public_key;
    std::fs::remove_file(key_beside(&database)).unwrap();
    let (clock, _) = Clock::manual(NOON);
    let lost = open_at(&database, &clock).err().unwrap();
    assert!(matches!(lost, OpenError::LostKey { .. }), "{lost}");
    assert!(!key_beside(&database).exists(), "none was made");
    let mut options = LedgerOptions::new(&database);
    options.signing.missing_key = MissingKey::MakeAnother;
    open(options, &clock).unwrap().close().await;
    let new = read_key(&key_beside(&database)).unwrap().unwrap().public();
    assert_ne!(old, new);
    let connection = Connection::open(&database).unwrap();
    let event: String = connection
        .query_row(
            "SELECT CAST(body AS TEXT) FROM events ORDER BY seq DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(event.contains("\"event\":\"signing_key\"") && event.contains(&new.to_string()));
    let both = Trust {
        kept: Vec::new(),
        public_keys: vec![old, new],
    };
    assert_eq!(verify(&database, &both).unwrap().broken, None);
    assert!(with_key(&database, new).broken.is_some());
    open_at(&database, &clock).unwrap().close().await;
    let report = verified(&database);
    assert_eq!(report.events, 13, "told once");
}

fn exported(database: &Path) -> (String, (u64, u64)) {
    let mut text = Vec::new();
    let mut reads = sqlite::open_reads(database).unwrap();
    let told = export(&mut reads, &mut text).unwrap();
    (String::from_utf8(text).unwrap(), told)
}

#[tokio::test]
async fn an_export_is_verified_without_the_database() {
    let (folder, _) = history().await;
    let database = folder.path().join("k.db");
    let (text, told) = exported(&database);
    assert_eq!(told, (12, 0));
    assert_eq!(text.lines().count(), 14, "form, 12 events, heads");
    assert!(
        !text.contains("client_secret") && !text.contains("succeeded"),
        "no bodies"
    );
    let trust = Trust {
        kept: heads_of(&database),
        public_keys: vec![heads_of(&database)[0].public_key],
    };
    let check = |text: &str| verify_export(&mut text.as_bytes(), &trust);
    let report = check(&text).unwrap();
    assert_eq!((report.events, report.broken), (12, None));
    let lines: Vec<&str> = text.lines().collect();
    let without = |number: usize| {
        let mut lines = lines.clone();
        lines.remove(number);
        lines.join("\n")
    };
    let swapped = {
        let mut lines = lines.clone();
        lines.swap(5, 6);
        lines.join("\n")
    };
    let twice = {
        let mut lines = lines.clone();
        lines.insert(5, lines[5]);
        lines.join("\n")
    };
    for (changed, expected) in [
        (
            text.replacen("cus_1", "cus_2", 1),
            Broken::Altered { seq: 2 },
        ),
        (without(4), Broken::Missing { seq: 4 }),
        (swapped, Broken::Missing { seq: 5 }),
        (twice, Broken::Repeated { seq: 5 }),
        (
            lines[..9].join("\n"),
            Broken::BehindSigned {
                missing: 9,
                signed: 12,
            },
        ),
    ] {
        assert_eq!(check(&changed).unwrap().broken, Some(expected));
    }
    let unsigned = check(&without(13)).unwrap();
    assert_eq!(unsigned.broken, None, "the heads that were kept sign it");
    let only_key = Trust {
        kept: Vec::new(),
        public_keys: trust.public_keys.clone(),
    };
    let report = verify_export(&mut without(13).as_bytes(), &only_key).unwrap();
    assert_eq!(report.broken, Some(Broken::NotSigned { from: 1 }));
    let error = check("{}\n").unwrap_err().to_string();
    assert_eq!(error, "line 1 is not of an audit export");
    let error = check(&format!("{}\nhello\n", lines[0])).unwrap_err();
    assert_eq!(error.to_string(), "line 2 is not of an audit export");
}

#[tokio::test]
async fn what_is_not_signed_yet_is_left_out_of_an_export() {
    let bench = Bench::with(|options| options.signing.every_events = 3);
    for _ in 0..4 {
        bench.key(daily(5)).await;
    }
    let (text, told) = exported(&bench.database());
    assert_eq!(told, (3, 1));
    assert_eq!(text.lines().count(), 5);
    let report = verify_export(&mut text.as_bytes(), &Trust::default()).unwrap();
    assert_eq!((report.events, report.broken), (3, None));
}
