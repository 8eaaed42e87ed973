//! One connection: made, set up, checked, asked, and given up when it is of no more use.
//!
//! Many statements make one round trip: they are sent one behind the other before the first answer is read. The server still
//! executes them one after the other, each seeing what the ones before it did.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::config::Config;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, NoTls, Row, Statement};

use super::address::{Address, Encryption};
use super::tls::MakeTls;
use crate::store::StoreError;

/// For a round trip. Longer than the server makes anybody wait for a lock, and short enough that a server that is gone is noticed.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What every session is told. A writer that is gone without a word must not keep the others waiting: the server ends its
/// transaction. Nothing may end a commit that waits for a standby, so there is no statement time-out.
const SESSION: &str = "SET statement_timeout = 0; SET lock_timeout = 1000; \
    SET idle_in_transaction_session_timeout = 10000; SET client_min_messages = warning";

/// Everything that is asked for is found by an index. A plan that was made while a table was small would read it whole long after
/// it has grown.
const PLANS: &str =
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";

/// A parameter of a statement.
pub type Parameter = Box<dyn ToSql + Sync + Send>;

/// A statement with its parameters.
pub struct Question {
    pub sql: &'static str,
    pub parameters: Vec<Parameter>,
}

impl Question {
    pub fn new(sql: &'static str, parameters: Vec<Parameter>) -> Self {
        Self { sql, parameters }
    }
}

/// What a server said to a statement that is not a question of ours: what it means for the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The transaction is gone; the same may be done again, on this connection.
    Again,
    /// As before, on another connection.
    Elsewhere,
    /// It will fail again.
    Never,
}

/// A connection and the runtime that drives it while it is asked.
pub struct Link {
    runtime: Option<Runtime>,
    client: Client,
    statements: HashMap<&'static str, Statement>,
    warned: Arc<AtomicBool>,
    /// Whether it is of no more use.
    is_lost: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        // Dropping a runtime waits for it, which is not allowed everywhere.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Link {
    /// A connection that may write.
    pub fn for_writing(address: &Address) -> Result<Self, StoreError> {
        Self::open(address, &address.for_writing())
    }

    /// A connection that only reads.
    pub fn for_reading(address: &Address) -> Result<Self, StoreError> {
        Self::open(address, &address.for_reading())
    }

