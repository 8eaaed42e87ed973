//! `keybrake serve`: opens the doors and the ledger, says that it is ready, and ends in order.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::cli::Failure;
use crate::cli::reconcile::Flags;
use crate::clock::Clock;
use crate::config;
use crate::doctor::{self, Target};
use crate::engine::{Ledger, LedgerOptions, MAX_FORWARD_TIMEOUT_MS};
use crate::http::commands::Commands;
use crate::http::credentials::{Credentials, Reload};
use crate::http::listen::{self, Socket, Versions};
use crate::http::{Api, router};
use crate::rates::RateTable;
use crate::reconcile;
use crate::signing::{MissingKey, SigningOptions, signing_key_of};
use crate::telemetry::{self, LogFormat};
use crate::vendors::Vendors;

/// How often files with credentials are read again.
const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// For the requests at work when the service is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

const HELP: &str = "\
Credentials come from the environment, each at least 16 characters, all different:
  KEYBRAKE_ADMIN_KEY     manages vault keys
  KEYBRAKE_AUDIT_KEY     reads the audit
  KEYBRAKE_INTERNAL_KEY  what Envoy adds to the filter's commands
or from files, which are read again when they change: KEYBRAKE_ADMIN_KEY_FILE, and so on. A file may have a second
one in another line: while one takes the place of the other, both count.

KEYBRAKE_TEST_CLOCK names a file with an offset in milliseconds, for tests with the sandbox.

On stdout one line says when the service is ready: {\"ready\":true,\"listen\":\"127.0.0.1:9080\",\"socket\":\"…\"}

Examples:
  keybrake serve
  keybrake serve --listen 127.0.0.1:0 --log-format json \\
      --database-url sqlite:/var/lib/keybrake/keybrake.db";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// Where the API listens; port 0 takes a free one [default: 127.0.0.1:9080, or the port in KEYBRAKE_LEDGER_PORT]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The command socket for the filter; over 100 bytes a short path under the temporary folder is taken instead
    /// [default: ledger.sock in the run folder]
    #[arg(long, value_name = "PATH", env = "KEYBRAKE_LEDGER_SOCKET")]
    socket: Option<PathBuf>,
    /// Take commands on a TCP port as well (HTTP/2 with prior knowledge, HTTP/1.1), for meshes
    #[arg(long, value_name = "ADDRESS")]
    commands_listen: Option<SocketAddr>,
    /// Where everything is kept: sqlite:PATH or postgres://… [default: keybrake.db in the run folder]
    #[arg(
        long,
        value_name = "URL",
        env = "KEYBRAKE_DATABASE_URL",
        hide_env_values = true
    )]
    database_url: Option<String>,
    /// A folder with further vendor packs (*.json); one named as a built-in pack takes its place
    #[arg(long, value_name = "FOLDER")]
    vendors: Option<PathBuf>,
    /// What other currencies cost in US dollars; without it only amounts in dollars have a price
    #[arg(long, value_name = "FILE", env = "KEYBRAKE_RATES_FILE")]
    rates: Option<PathBuf>,
    /// The Ed25519 private key that signs the heads of the audit (PEM, PKCS#8); made if it is missing
    /// [default: the database's name and .signing-key, in the run folder when it is no file]
    #[arg(long, value_name = "FILE", env = "KEYBRAKE_SIGNING_KEY_FILE")]
    signing_key_file: Option<PathBuf>,
    /// Make a new signing key although heads were signed by one that is gone; the audit says so
    #[arg(long)]
    new_signing_key: bool,
    /// Append signed heads to this file as well: it shows a tail that was cut off and an older database that was put back
    #[arg(long, value_name = "FILE", env = "KEYBRAKE_HEADS_FILE")]
    heads_file: Option<PathBuf>,
    /// Sign the head of the audit after so many events
    #[arg(long, value_name = "EVENTS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    sign_every_events: u64,
    /// Sign the head of the audit when an event has waited so long
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    sign_every_seconds: u32,
    /// How long stored answers are kept whole; after that a replay is a summary
    #[arg(long, value_name = "DAYS", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    answers_kept_days: u32,
    /// How late an outcome may be before its attempt counts as unknown
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    sweep_grace_ms: u32,
    /// How long after being sent an admitted request may still be forwarded
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    forward_within_ms: u32,
    #[command(flatten)]
    reconcile: Flags,
    /// A vendor's endpoint through a gate (http://HOST[:PORT]/PATH): /readyz says no until canaries prove the gate; comma separated
    #[arg(
        long,
        value_name = "URL",
        env = "KEYBRAKE_GATE_URLS",
        value_delimiter = ','
    )]
    gate_url: Vec<String>,
    /// The run folder
    #[arg(
        long,
        value_name = "FOLDER",
        env = "KEYBRAKE_RUN_DIR",
        default_value = ".run"
    )]
    run_dir: PathBuf,
    /// Which logs, as in `info` or `keybrake_ledger=debug,warn`
    #[arg(
        long,
        value_name = "FILTER",
        env = "KEYBRAKE_LOG",
        default_value = "info"
    )]
    log: String,
    /// How logs look on stderr
    #[arg(
        long,
        value_name = "FORMAT",
        env = "KEYBRAKE_LOG_FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
}

