//! Durable full cycles (reserve, outcome, audit) per second of the ledger in one process.
//!
//! `cargo run --release -p keybrake-ledger --example cycles -- [CLIENTS] [SECONDS] [hot|spread|both] [FOLDER]`
//!
//! The clients stand behind two filter instances, as behind one Envoy with two workers: ids have one of two nonces and a
//! rising counter. Each client makes one charge after the other: a reserve of its own idempotency key, and when that is admitted an
//! outcome with a stored answer. Beside it stands what one `fdatasync` costs on the same disk.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keybrake_contract::grant::{AllowedEndpoint, Grant, IdempotencyRule};
use keybrake_contract::money::Micros;
use keybrake_contract::wire::CommandResult;
use keybrake_ledger::clock::{Clock, timestamp};
use keybrake_ledger::engine::{Ledger, LedgerOptions, Received};
use keybrake_ledger::model::{Caps, IssuedKey, NewKey};
use keybrake_policy::pack::{Pack, builtin};
use serde_json::value::RawValue;

const BODY: &str = r#"{\"id\":\"ch_ID\",\"object\":\"charge\",\"amount\":999,\"amount_captured\":999,\"captured\":true,\"currency\":\"usd\",\"customer\":\"cus_aaa\",\"description\":\"bench\",\"paid\":true,\"status\":\"succeeded\"}"#;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let clients: usize = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let which = arguments.next().unwrap_or_else(|| "both".to_owned());
    let folder = arguments
        .next()
        .map_or_else(std::env::temp_dir, std::path::PathBuf::from)
        .join(format!("keybrake-cycles-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    println!("fdatasync p50 {} us", fdatasync_us(&folder)?);
    for name in ["hot", "spread"] {
        if which == "both" || which == name {
            let keys = if name == "hot" { 1 } else { clients };
            run(
                &folder.join(format!("{name}.db")),
                name,
                clients,
                keys,
                seconds,
            )?;
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// The median of 200 appends of 4 KiB, each made durable.
fn fdatasync_us(folder: &Path) -> Result<u128, Failure> {
    let mut file = std::fs::File::create(folder.join("sync"))?;
    let mut took = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(begun.elapsed().as_micros());
    }
    took.sort_unstable();
    Ok(took[took.len() / 2])
}

fn run(
    database: &Path,
    name: &str,
    clients: usize,
    keys: usize,
    seconds: u64,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let pack = Pack::parse(builtin("stripe").ok_or("no stripe pack")?)?;
    let clock = Clock::new(None)?;
    let now = clock.now_ms();
    let ledger = Ledger::open(LedgerOptions::new(database), clock, vec![pack])?;
    let stop = Arc::new(AtomicBool::new(false));
    let cycles = Arc::new(AtomicU64::new(0));
    let (elapsed, mut waits, figures) = runtime.block_on(async {
        let issued = ledger
            .issue((0..keys).map(|_| new_key(now)).collect())
            .await?;
        let ids = Arc::new([AtomicU64::new(1), AtomicU64::new(1)]);
        let begun = Instant::now();
        let tasks: Vec<_> = (0..clients)
            .map(|client| {
                let job = Client {
                    ledger: ledger.clone(),
                    stop: Arc::clone(&stop),
                    cycles: Arc::clone(&cycles),
                    number: client,
                    digest: digest_of(&issued[client % keys]),
                    ids: Arc::clone(&ids),
                };
                tokio::spawn(job.work())
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stop.store(true, Ordering::Relaxed);
        let mut waits = Vec::new();
        for task in tasks {
            waits.extend(task.await??);
        }
        Ok::<_, Failure>((begun.elapsed(), waits, ledger.figures().await))
    })?;
    let writer_ns = writer_cpu_ns();
    runtime.block_on(ledger.close());
    waits.sort_unstable();
    let at = |part: usize| waits[(waits.len() - 1) * part / 100];
    let done = cycles.load(Ordering::Relaxed);
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let per_second = done as f64 / elapsed.as_secs_f64();
    println!(
        "{name:6} clients {clients} cycles/s {per_second:.0} command p50 {} us p99 {} us commits {} commands/commit {} commit mean {} us writer CPU/cycle {} us size {} MiB",
        at(50),
        at(99),
        figures.commits,
        figures.commit_commands.sum / figures.commits.max(1),
        figures.commit_us.sum / figures.commits.max(1),
        writer_ns / done.max(1) / 1000,
        std::fs::metadata(database)?.len() >> 20,
    );
    Ok(())
}

/// Processor time of the writer's thread so far; 0 where the system does not tell.
fn writer_cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    tasks
        .flatten()
        .map(|task| task.path())
        .filter(|task| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "ledger-writer\n")
        })
        .filter_map(|task| {
            let told = std::fs::read_to_string(task.join("schedstat")).ok()?;
            told.split(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}

struct Client {
    ledger: Ledger,
    stop: Arc<AtomicBool>,
    cycles: Arc<AtomicU64>,
    number: usize,
    digest: String,
    ids: Arc<[AtomicU64; 2]>,
}

impl Client {
    async fn work(self) -> Result<Vec<u32>, Failure> {
        let mut waits = Vec::new();
        let mut turn = 0_u64;
        while !self.stop.load(Ordering::Relaxed) {
            turn += 1;
            let hold = self.id();
            let reserve = format!(
                r#"{{"reserve":{{"id":"{hold}","key_digest":"{}","grant_version":1,"request":{{"vendor":"stripe","credential":"stripe","operation":"charges.create","method":"POST","path":"/v1/charges","request_id":"{hold}","params":{{"customer":"cus_aaa","description":"bench"}}}},"forward":"detached","cost":{{"amount":{{"amount":999,"currency":"usd"}}}},"idempotency":{{"key":"invoice-{}-{turn}","fingerprint":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}},"forward_timeout_ms":90000}}}}"#,
                self.digest, self.number
            );
            match self.send(reserve, &mut waits).await? {
                CommandResult::Admitted(_) => {}
                other => return Err(format!("not admitted: {other:?}").into()),
            }
            // The vendor's ids rise with time.
            let object = format!("3{}", &hold[34..]);
            let outcome = format!(
                r#"{{"outcome":{{"id":"{}","hold":"{hold}","attempt":1,"outcome":{{"executed":{{"money":"moved","amount":{{"amount":999,"currency":"usd"}}}}}},"status":200,"vendor_request_id":"req_{object}","vendor_object_id":"ch_{object}","charge_id":"ch_{object}","answer":{{"status":200,"content_type":"application/json","body":"{}","vendor_request_id":"req_{object}"}},"latency_ms":120}}}}"#,
                self.id(),
                BODY.replace("ID", &object)
            );
            match self.send(outcome, &mut waits).await? {
                CommandResult::Recorded => self.cycles.fetch_add(1, Ordering::Relaxed),
                other => return Err(format!("not recorded: {other:?}").into()),
            };
        }
        Ok(waits)
    }

    fn id(&self) -> String {
        let worker = self.number % 2;
        let counter = self.ids[worker].fetch_add(1, Ordering::Relaxed);
        format!("{worker:032x}{counter:016x}")
    }

    async fn send(&self, text: String, waits: &mut Vec<u32>) -> Result<CommandResult, Failure> {
        let begun = Instant::now();
        let raw = RawValue::from_string(text)?;
        let answers = self.ledger.execute(vec![Received::read(&raw)]).await?;
        waits.push(u32::try_from(begun.elapsed().as_micros())?);
        let answer = answers.into_iter().next().ok_or("no answer")?;
        Ok(answer.result)
    }
}

fn digest_of(key: &IssuedKey) -> String {
    key.key.digest.to_string()
}

fn new_key(now: i64) -> NewKey {
    NewKey {
        label: "bench".to_owned(),
        workspace: "default".to_owned(),
        grant: Grant {
            key_id: String::new(),
            version: 0,
            vendor: "stripe".to_owned(),
            allowed_endpoints: vec![AllowedEndpoint::Operation("charges.create".to_owned())],
            constraints: BTreeMap::new(),
            vendor_accounts: Vec::new(),
            idempotency: IdempotencyRule::Required,
        },
        caps: Caps {
            daily: Some(Micros::new(9_000_000_000_000_000)),
            ..Caps::default()
        },
        worst_case: None,
        expires_at: timestamp(now + 86_400_000),
        metadata: None,
    }
}
