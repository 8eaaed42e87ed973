//! `keybrake audit verify`, `heads`, `export`, `public-key`: the chain of events, straight from a database or a file.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::audit::{InvalidHeads, PublicKey, SignedHeads, SignedUpTo, verify_export};
use crate::cli::{Failure, print, print_json};
use crate::clock::timestamp;
use crate::config;
use crate::engine::{self, Trust, VerifyReport};
use crate::signing::{read_key, signing_key_of};
use crate::store;

/// Which database.
#[derive(Debug, clap::Args)]
pub struct Database {
    /// The database: sqlite:PATH or postgres://… [default: keybrake.db in the run folder]
    #[arg(
        long,
        value_name = "URL",
        env = "KEYBRAKE_DATABASE_URL",
        hide_env_values = true
    )]
    database_url: Option<String>,
    /// The run folder
    #[arg(
        long,
        value_name = "FOLDER",
        env = "KEYBRAKE_RUN_DIR",
        default_value = ".run"
    )]
    run_dir: PathBuf,
}

impl Database {
    /// Where it is.
    pub fn named(&self) -> Result<store::Database, Failure> {
        config::database(self.database_url.as_deref(), &self.run_dir).map_err(Failure::usage)
    }
}

#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    database: Database,
    /// Heads that were kept elsewhere (what `audit heads` printed, or `serve --heads-file` wrote)
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// Verify this export instead of a database
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// The key that heads must be signed with; may be repeated [default: the keys in the file of --heads]
    #[arg(long, value_name = "HEX")]
    public_key: Vec<PublicKey>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct ExportArguments {
    #[command(flatten)]
    database: Database,
    /// Write to this new file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct PublicKeyArguments {
    #[command(flatten)]
    database: Database,
    /// The private key [default: the database's name and .signing-key, in the run folder when it is no file]
    #[arg(long, value_name = "FILE", env = "KEYBRAKE_SIGNING_KEY_FILE")]
    signing_key_file: Option<PathBuf>,
}

/// Verifies a database or an export.
pub fn verify(arguments: VerifyArguments) -> Result<(), Failure> {
    let VerifyArguments {
        database,
        heads,
        export,
        public_key,
        json,
    } = arguments;
    let kept = heads.as_deref().map(kept_heads).transpose()?;
    let trust = Trust {
        kept: kept.unwrap_or_default(),
        public_keys: public_key,
    };
    let report = match export {
        Some(path) => {
            let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
            verify_export(&mut BufReader::new(file), &trust)
                .map_err(|error| unreadable(&path, &error))?
        }
        None => engine::verify(&database.named()?, &trust).map_err(Failure::new)?,
    };
    if json {
        print_json(&as_json(&report))?;
    }
    match &report.broken {
        Some(broken) => Err(Failure::new(format!(
            "the audit chain is broken: {broken} ({} events are whole)",
            report.events
        ))),
        None if json => Ok(()),
        None => print(&for_people(&report)),
    }
}

fn unreadable(path: &Path, error: &impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot read {}: {error}", path.display()))
}

/// The heads in a file, one a line. Lines that broke off are passed over; a wrong signature is not.
fn kept_heads(path: &Path) -> Result<Vec<SignedHeads>, Failure> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut kept = Vec::new();
    for (line, number) in BufReader::new(file).lines().zip(1_u64..) {
        let line = line.map_err(|error| unreadable(path, &error))?;
        match SignedHeads::parse(&line) {
            Ok(heads) => kept.push(heads),
            Err(InvalidHeads::Unreadable) => {}
            Err(error) => {
                let error = format!("line {number}: {error}");
                return Err(unreadable(path, &error));
            }
        }
    }
    if kept.is_empty() {
        return Err(unreadable(path, &"there are no signed heads in it"));
    }
    Ok(kept)
}

fn for_people(report: &VerifyReport) -> String {
    let VerifyReport {
        chain,
        events,
        head: (seq, hash),
        signed,
        kept_heads,
        entries,
        broken: _,
    } = report;
    let mut text =
        format!("the audit chain is whole: {events} events, chain {chain}, head {seq} {hash}\n");
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    match signed {
        Some(signed) => {
            let SignedUpTo {
                seq,
                at,
                public_key,
            } = signed;
            line(format!(
                "signed up to event {seq} at {} with {public_key}",
                timestamp(*at)
            ));
            let waiting = events.saturating_sub(*seq);
            if waiting > 0 {
                line(format!("not signed yet: the last {waiting} events"));
            }
        }
        None => line("nothing is signed yet".to_owned()),
    }
    if *kept_heads > 0 {
        line(format!("heads kept elsewhere that agree: {kept_heads}"));
    }
    if let Some(entries) = entries {
        line(format!(
            "entries that agree with their events: {entries}; keys, budgets and balances agree as well"
        ));
    }
    text
}

fn as_json(report: &VerifyReport) -> Value {
    let VerifyReport {
        chain,
        events,
        head: (seq, hash),
        signed,
        kept_heads,
        entries,
        broken,
    } = report;
    json!({
        "whole": broken.is_none(),
        "chain": chain,
        "events": events,
        "head": {"seq": seq, "hash": hash},
        "signed": signed.map(|signed| json!({
            "seq": signed.seq,
            "at": timestamp(signed.at),
            "public_key": signed.public_key,
        })),
        "kept_heads": kept_heads,
        "entries": entries,
        "broken": broken.as_ref().map(ToString::to_string),
    })
}

/// Prints the heads that were signed last.
pub fn heads(database: &Database) -> Result<(), Failure> {
    match engine::last_signed_heads(&database.named()?).map_err(Failure::new)? {
        Some(line) => print(&line),
        None => Err(Failure::new("nothing is signed yet")),
    }
}

/// Writes an export.
pub fn export(arguments: &ExportArguments) -> Result<(), Failure> {
    let database = arguments.database.named()?;
    let (signed, left_out) = match &arguments.output {
        None => engine::export(&database, &mut BufWriter::new(std::io::stdout().lock()))
            .map_err(Failure::new)?,
        Some(path) => {
            let failed = |error: &dyn std::fmt::Display| {
                Failure::new(format!("cannot write {}: {error}", path.display()))
            };
            let file = OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(path)
                .map_err(|error| failed(&error))?;
            let mut file = BufWriter::new(file);
            let done = engine::export(&database, &mut file).map_err(Failure::new)?;
            file.flush()
                .and_then(|()| file.get_ref().sync_all())
                .map_err(|error| failed(&error))?;
            done
        }
    };
    let rest = match left_out {
        0 => String::new(),
        left_out => format!("; {left_out} later events are not signed yet and were left out"),
    };
    let _ = writeln!(
        anstream::stderr(),
        "exported: events 1 to {signed}, all signed{rest}"
    );
    Ok(())
}

/// Prints the public key.
pub fn public_key(arguments: &PublicKeyArguments) -> Result<(), Failure> {
    let path = match &arguments.signing_key_file {
        Some(path) if !path.as_os_str().is_empty() => path.clone(),
        _ => signing_key_of(&arguments.database.named()?, &arguments.database.run_dir),
    };
    let key = read_key(&path).map_err(Failure::new)?;
    let key = key.ok_or_else(|| {
        Failure::new(format!(
            "there is no signing key at {}: it is made when the ledger is started",
            path.display()
        ))
    })?;
    print(&key.public().to_string())
}
