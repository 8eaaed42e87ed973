//! What is answered is on disk: kill, full disk, locks, damage.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keybrake_contract::wire::*;

use super::bench::*;
use crate::clock::Clock;
use crate::engine::{LedgerOptions, OpenError, Readiness, Trust, Unavailable, verify};
use crate::model::{AuditQuery, EntryOutcome};

/// The child's database; unset in an ordinary run.
const CHILD: &str = "KEYBRAKE_TEST_CHILD_DATABASE";
const CHILDS_KEY: &str = "child";

/// Not a test by itself: the body of the child that the tests below start and kill. Eight clients charge as fast as
/// they can; each answer is printed after it was given.
#[test]
fn child_body() {
    let Ok(database) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(charge_until_the_end(Path::new(&database)));
}

async fn charge_until_the_end(database: &Path) {
    let (clock, _) = Clock::manual(NOON);
    let ledger = open_at(database, &clock).unwrap();
    let mut new = new_key(daily(1_000_000), NOON);
    new.label = CHILDS_KEY.to_owned();
    let key = Arc::new(ledger.issue(vec![new]).await.unwrap().remove(0));
    let counter = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (ledger, key, counter) = (ledger.clone(), Arc::clone(&key), Arc::clone(&counter));
            tokio::spawn(async move {
                loop {
                    let number = counter.fetch_add(1, Ordering::Relaxed);
                    let reserve = charge(&key, 1, &format!("k-{number}"));
                    let command = Command::Reserve(Box::new(reserve));
                    let answers = match ledger.execute(vec![received(&command)]).await {
                        Ok(answers) => answers,
                        Err(why) => return why,
                    };
                    let CommandResult::Admitted(admitted) = &answers[0].result else {
                        panic!("{answers:?}")
                    };
                    say(&format!("admitted {}", admitted.hold));
                    let outcome = charged(admitted, &format!("ch_{number}"), 1);
                    let command = Command::Outcome(Box::new(outcome));
                    if let Err(why) = ledger.execute(vec![received(&command)]).await {
                        return why;
                    }
                    say(&format!("settled {}", admitted.hold));
                }
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), Unavailable::Failed);
    }
    let why = ledger.failed().await;
    let Readiness::Failed { why: told } = ledger.readiness() else {
        panic!("{:?}", ledger.readiness())
    };
    assert_eq!(told, why);
    let issue = ledger.issue(vec![new_key(daily(1), NOON)]).await;
    assert_eq!(issue.err(), Some(Unavailable::Failed.into()));
    let figures = ledger.figures().await;
    assert_eq!(figures.commits, 0, "nobody is there to count");
    ledger.close().await;
    say(&format!("failed {why}"));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n> {line}").unwrap();
    out.flush().unwrap();
}

