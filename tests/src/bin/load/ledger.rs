//! The ledger's own speed: durable reserves and full cycles, in process and over its command socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::money::{Currency, Minor};
use keybrake_contract::wire::{
    AttemptOutcome, Batch, Command, CommandResult, Cost, Executed, ExecutedMoney, Forward,
    Idempotency, Outcome, RequestFacts, Reserve, Results, StoredAnswer,
};
use keybrake_ledger::clock::Clock;
use keybrake_ledger::engine::{Ledger, LedgerOptions, Received};
use keybrake_ledger::model::{Caps, IssuedKey, NewKey};
use keybrake_ledger::store::Database;
use keybrake_pack::{Pack, builtin};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use crate::measure::Figures;

/// What one client does again and again.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// A reserve and its outcome: two durable commits, two audit events.
    Cycle,
    /// The reserve alone: what a debit on another store is compared with.
    Reserve,
}

/// In-process run.
#[derive(Args)]
pub struct InProcess {
    /// Folder for the database.
    #[arg(long)]
    folder: PathBuf,
    /// The database, when it is none in the folder.
    #[arg(long)]
    database_url: Option<String>,
    /// So many ledgers share the database and the clients.
    #[arg(long, default_value_t = 1)]
    ledgers: usize,
    /// Spread over so many vault keys; 1 = a hot key.
    #[arg(long, default_value_t = 1)]
    keys: usize,
    /// What to do.
    #[arg(long, default_value = "cycle")]
    work: Work,
}

/// Run against a command socket.
#[derive(Args)]
pub struct Api {
    /// The ledger's command socket.
    #[arg(long)]
    socket: PathBuf,
    /// File with the internal credential.
    #[arg(long)]
    internal_key_file: PathBuf,
    /// File with one vault key a line: 1 = a hot key.
    #[arg(long)]
    vault_keys_file: PathBuf,
    /// What to do.
    #[arg(long, default_value = "cycle")]
    work: Work,
    /// One command in each call, instead of batches as the filter sends them.
    #[arg(long)]
    one_per_call: bool,
}

/// A vault key as the generator uses it.
#[derive(Clone, Copy)]
pub struct LoadKey {
    digest: Digest,
    version: u64,
}

impl LoadKey {
    /// Of a key that was just issued.
    pub fn of(issued: &IssuedKey) -> Self {
        Self {
            digest: issued.key.digest,
            version: issued.key.grant.version,
        }
    }
}

/// Makes commands with fresh ids.
pub struct Commands {
    nonce: [u8; 16],
    counter: AtomicU64,
}

impl Commands {
    pub fn new() -> Self {
        let seed = Digest::of(format!("{:?} {}", Instant::now(), std::process::id()).as_bytes());
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&seed.as_bytes()[..16]);
        Self {
            nonce,
            counter: AtomicU64::new(1),
        }
    }

    fn id(&self) -> CommandId {
        CommandId::new(self.nonce, self.counter.fetch_add(1, Ordering::Relaxed))
    }

    pub fn reserve(&self, key: LoadKey) -> Command {
        let id = self.id();
        let name = id.to_string();
        Command::Reserve(Box::new(Reserve {
            id,
            key_digest: key.digest,
            grant_version: Some(key.version),
            request: Arc::new(RequestFacts {
                vendor: "stripe".into(),
                credential: "stripe".into(),
                operation: "charges.create".into(),
                method: "POST".into(),
                path: "/v1/charges".into(),
                vendor_account: None,
                request_id: name.clone(),
                run_id: None,
                traceparent: None,
                params: [("customer".to_owned(), "cus_bench".to_owned())].into(),
            }),
            forward: Forward::Detached,
            cost: Cost::Amount(Minor {
                amount: 1,
                currency: Currency::USD,
            }),
            idempotency: Some(Idempotency {
                fingerprint: Digest::of(name.as_bytes()),
                key: name,
                full_fingerprint: None,
                client_key: None,
            }),
            purchases: Vec::new(),
            forward_timeout_ms: 90_000,
        }))
    }

    fn outcome(&self, hold: CommandId, attempt: u32) -> Command {
        let charge = format!("ch_{hold}");
        let rest = concat!(
            r#""object":"charge","amount":1,"amount_captured":1,"amount_refunded":0,"captured":true,"#,
            r#""created":1700000000,"currency":"usd","customer":"cus_bench","description":"bench","livemode":false,"#,
            r#""metadata":{},"paid":true,"refunded":false,"status":"succeeded"}"#
        );
        let body = format!(r#"{{"id":"{charge}",{rest}"#);
        Command::Outcome(Box::new(Outcome {
            id: self.id(),
            hold,
            attempt,
            outcome: AttemptOutcome::Executed(Executed {
                money: ExecutedMoney::Moved,
                amount: Some(Minor {
                    amount: 1,
                    currency: Currency::USD,
                }),
                is_total: true,
            }),
            status: Some(200),
            vendor_request_id: Some("req_bench".into()),
            vendor_object_id: Some(charge.clone()),
            charge_id: Some(charge),
            replayed_by_vendor: false,
            answer: Some(StoredAnswer {
                status: 200,
                content_type: "application/json".into(),
                body,
                vendor_request_id: Some("req_bench".into()),
            }),
            latency_ms: 1,
        }))
    }
}