/// Everything that is settled before a door is opened.
struct Plan {
    listen: SocketAddr,
    commands_listen: Option<SocketAddr>,
    socket: PathBuf,
    ledger: LedgerOptions,
    clock: Clock,
    credentials: Arc<Credentials>,
    vendors: Vendors,
    reconcile: Option<reconcile::Settings>,
    gates: Vec<Target>,
}

/// The doors, open, with nobody behind them yet.
struct Doors {
    api: TcpListener,
    commands: Option<TcpListener>,
    socket: Socket,
}

/// The line on stdout that says that the service is ready.
#[derive(Serialize)]
struct ReadyLine<'a> {
    ready: bool,
    listen: SocketAddr,
    socket: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    commands_listen: Option<SocketAddr>,
}

/// Runs the service until it is told to stop.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    telemetry::start(arguments.log_format, &arguments.log).map_err(Failure::usage)?;
    let plan = plan(arguments)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::new)?
        .block_on(serve(plan))
}

fn plan(arguments: Arguments) -> Result<Plan, Failure> {
    let Arguments {
        listen,
        socket,
        commands_listen,
        database_url,
        vendors,
        rates,
        signing_key_file,
        new_signing_key,
        heads_file,
        sign_every_events,
        sign_every_seconds,
        answers_kept_days,
        sweep_grace_ms,
        forward_within_ms,
        reconcile,
        gate_url,
        run_dir,
        log: _,
        log_format: _,
    } = arguments;
    let variable = |name: &str| std::env::var(name).ok();
    let port = variable("KEYBRAKE_LEDGER_PORT");
    let listen = config::listen_address(listen, port.as_deref()).map_err(Failure::usage)?;
    let database = config::database(database_url.as_deref(), &run_dir).map_err(Failure::usage)?;
    let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
    let longest_ms = i64::from(forward_within_ms).saturating_add(MAX_FORWARD_TIMEOUT_MS.into());
    let socket = given(socket).unwrap_or_else(|| run_dir.join("ledger.sock"));
    let clock_file = config::check_test_clock(
        variable("KEYBRAKE_TEST_CLOCK").as_deref(),
        variable("KEYBRAKE_VENDOR").as_deref(),
        variable("STRIPE_UPSTREAM").as_deref(),
    )
    .map_err(Failure::usage)?;
    Ok(Plan {
        listen,
        commands_listen,
        socket: config::socket_path(&socket, &std::env::temp_dir()),
        ledger: LedgerOptions {
            sweep_grace_ms,
            forward_within_ms,
            answers_kept_ms: i64::from(answers_kept_days).saturating_mul(DAY_MS),
            signing: SigningOptions {
                key_file: Some(
                    given(signing_key_file).unwrap_or_else(|| signing_key_of(&database, &run_dir)),
                ),
                missing_key: if new_signing_key {
                    MissingKey::MakeAnother
                } else {
                    MissingKey::MakeTheFirst
                },
                heads_file: given(heads_file),
                every_events: sign_every_events,
                every_ms: i64::from(sign_every_seconds).saturating_mul(1_000),
            },
            rates: given(rates)
                .map(|file| RateTable::load(&file))
                .transpose()
                .map_err(Failure::new)?,
            ..LedgerOptions::new(database)
        },
        clock: Clock::new(clock_file).map_err(Failure::new)?,
        credentials: Arc::new(Credentials::from_environment(variable).map_err(Failure::usage)?),
        vendors: Vendors::load(vendors.as_deref()).map_err(Failure::new)?,
        reconcile: reconcile.settings(longest_ms)?,
        gates: gate_url
            .iter()
            .filter(|url| !url.is_empty())
            .map(|url| {
                Target::parse(url).map_err(|error| Failure::usage(format!("--gate-url: {error}")))
            })
            .collect::<Result<_, _>>()?,
    })
}

