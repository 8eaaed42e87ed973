//! What many keys cost: memory of the process and latency of a reserve, with few keys and with a million on record.
//!
//! One process, one database. First a few keys are issued and used, then the rest is issued, then keys are drawn at random from
//! all of them. The generator's own list of keys is taken off the memory and told beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use keybrake_contract::wire::CommandResult;
use keybrake_ledger::engine::{Ledger, LedgerOptions};
use keybrake_pack::{Pack, builtin};
use serde_json::{Value, json};

use crate::ledger::{Commands, LoadKey, new_key, received, wall};
use crate::measure::Figures;

/// Keys in one call.
const AT_A_TIME: usize = 1_000;

/// How many keys, and where.
#[derive(Args)]
pub struct Options {
    /// Folder for the database.
    #[arg(long)]
    folder: PathBuf,
    /// Keys on record for the first measurement.
    #[arg(long, default_value_t = 1_000)]
    few: usize,
    /// Keys on record for the second.
    #[arg(long, default_value_t = 1_000_000)]
    many: usize,
}

/// Issues, measures, issues, measures.
pub fn run(options: &Options, clients: usize, seconds: Duration) -> Value {
    let folder = tempfile::tempdir_in(&options.folder).expect("a folder");
    let database = folder.path().join("keys.db");
    let pack =
        Pack::parse(&builtin("stripe").expect("the stripe pack")).expect("a pack that reads");
    let ledger = Ledger::open(LedgerOptions::new(&database), wall(), vec![pack]).expect("a ledger");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut keys: Vec<LoadKey> = Vec::with_capacity(options.many);
        let commands = Arc::new(Commands::new());
        let mut measured = Vec::new();
        for count in [options.few, options.many] {
            let since = Instant::now();
            issue(&ledger, &mut keys, count).await;
            let issued = since.elapsed();
            let idle = resident();
            // What is reserved and not written yet is not resident.
            let own = keys.len() * size_of::<LoadKey>();
            let known = Arc::new(std::mem::take(&mut keys));
            let cpu = cpu_us();
            let figures = reserve(&ledger, &commands, &known, clients, seconds).await;
            let cpu_us = cpu_us().saturating_sub(cpu);
            keys = Arc::try_unwrap(known).unwrap_or_default();
            measured.push(json!({
                "keys": count,
                "issued_in_seconds": issued.as_secs_f64(),
                "resident_mb_before_use": megabytes(idle.saturating_sub(own)),
                "resident_mb_after_use": megabytes(resident().saturating_sub(own)),
                "generators_own_mb": megabytes(own),
                // On a busy machine this compares better than a latency does.
                "cpu_us_per_reserve": cpu_us / figures.count().max(1),
                "reserve": figures.to_json(),
            }));
        }
        ledger.close().await;
        let size = std::fs::metadata(&database).map_or(0, |file| file.len());
        json!({
            "clients": clients,
            "database_mb": size / 1_000_000,
            "measured": measured,
        })
    })
}

async fn issue(ledger: &Ledger, keys: &mut Vec<LoadKey>, count: usize) {
    while keys.len() < count {
        let now = AT_A_TIME.min(count - keys.len());
        let issued = ledger
            .issue((0..now).map(|_| new_key()).collect())
            .await
            .expect("keys");
        keys.extend(issued.iter().map(LoadKey::of));
    }
}

async fn reserve(
    ledger: &Ledger,
    commands: &Arc<Commands>,
    keys: &Arc<Vec<LoadKey>>,
    clients: usize,
    seconds: Duration,
) -> Figures {
    let start = Instant::now();
    let until = start + seconds;
    let mut running = Vec::new();
    for number in 0..clients {
        let (ledger, commands, keys) = (ledger.clone(), commands.clone(), keys.clone());
        running.push(tokio::spawn(async move {
            let mut figures = Figures::default();
            let mut draw = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
            while Instant::now() < until {
                // xorshift64: spread evenly over all keys.
                draw ^= draw << 13;
                draw ^= draw >> 7;
                draw ^= draw << 17;
                let key = keys[usize::try_from(draw % keys.len() as u64).expect("an index")];
                let since = Instant::now();
                let answers = ledger.execute(vec![received(&commands.reserve(key))]).await;
                match answers.as_deref() {
                    Ok([answer]) if matches!(answer.result, CommandResult::Admitted(_)) => {
                        figures.answered(since);
                    }
                    other => figures.failed(format!("reserve: {other:?}")),
                }
            }
            figures
        }));
    }
    let mut parts = Vec::new();
    for client in running {
        parts.push(client.await.expect("a client that does not panic"));
    }
    Figures::merge(parts, start.elapsed())
}

fn megabytes(bytes: usize) -> usize {
    bytes / 1_000_000
}

/// Memory of this process that is in use, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Processor time of this process so far, in microseconds. The system counts it in hundredths of a second.
fn cpu_us() -> usize {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: usize = ticks.filter_map(|count| count.parse::<usize>().ok()).sum();
    ticks * 10_000
}