/// Runs one client's closed loop with any way to execute one command.
async fn client<Ask, Answer>(
    commands: Arc<Commands>,
    key: LoadKey,
    work: Work,
    until: Instant,
    ask: Ask,
) -> Figures
where
    Ask: Fn(Command) -> Answer,
    Answer: Future<Output = Result<CommandResult, String>>,
{
    let mut figures = Figures::default();
    while Instant::now() < until {
        let since = Instant::now();
        let admitted = match ask(commands.reserve(key)).await {
            Ok(CommandResult::Admitted(admitted)) => admitted,
            other => {
                figures.failed(format!("reserve: {other:?}"));
                continue;
            }
        };
        if work == Work::Cycle {
            let answer = ask(commands.outcome(admitted.hold, admitted.attempt)).await;
            if !matches!(answer, Ok(CommandResult::Recorded)) {
                figures.failed(format!("outcome: {answer:?}"));
                continue;
            }
        }
        figures.answered(since);
    }
    figures
}

pub fn received(command: &Command) -> Received {
    let text = serde_json::to_string(command).expect("a command is JSON");
    Received::read(&RawValue::from_string(text).expect("JSON"))
}

/// Durable work in the engine itself, clients as tasks on a runtime of one thread.
pub fn in_process(options: &InProcess, clients: usize, seconds: Duration) -> Figures {
    let folder = tempfile::tempdir_in(&options.folder).expect("a folder");
    let pack =
        Pack::parse(&builtin("stripe").expect("the stripe pack")).expect("a pack that reads");
    let database = match &options.database_url {
        Some(url) => Database::parse(url).expect("a database URL"),
        None => Database::from(folder.path().join("bench.db")),
    };
    let ledgers: Vec<Ledger> = (0..options.ledgers)
        .map(|number| {
            let mut options = LedgerOptions::new(database.clone());
            if database.file().is_none() {
                let key = folder.path().join(format!("signing-key-{number}"));
                options.signing.key_file = Some(key);
            }
            Ledger::open(options, wall(), vec![pack.clone()]).expect("a ledger")
        })
        .collect();
    let ledger = ledgers[0].clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let issued = ledger
            .issue((0..options.keys).map(|_| new_key()).collect())
            .await
            .expect("keys");
        let keys: Vec<LoadKey> = issued.iter().map(LoadKey::of).collect();
        let commands = Arc::new(Commands::new());
        let start = Instant::now();
        let until = start + seconds;
        let mut running = Vec::new();
        for number in 0..clients {
            let ledger = ledgers[number % ledgers.len()].clone();
            let (commands, key) = (commands.clone(), keys[number % keys.len()]);
            let work = options.work;
            running.push(tokio::spawn(async move {
                client(commands, key, work, until, |command| {
                    let ledger = ledger.clone();
                    async move {
                        let answers = ledger.execute(vec![received(&command)]).await;
                        let mut answers = answers.map_err(|error| error.to_string())?;
                        answers
                            .pop()
                            .map(|answer| answer.result)
                            .ok_or_else(|| "no answer".to_owned())
                    }
                })
                .await
            }));
        }
        let mut parts = Vec::new();
        for client in running {
            parts.push(client.await.expect("a client that does not panic"));
        }
        let figures = Figures::merge(parts, start.elapsed());
        for ledger in ledgers {
            ledger.close().await;
        }
        figures
    })
}

pub fn wall() -> Clock {
    Clock::new(None).expect("a clock without a file")
}

pub fn new_key() -> NewKey {
    use keybrake_contract::grant::{AllowedEndpoint, Grant, IdempotencyRule};
    use keybrake_contract::money::Micros;
    NewKey {
        label: "bench".into(),
        workspace: "default".into(),
        grant: Grant {
            key_id: String::new(),
            version: 0,
            vendor: "stripe".into(),
            allowed_endpoints: vec![AllowedEndpoint::parse("POST /v1/charges").expect("a pattern")],
            constraints: Default::default(),
            vendor_accounts: Vec::new(),
            idempotency: IdempotencyRule::Required,
            duplicate_fields: Vec::new(),
        },
        caps: Caps {
            daily: Some(Micros::new(1_000_000_000_000_000)),
            ..Caps::default()
        },
        worst_case: None,
        expires_at: wall()
            .now()
            .checked_add(jiff::SignedDuration::from_hours(24))
            .expect("tomorrow"),
        metadata: None,
        budget: None,
        duplicates: None,
    }
}