async fn serve(plan: Plan) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    if let Some(file) = plan.ledger.database.file() {
        make_folder_of(file)?;
    }
    make_folder_of(&plan.socket)?;
    if let Some(file) = &plan.ledger.signing.key_file {
        make_folder_of(file)?;
    }
    let doors = open_doors(&plan).await?;
    let Doors {
        api: api_door,
        commands: commands_door,
        socket,
    } = doors;
    let Socket {
        listener: socket_door,
        file: socket_file,
    } = socket;
    let listen = api_door.local_addr().map_err(Failure::new)?;
    let commands_listen = commands_door
        .as_ref()
        .and_then(|door| door.local_addr().ok());
    let ready = serde_json::to_string(&ReadyLine {
        ready: true,
        listen,
        socket: &plan.socket,
        commands_listen,
    })
    .map_err(Failure::new)?;

    let Plan {
        ledger,
        clock,
        credentials,
        vendors,
        reconcile,
        gates,
        ..
    } = plan;
    let packs: Vec<_> = vendors.packs().cloned().collect();
    let reconciled_packs = packs.clone();
    let opening = clock.clone();
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(ledger, opening, packs))
        .await
        .map_err(Failure::new)?
        .map_err(Failure::new)?;
    let reloading = reload(Arc::clone(&credentials));
    let reconciler = reconcile.map(|settings| {
        reconcile::Task::new(settings, ledger.clone(), reconciled_packs, clock.clone())
    });
    let handle = reconciler.as_ref().map(reconcile::Task::handle);
    let api = Api::new(ledger.clone(), credentials, vendors, clock)
        .with(handle)
        .behind((!gates.is_empty()).then(|| doctor::watch(gates)));
    let api = Arc::new(api);
    let (stop, stopped) = watch::channel(false);
    let public = TowerToHyperService::new(router(Arc::clone(&api)));
    let commands = Commands::new(Arc::clone(&api));
    let mut open = vec![
        listen::serve(api_door, Versions::One, public, stopped.clone(), DRAIN),
        listen::serve(
            socket_door,
            Versions::OneAndTwo,
            commands.clone(),
            stopped.clone(),
            DRAIN,
        ),
    ];
    if let Some(door) = commands_door {
        open.push(listen::serve(
            door,
            Versions::OneAndTwo,
            commands,
            stopped.clone(),
            DRAIN,
        ));
    }
    let reconciling = reconciler.map(|task| tokio::spawn(task.run(stopped.clone())));
    say(&ready)?;
    tracing::info!(%listen, "ready");

    let ended = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "stopping: no new requests, those at work are finished");
            Ok(())
        }
        why = ledger.failed() => Err(Failure::new(format!("the store failed, so the ledger ends: {why}"))),
    };
    api.stop();
    let _ = stop.send(true);
    for door in open {
        let _ = door.await;
    }
    if let Some(reconciling) = reconciling {
        let _ = reconciling.await;
    }
    if let Some(reloading) = reloading {
        reloading.abort();
    }
    drop(api);
    ledger.close().await;
    drop(socket_file);
    if ended.is_ok() {
        tracing::info!("stopped");
    }
    ended
}

async fn open_doors(plan: &Plan) -> Result<Doors, Failure> {
    let api = listen::tcp(plan.listen).await.map_err(Failure::new)?;
    let commands = match plan.commands_listen {
        Some(address) => Some(listen::tcp(address).await.map_err(Failure::new)?),
        None => None,
    };
    let socket = listen::unix(&plan.socket).await.map_err(Failure::new)?;
    Ok(Doors {
        api,
        commands,
        socket,
    })
}

/// Makes the folder that a file is to stand in, open to our user alone.
fn make_folder_of(file: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let Some(folder) = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Ok(());
    };
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| {
            Failure::new(format!(
                "cannot make the folder {}: {error}",
                folder.display()
            ))
        })
}

/// Prints the ready line. Whoever started us may wait for it, so a closed stdout is an error.
fn say(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(format!("cannot write the ready line: {error}")))
}

/// Reads files with credentials again, for as long as the service runs.
fn reload(credentials: Arc<Credentials>) -> Option<tokio::task::JoinHandle<()>> {
    credentials.has_files().then(|| {
        tokio::spawn(async move {
            let mut every = tokio::time::interval(RELOAD_EVERY);
            let mut complained = None;
            loop {
                every.tick().await;
                match credentials.reload() {
                    Ok(Reload::Unchanged) => complained = None,
                    Ok(Reload::Changed) => {
                        complained = None;
                        let two = credentials.in_transition();
                        tracing::info!(two_count_for = ?two, "credentials were read again and have changed");
                    }
                    Err(error) => {
                        if complained.as_ref() != Some(&error) {
                            tracing::warn!(%error, "credentials stay as they were");
                        }
                        complained = Some(error);
                    }
                }
            }
        })
    })
}

/// The signals that end the service.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(Failure::new)?,
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::new)?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