    fn open(address: &Address, config: &Config) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| StoreError::transient(error.to_string()))?;
        let warned = Arc::new(AtomicBool::new(false));
        let connecting = connect(config, &address.encryption, Arc::clone(&warned));
        let client = runtime
            .block_on(async { tokio::time::timeout(ANSWER_WITHIN, connecting).await })
            .map_err(|_| StoreError::transient("no connection in time"))??;
        let mut link = Self {
            runtime: Some(runtime),
            client,
            statements: HashMap::new(),
            warned,
            is_lost: false,
        };
        link.tell(SESSION)?;
        // Not every engine has these; one that plans in another way does well without.
        let _ = link.tell(PLANS);
        Ok(link)
    }

    /// Whether it can still be used.
    pub const fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Whether the server has warned of something since this was asked last.
    pub fn was_warned(&self) -> bool {
        self.warned.swap(false, Ordering::AcqRel)
    }

    /// Executes statements without parameters, and reads no rows.
    pub fn tell(&mut self, sql: &str) -> Result<(), StoreError> {
        self.run(|client, _| {
            let told = async move { client.batch_execute(sql).await };
            Box::pin(told)
        })
    }

    /// One statement's rows.
    pub fn ask(&mut self, question: &Question) -> Result<Vec<Row>, StoreError> {
        let mut answers = self.ask_all(None, std::slice::from_ref(question))?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// The rows of several statements in one round trip. `before` is executed ahead of them.
    pub fn ask_all(
        &mut self,
        before: Option<&'static str>,
        questions: &[Question],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        self.prepare(questions)?;
        self.run(|client, statements| {
            let asked: Vec<_> = questions
                .iter()
                .map(|question| -> Sent<'_, Vec<Row>> {
                    let statement = statements.get(question.sql);
                    Box::pin(async move {
                        match statement {
                            Some(statement) => {
                                client
                                    .query(statement, &borrowed(&question.parameters))
                                    .await
                            }
                            None => {
                                client
                                    .query(question.sql, &borrowed(&question.parameters))
                                    .await
                            }
                        }
                    })
                })
                .collect();
            Box::pin(async move {
                let opening: Sent<'_, ()> = Box::pin(async move {
                    match before {
                        Some(before) => client.batch_execute(before).await,
                        None => Ok(()),
                    }
                });
                pipelined(opening, asked).await
            })
        })
    }

    /// The rows of a statement that was put together.
    pub fn ask_text(
        &mut self,
        sql: &str,
        parameters: &[Parameter],
    ) -> Result<Vec<Row>, StoreError> {
        self.run(|client, _| {
            Box::pin(async move { client.query(sql, &borrowed(parameters)).await })
        })
    }

    /// How many rows a statement wrote that was put together.
    pub fn write_text(&mut self, sql: &str, parameters: &[Parameter]) -> Result<u64, StoreError> {
        self.run(|client, _| {
            Box::pin(async move { client.execute(sql, &borrowed(parameters)).await })
        })
    }

    /// How many rows each of several statements wrote, in one round trip.
    pub fn write_all(&mut self, questions: &[Question]) -> Result<Vec<u64>, StoreError> {
        self.prepare(questions)?;
        self.run(|client, statements| {
            let asked: Vec<_> = questions
                .iter()
                .map(|question| -> Sent<'_, u64> {
                    let statement = statements.get(question.sql);
                    Box::pin(async move {
                        match statement {
                            Some(statement) => {
                                client
                                    .execute(statement, &borrowed(&question.parameters))
                                    .await
                            }
                            None => {
                                client
                                    .execute(question.sql, &borrowed(&question.parameters))
                                    .await
                            }
                        }
                    })
                })
                .collect();
            Box::pin(async move {
                let nothing: Sent<'_, ()> = Box::pin(async { Ok(()) });
                pipelined(nothing, asked).await
            })
        })
    }

    /// Commits. An answer that did not come, or that came with a warning, leaves it in doubt: a server that was told to stop
    /// waiting for its standby says so in a warning and calls the commit done.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        self.was_warned();
        let Some(runtime) = &self.runtime else {
            return Err(StoreError::transient("the connection is closed"));
        };
        let told = self.client.batch_execute("COMMIT");
        let told = runtime.block_on(async { tokio::time::timeout(ANSWER_WITHIN, told).await });
        match told {
            Ok(Ok(())) if self.warned.swap(false, Ordering::AcqRel) => {
                self.is_lost = true;
                Err(StoreError::in_doubt(
                    "the server warned that what it committed may not be on its standby",
                ))
            }
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                if is_refused_commit(&error) {
                    return Err(StoreError::transient(shown(&error)));
                }
                self.is_lost = true;
                Err(StoreError::in_doubt(shown(&error)))
            }
            Err(_) => {
                self.is_lost = true;
                Err(StoreError::in_doubt("no answer to a commit in time"))
            }
        }
    }

    fn prepare(&mut self, questions: &[Question]) -> Result<(), StoreError> {
        let mut missing: Vec<&'static str> = Vec::new();
        for question in questions {
            if !self.statements.contains_key(question.sql) && !missing.contains(&question.sql) {
                missing.push(question.sql);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let names = missing.clone();
        let prepared = self.run(|client, _| {
            let asked: Vec<_> = missing
                .into_iter()
                .map(|sql| -> Sent<'_, Statement> {
                    Box::pin(async move { client.prepare(sql).await })
                })
                .collect();
            Box::pin(async move {
                let nothing: Sent<'_, ()> = Box::pin(async { Ok(()) });
                pipelined(nothing, asked).await
            })
        })?;
        self.statements.extend(names.into_iter().zip(prepared));
        Ok(())
    }

    fn run<'a, T>(
        &'a mut self,
        work: impl FnOnce(&'a Client, &'a HashMap<&'static str, Statement>) -> Sent<'a, T>,
    ) -> Result<T, StoreError> {
        let Some(runtime) = &self.runtime else {
            return Err(StoreError::transient("the connection is closed"));
        };
        let working = work(&self.client, &self.statements);
        let done = runtime.block_on(async { tokio::time::timeout(ANSWER_WITHIN, working).await });
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                let meaning = meaning(&error);
                self.is_lost |= meaning == Meaning::Elsewhere;
                Err(match meaning {
                    Meaning::Again | Meaning::Elsewhere => StoreError::transient(shown(&error)),
                    Meaning::Never => StoreError::new(shown(&error)),
                })
            }
            Err(_) => {
                self.is_lost = true;
                Err(StoreError::transient("no answer in time"))
            }
        }
    }
}