/// Starts this test program again as the child, through a shell that first runs `limits`.
fn child(database: &Path, limits: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    Process::new("sh")
        .arg("-c")
        .arg(format!(
            "{limits} exec \"$0\" --exact engine::tests::durability_tests::child_body --nocapture"
        ))
        .arg(program)
        .env(CHILD, database)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The child's words, until `enough`.
fn words(child: &mut Child, enough: impl Fn(usize, &str) -> bool) -> Vec<(String, String)> {
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut words = Vec::new();
    for line in out.lines() {
        let line = line.unwrap();
        let Some((verb, rest)) = line
            .strip_prefix("> ")
            .and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        words.push((verb.to_owned(), rest.to_owned()));
        if enough(words.len(), verb) {
            break;
        }
    }
    words
}

/// Everything the child was told is in the database, and the money adds up to the entries.
async fn is_all_there(database: &Path, words: &[(String, String)]) {
    assert_eq!(verified(database).broken, None);
    let (clock, _) = Clock::manual(NOON);
    let ledger = open_at(database, &clock).unwrap();
    let mut entries = Vec::new();
    let mut cursor = None;
    loop {
        let query = AuditQuery {
            limit: 1000,
            cursor,
            ..AuditQuery::default()
        };
        let page = ledger.audit(query).await.unwrap();
        entries.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    for (verb, hold) in words {
        let entry = entries.iter().find(|entry| entry.id == *hold);
        match verb.as_str() {
            "admitted" => assert!(entry.is_some(), "admitted and lost: {hold}"),
            "settled" => {
                assert_eq!(
                    entry.unwrap().outcome,
                    Some(EntryOutcome::Settled),
                    "{hold}"
                );
            }
            _ => {}
        }
    }
    let page = ledger
        .keys(crate::model::KeyFilter {
            limit: 1,
            ..Default::default()
        })
        .await
        .unwrap();
    let (_, balances) = ledger.key(&page.items[0].key_id).await.unwrap().unwrap();
    let count = |outcome| {
        let count = entries
            .iter()
            .filter(|entry| entry.outcome == Some(outcome))
            .count();
        usd(i64::try_from(count).unwrap())
    };
    assert_eq!(balances[0].settled, count(EntryOutcome::Settled));
    assert_eq!(balances[0].held, count(EntryOutcome::InFlight));
    ledger.close().await;
}

#[tokio::test]
async fn what_was_answered_before_a_kill_is_there_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("k.db");
    for round in 1..=3 {
        let mut child = child(&database, "");
        let words = words(&mut child, |count, _| count >= 150 * round);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(words.len(), 150 * round);
        is_all_there(&database, &words).await;
        let next = folder.path().join("moved.db");
        std::fs::rename(&database, next).unwrap();
        for beside in ["k.db-wal", "k.db-shm"] {
            let _ = std::fs::remove_file(folder.path().join(beside));
        }
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_ledger_without_a_partial_state() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("k.db");
    // No file may grow beyond 2,000 blocks of 512 bytes; writing further is an error, not a signal.
    let mut child = child(&database, "trap '' XFSZ; ulimit -f 2000;");
    let words = words(&mut child, |_, _| false);
    let status = child.wait().unwrap();
    assert!(status.success(), "it ends in order: {status}");
    let (verb, why) = words.last().unwrap();
    assert_eq!(verb, "failed", "{why}");
    assert!(words.len() > 10, "it worked before");
    is_all_there(&database, &words).await;
}

#[tokio::test]
async fn a_second_ledger_on_one_file_is_refused() {
    let bench = Bench::new();
    let (clock, _) = Clock::manual(NOON);
    let second = open_at(&bench.database(), &clock).err().unwrap();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    assert_eq!(second.to_string().lines().count(), 1);
    bench.key(daily(5)).await;
    let database = bench.database();
    let Bench { ledger, folder, .. } = bench;
    ledger.close().await;
    open_at(&database, &clock).unwrap().close().await;
    drop(folder);
}

#[tokio::test]
async fn what_cannot_be_opened_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, _) = Clock::manual(NOON);
    let opened = |name: &str| open_at(&folder.path().join(name), &clock).err().unwrap();
    let noise: Vec<u8> = (0..8192_u32)
        .map(|place| (place * 31 % 251) as u8)
        .collect();
    std::fs::write(folder.path().join("noise.db"), noise).unwrap();
    let foreign = rusqlite::Connection::open(folder.path().join("foreign.db")).unwrap();
    foreign.execute_batch("CREATE TABLE t (x)").unwrap();
    let newer = folder.path().join("newer.db");
    open_at(&newer, &clock).unwrap().close().await;
    let change = rusqlite::Connection::open(&newer).unwrap();
    change
        .execute_batch("UPDATE schema_version SET version = 99")
        .unwrap();
    drop(change);
    let damaged = folder.path().join("damaged.db");
    let ledger = open_at(&damaged, &clock).unwrap();
    for _ in 0..50 {
        ledger.issue(vec![new_key(daily(5), NOON)]).await.unwrap();
    }
    ledger.close().await;
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[8192..20_000].fill(0xa5);
    std::fs::write(&damaged, bytes).unwrap();
    for (name, expected) in [
        (
            "noise.db",
            "is corrupt or not a keybrake database: file is not a database",
        ),
        ("foreign.db", "it belongs to another program"),
        (
            "newer.db",
            "has schema version 99; this program knows up to 1",
        ),
        ("damaged.db", "is corrupt or not a keybrake database"),
        ("no/folder.db", "cannot use the database"),
    ] {
        let error = opened(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert!(verify(folder.path().join("none.db"), &Trust::default()).is_err());
}

#[tokio::test]
async fn database_files_are_the_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("k.db");
    std::fs::write(&database, "").unwrap();
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (clock, _) = Clock::manual(NOON);
    let ledger = open_at(&database, &clock).unwrap();
    ledger.issue(vec![new_key(daily(5), NOON)]).await.unwrap();
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "k.db",
            "k.db-shm",
            "k.db-wal",
            "k.db.lock",
            "k.db.signing-key"
        ]
    );
    ledger.close().await;
}

#[tokio::test]
async fn a_full_queue_turns_away_at_once() {
    let bench = Bench::with(|options: &mut LedgerOptions| options.queue = 1);
    let key = bench.key(daily(100_000)).await;
    let mut tasks = Vec::new();
    for number in 0..64 {
        let ledger = bench.ledger.clone();
        let command = Command::Reserve(Box::new(charge(&key, 1, &format!("k-{number}"))));
        tasks.push(async move { ledger.execute(vec![received(&command)]).await });
    }
    // Polled one after the other before any is awaited: all but the first few find the queue full.
    let mut busy = 0;
    let mut done = 0;
    for result in futures_of(tasks).await {
        match result {
            Ok(_) => done += 1,
            Err(Unavailable::Busy) => busy += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(done + busy, 64);
    assert!(busy > 0 && done > 0, "{busy} busy, {done} done");
    assert_eq!(bench.ledger.figures().await.busy, busy);
    assert_eq!(bench.parts(&key).await[1], i64::try_from(done).unwrap());
}

async fn futures_of<F>(futures: Vec<F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let mut set = tokio::task::JoinSet::new();
    for future in futures {
        set.spawn(future);
    }
    set.join_all().await
}
