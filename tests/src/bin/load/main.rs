//! Closed-loop load for the bench: each subcommand drives one thing for a while and prints one line of JSON.
//!
//! Here: generators and their measurements. Not here: what is started, in which order and what is compared with what;
//! that is `tests/bench/bench.py`.

mod disk;
mod http;
mod keys;
mod ledger;
mod measure;
mod redis;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Closed-loop load generators for the bench; each prints one line of JSON")]
struct Arguments {
    /// How long to measure.
    #[arg(long, global = true, default_value_t = 3.0)]
    seconds: f64,
    /// How many clients, each waiting for its answer before it asks again.
    #[arg(long, global = true, default_value_t = 1)]
    clients: usize,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// HTTP/1.1 keep-alive requests to a listener.
    Http(http::Options),
    /// Durable full cycles in the ledger's engine, without a network.
    LedgerInProcess(ledger::InProcess),
    /// Commands to the ledger's command socket, over HTTP/2.
    LedgerApi(ledger::Api),
    /// Memory and latency of a reserve with few keys and with a million, in the ledger's engine.
    LedgerKeys(keys::Options),
    /// A conditional Lua debit on Redis.
    Redis(redis::Options),
    /// Appends of 4 KiB, each followed by fdatasync.
    Fdatasync {
        /// Folder on the disk to measure.
        #[arg(long)]
        folder: PathBuf,
    },
}

fn main() {
    let arguments = Arguments::parse();
    let seconds = Duration::from_secs_f64(arguments.seconds);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let clients = arguments.clients;
    let figures = match arguments.what {
        What::Http(options) => runtime.block_on(http::run(options, clients, seconds)),
        What::LedgerInProcess(options) => ledger::in_process(&options, clients, seconds),
        What::LedgerApi(options) => runtime.block_on(ledger::api(options, clients, seconds)),
        What::LedgerKeys(options) => {
            println!("{}", keys::run(&options, clients, seconds));
            return;
        }
        What::Redis(options) => runtime.block_on(redis::run(options, clients, seconds)),
        What::Fdatasync { folder } => disk::fdatasync(&folder, seconds),
    };
    println!("{}", figures.to_json());
}