/// Something that was sent, and its answer to come.
type Sent<'a, T> = Pin<Box<dyn Future<Output = Result<T, tokio_postgres::Error>> + Send + 'a>>;

fn borrowed(parameters: &[Parameter]) -> Vec<&(dyn ToSql + Sync)> {
    parameters
        .iter()
        .map(|parameter| &**parameter as &(dyn ToSql + Sync))
        .collect()
}

/// Sends all in this order, then reads the answers. Answers the first error, when all that was sent is answered.
async fn pipelined<'a, T>(
    mut first: Sent<'a, ()>,
    asked: Vec<Sent<'a, T>>,
) -> Result<Vec<T>, tokio_postgres::Error> {
    let mut is_first_done = None;
    let mut waiting: Vec<_> = asked.into_iter().map(|sent| (sent, None)).collect();
    poll_fn(|context| {
        let mut is_pending = false;
        if is_first_done.is_none() {
            match first.as_mut().poll(context) {
                Poll::Ready(done) => is_first_done = Some(done),
                Poll::Pending => is_pending = true,
            }
        }
        for (sent, answer) in &mut waiting {
            if answer.is_none() {
                match sent.as_mut().poll(context) {
                    Poll::Ready(done) => *answer = Some(done),
                    Poll::Pending => is_pending = true,
                }
            }
        }
        if is_pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    if let Some(Err(error)) = is_first_done {
        return Err(error);
    }
    waiting
        .into_iter()
        .filter_map(|(_, answer)| answer)
        .collect()
}

async fn connect(
    config: &Config,
    encryption: &Encryption,
    warned: Arc<AtomicBool>,
) -> Result<Client, StoreError> {
    let failed = |error: tokio_postgres::Error| match meaning(&error) {
        Meaning::Never => StoreError::new(shown(&error)),
        Meaning::Again | Meaning::Elsewhere => StoreError::transient(shown(&error)),
    };
    match encryption {
        Encryption::Plain => {
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            tokio::spawn(drive(connection, warned));
            Ok(client)
        }
        Encryption::Tls { roots } => {
            let tls = MakeTls::new(roots.as_deref()).map_err(StoreError::new)?;
            let (client, connection) = config.connect(tls).await.map_err(failed)?;
            tokio::spawn(drive(connection, warned));
            Ok(client)
        }
    }
}

/// Moves bytes for as long as the connection lives, and notes warnings.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, warned: Arc<AtomicBool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) => {
                tracing::warn!(
                    code = notice.code().code(),
                    "the database warns: {}",
                    notice.message()
                );
                warned.store(true, Ordering::Release);
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Whether the server said for certain that it did not commit.
fn is_refused_commit(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        *code != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
            && (code.code().starts_with("40") || code.code().starts_with("23"))
    })
}

fn meaning(error: &tokio_postgres::Error) -> Meaning {
    let Some(code) = error.code() else {
        // The connection, not the server: unless what we sent cannot be sent at all.
        return if error.is_closed() || is_of_the_network(error) {
            Meaning::Elsewhere
        } else {
            Meaning::Never
        };
    };
    match code.code() {
        // Serialization failure, deadlock, a lock that was not to be had, a row that somebody else has put there.
        "40001" | "40P01" | "40003" | "55P03" | "23505" => Meaning::Again,
        // The session timed out, the server takes no writes any more, is told to stop, starts, or is out of something.
        "25P03" | "25006" | "57P01" | "57P02" | "57P03" | "57P05" => Meaning::Elsewhere,
        other => match other.get(..2) {
            Some("08" | "53" | "58" | "XX") => Meaning::Elsewhere,
            _ => Meaning::Never,
        },
    }
}

fn is_of_the_network(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    // "Error connecting to server: …", time-outs, and hosts none of which takes writes.
    error.to_string().contains("connect")
}

/// One line, with the server's code if it has one; never a value of a row, never a password.
fn shown(error: &tokio_postgres::Error) -> String {
    let text = match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