/// Durable work over the command socket.
pub async fn api(options: Api, clients: usize, seconds: Duration) -> Figures {
    let internal = std::fs::read_to_string(&options.internal_key_file)
        .expect("the internal key")
        .trim()
        .to_owned();
    let listed = std::fs::read_to_string(&options.vault_keys_file).expect("the vault keys");
    let line = Line {
        sender: connect(&options.socket).await,
        internal: internal.into(),
    };
    let commands = Arc::new(Commands::new());
    let mut keys = Vec::new();
    for vault_key in listed.split_whitespace() {
        keys.push(learn(&line, &commands, Digest::of(vault_key.as_bytes())).await);
    }
    let (outbox, waiting) = mpsc::unbounded_channel();
    let pump = tokio::spawn(pump(line.clone(), waiting));
    let start = Instant::now();
    let until = start + seconds;
    let mut running = Vec::new();
    for number in 0..clients {
        let (line, outbox, commands) = (line.clone(), outbox.clone(), commands.clone());
        let (key, work, one_per_call) = (
            keys[number % keys.len()],
            options.work,
            options.one_per_call,
        );
        running.push(tokio::spawn(async move {
            client(commands, key, work, until, |command| {
                let (line, outbox) = (line.clone(), outbox.clone());
                async move {
                    if one_per_call {
                        let mut results = line.send(vec![command]).await?;
                        return results.pop().ok_or_else(|| "no result".to_owned());
                    }
                    let (answer, answered) = oneshot::channel();
                    outbox
                        .send((command, answer))
                        .map_err(|_| "the outbox is closed".to_owned())?;
                    answered
                        .await
                        .map_err(|_| "the outbox dropped it".to_owned())?
                }
            })
            .await
        }));
    }
    drop(outbox);
    let mut parts = Vec::new();
    for client in running {
        parts.push(client.await.expect("a client that does not panic"));
    }
    let figures = Figures::merge(parts, start.elapsed());
    pump.await.expect("an outbox that does not panic");
    figures
}

type Waiting = (Command, oneshot::Sender<Result<CommandResult, String>>);

/// Sends as the filter does: at once when nothing is out, else everything that gathered meanwhile.
async fn pump(line: Line, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
    let mut gathered = Vec::new();
    while waiting.recv_many(&mut gathered, 256).await > 0 {
        let (commands, askers): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
        match line.send(commands).await {
            Ok(results) => {
                for (asker, result) in askers.into_iter().zip(results) {
                    let _ = asker.send(Ok(result));
                }
            }
            Err(why) => {
                for asker in askers {
                    let _ = asker.send(Err(why.clone()));
                }
            }
        }
    }
}

/// The grant's present version, asked for as the filter does.
async fn learn(line: &Line, commands: &Commands, digest: Digest) -> LoadKey {
    let mut asking = commands.reserve(LoadKey { digest, version: 0 });
    if let Command::Reserve(reserve) = &mut asking {
        reserve.grant_version = None;
    }
    match line
        .send(vec![asking])
        .await
        .expect("a ledger that answers")
        .pop()
    {
        Some(CommandResult::Grant(grant)) => LoadKey {
            digest,
            version: grant.version,
        },
        other => panic!("asked for a grant, got {other:?}"),
    }
}

#[derive(Clone)]
struct Line {
    sender: SendRequest<Full<Bytes>>,
    internal: Arc<str>,
}

async fn connect(socket: &std::path::Path) -> SendRequest<Full<Bytes>> {
    let stream = tokio::net::UnixStream::connect(socket)
        .await
        .expect("the command socket");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

impl Line {
    async fn send(&self, commands: Vec<Command>) -> Result<Vec<CommandResult>, String> {
        let body = serde_json::to_vec(&Batch { commands }).map_err(|error| error.to_string())?;
        let request = Request::post(format!("http://ledger{}", keybrake_contract::COMMANDS_PATH))
            .header(keybrake_contract::INTERNAL_KEY_HEADER, &*self.internal)
            .header("content-type", "application/json")
            .body(Full::from(body))
            .map_err(|error| error.to_string())?;
        let answer = self
            .sender
            .clone()
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        if status != 200 {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        let results: Results = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        Ok(results
            .results
            .into_iter()
            .map(|answer| answer.result)
            .collect())
    }
}
