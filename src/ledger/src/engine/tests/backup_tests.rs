//! Backups of a ledger at work, and who may open a database.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::bench::*;
use crate::clock::Clock;
use crate::engine::{OpenError, Trust, backup, verify};
use crate::signing::key_beside;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_ledger_at_work_is_whole_and_can_be_gone_on_with() {
    let bench = Bench::new();
    let key = Arc::new(bench.key(daily(1_000_000)).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let working = {
        let (ledger, key, is_over) = (bench.ledger.clone(), Arc::clone(&key), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut count = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                let reserve = charge(&key, 1, &format!("k-{count}"));
                let command = keybrake_contract::wire::Command::Reserve(Box::new(reserve));
                ledger.execute(vec![received(&command)]).await.unwrap();
                count += 1;
            }
            count
        })
    };
    let database = bench.database();
    let mut last = 0;
    for number in 0..4 {
        let begun = bench.ledger.figures().await.events;
        bench
            .eventually("the ledger works", async || {
                bench.ledger.figures().await.events > begun + 5
            })
            .await;
        let to = database.with_file_name(format!("backup-{number}.db"));
        let from = database.clone();
        let copying = {
            let to = to.clone();
            tokio::task::spawn_blocking(move || backup(&from, &to))
        };
        let report = copying.await.unwrap().unwrap();
        assert!(report.events > begun, "what was there before is in it");
        assert!(report.events > last);
        last = report.events;
        let mode = std::fs::metadata(&to).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(verified(&to).events, report.events);
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(working.await.unwrap() >= 20);
    let names: Vec<String> = std::fs::read_dir(bench.folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("backup") && !name.ends_with(".db"))
        .collect();
    assert!(
        names
            .iter()
            .all(|name| name.ends_with("-wal") || name.ends_with("-shm")),
        "{names:?}"
    );

    // Gone on with, by the same key.
    let copy = database.with_file_name("backup-3.db");
    std::fs::copy(key_beside(&database), key_beside(&copy)).unwrap();
    let (clock, _) = Clock::manual(NOON);
    let ledger = open_at(&copy, &clock).unwrap();
    ledger.issue(vec![new_key(daily(5), NOON)]).await.unwrap();
    ledger.close().await;
    assert_eq!(verified(&copy).broken, None);
}

#[tokio::test]
async fn a_backup_is_never_written_over_a_file_nor_made_of_a_broken_database() {
    let (folder, _) = super::chain_tests::history().await;
    let database = folder.path().join("k.db");
    let to = folder.path().join("backup.db");
    std::fs::write(&to, "mine").unwrap();
    let error = backup(&database, &to).unwrap_err().to_string();
    assert!(error.contains("it exists already"), "{error}");
    assert_eq!(std::fs::read(&to).unwrap(), b"mine");
    std::fs::remove_file(&to).unwrap();
    super::chain_tests::tampered(&database, "UPDATE requests SET cost = 1 WHERE number = 2");
    let error = backup(&database, &to).unwrap_err().to_string();
    assert!(error.contains("does not verify"), "{error}");
    assert_eq!(error.lines().count(), 1);
    assert!(backup(folder.path().join("none.db"), &to).is_err());
    assert!(backup(&database, &folder.path().join("no/folder.db")).is_err());
    let left = std::fs::read_dir(folder.path()).unwrap();
    let left = left.filter(|file| {
        let name = file.as_ref().unwrap().file_name().into_string().unwrap();
        name.starts_with("backup")
    });
    assert_eq!(left.count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn two_names_of_one_file_are_one_database() {
    let bench = Bench::new();
    let other = bench.folder.path().join("other.db");
    std::os::unix::fs::symlink(bench.database(), &other).unwrap();
    let (clock, _) = Clock::manual(NOON);
    let second = open_at(&other, &clock).err().unwrap();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
}

#[tokio::test]
async fn a_database_of_an_older_schema_is_not_read_before_it_is_moved_forward() {
    let (folder, _) = super::chain_tests::history().await;
    let database = folder.path().join("k.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection
        .execute_batch("UPDATE schema_version SET version = 0")
        .unwrap();
    drop(connection);
    let error = verify(&database, &Trust::default()).unwrap_err();
    assert!(
        matches!(error, OpenError::Older { found: 0, .. }),
        "{error}"
    );
    assert_eq!(error.to_string().lines().count(), 1);
}
