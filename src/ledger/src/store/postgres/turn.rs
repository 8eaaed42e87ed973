//! Turns: how the transactions of several ledgers follow each other.
//!
//! One row, `turn`, is locked by the first statement of every writing transaction, and moved on by its last one under the
//! condition that it still has the number that was read. So the transactions that commit are as if they were made one after the
//! other, at every isolation level: the lock lets the others wait instead of failing, and the condition alone would do. The level is
//! `READ COMMITTED`, at which each statement after the lock sees everything that was committed before it was got; a higher level would
//! fix what is seen before the lock is got, and refuse every transaction that had to wait. With one lock, taken first, no two
//! ledgers can wait for each other.
//!
//! A number that did not move says that nobody else has written: then everything in memory still holds, and a ledger that is
//! alone on its database asks for nothing twice.

use std::time::{Duration, Instant};

use super::address::Address;
use super::known::{Facts, Known};
use super::link::{Link, Question};
use super::pending::{self, Pending, Write};
use super::prune::Prune;
use super::rows::{digest, get, parameters};
use crate::store::{Ahead, Begun, ChainHead, Others, RequestNumber, Settled, StoreError, Wanted};

/// Between two attempts to connect.
const CONNECT_EVERY: Duration = Duration::from_millis(100);

/// Not `BEGIN` alone: what the server's default level is does not matter then.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// The turn as the transaction at hand found it, with what it has used of it.
#[derive(Debug, Clone)]
pub struct Turn {
    number: i64,
    /// The chain's head.
    pub head: ChainHead,
    pub next_request: RequestNumber,
    pub next_subject: i64,
    pub keys: i64,
}

/// A transaction at hand.
pub struct Open {
    turn: Turn,
    /// Whether something was written already, or somebody waits for answers that rest on what was read.
    must_commit: bool,
    /// Whether the chain goes on in it.
    pub has_events: bool,
}

/// A commit that is in doubt.
struct Doubt {
    /// What the chain's head is if it was done; `None`: it wrote no event.
    head: Option<ChainHead>,
}

/// One ledger's writer on a PostgreSQL database.
pub struct PostgresStore {
    address: Address,
    pub(super) link: Option<Link>,
    connected_at: Option<Instant>,
    /// As it was at the end of the last transaction.
    head: ChainHead,
    pub(super) open: Option<Open>,
    /// Whether the server may be in a transaction of ours.
    is_begun: bool,
    doubt: Option<Doubt>,
    /// The number of the last turn that this ledger committed or saw, while nothing was taken back since.
    last_turn: Option<i64>,
    /// The highest turn that was ever committed here: a database that is behind it has lost something.
    committed_turn: i64,
    others: Others,
    pub(super) known: Known,
    pub(super) pending: Pending,
    pub(super) prune: Prune,
}

impl PostgresStore {
    pub(super) fn new(address: Address, link: Link) -> Self {
        Self {
            address,
            link: Some(link),
            connected_at: None,
            head: ChainHead {
                chain: "".into(),
                seq: 0,
                hash: crate::audit::start(),
                at: 0,
            },
            open: None,
            is_begun: false,
            doubt: None,
            last_turn: None,
            committed_turn: 0,
            others: Others::Wrote,
            known: Known::default(),
            pending: Pending::default(),
            prune: Prune::default(),
        }
    }

    pub(super) fn open(&mut self) -> Result<&mut Open, StoreError> {
        self.open
            .as_mut()
            .ok_or_else(|| StoreError::new("no transaction is open"))
    }

    pub(super) fn turn(&mut self) -> Result<&mut Turn, StoreError> {
        Ok(&mut self.open()?.turn)
    }

    /// The connection, made anew if the last one is of no more use; never in the middle of a transaction, which would go on
    /// without its beginning.
    pub(super) fn connection(&mut self) -> Result<&mut Link, StoreError> {
        if self.link.as_ref().is_some_and(Link::is_lost) {
            self.link = None;
        }
        if self.link.is_none() && self.is_begun {
            return Err(StoreError::transient(
                "the connection broke in the middle of a transaction",
            ));
        }
        if self.link.is_none() {
            let is_early = self
                .connected_at
                .is_some_and(|at| at.elapsed() < CONNECT_EVERY);
            if is_early {
                return Err(StoreError::transient("the database cannot be reached"));
            }
            self.connected_at = Some(Instant::now());
            let mut link = Link::for_writing(&self.address).map_err(|error| {
                // Whatever is said to a connection may be otherwise in a while: a password that is being changed, a server that
                // is being put up again.
                StoreError::transient(error.to_string())
            })?;
            super::check_durable(&mut link).map_err(|why| {
                StoreError::transient(super::refused(&self.address, why).to_string())
            })?;
            self.link = Some(link);
        }
        self.link
            .as_mut()
            .ok_or_else(|| StoreError::transient("the database cannot be reached"))
    }

    /// Locks the turn, and asks for what is foreseen, in one round trip; in a second one when others have written.
    pub(super) fn begin_turn(&mut self, ahead: &Ahead<'_>) -> Result<Begun, StoreError> {
        self.end_transaction();
        self.known.trim();
        if self.others == Others::Wrote {
            self.known.facts = Facts::default();
        }
        let (wanted, must_commit) = match ahead {
            Ahead::Chores => (Wanted::default(), false),
            Ahead::Work(wanted) => (wanted(), true),
        };
        let mut foreseen = self.foresee(&wanted);
        let mut questions = vec![lock_turn()];
        let round = self.prune.question().filter(|_| must_commit);
        let is_pruning = round.is_some();
        questions.extend(round);
        questions.append(&mut foreseen.questions);
        self.connection()?;
        self.is_begun = true;
        let mut answers = self
            .connection()?
            .ask_all(Some(BEGIN), &questions)?
            .into_iter();
        let turn = turn_of(answers.next().unwrap_or_default().first())?;
        if is_pruning {
            self.prune.learn(&answers.next().unwrap_or_default())?;
        }
        if turn.number < self.committed_turn {
            return Err(StoreError::new(format!(
                "the database has lost what was committed: it stands at turn {}, turn {} was committed",
                turn.number, self.committed_turn
            )));
        }
        let others = if self.last_turn == Some(turn.number) {
            Others::Silent
        } else {
            Others::Wrote
        };
        if others == Others::Wrote && self.others == Others::Silent {
            self.known.facts = Facts::default();
        }
        self.others = others;
        let at = turn.head.at;
        self.head = turn.head.clone();
        self.open = Some(Open {
            turn,
            must_commit,
            has_events: false,
        });
        foreseen.learn(&mut self.known, answers)?;
        if self.others == Others::Wrote {
            let mut again = self.foresee(&wanted);
            if !again.questions.is_empty() {
                let questions = std::mem::take(&mut again.questions);
                let answers = self.connection()?.ask_all(None, &questions)?;
                again.learn(&mut self.known, answers.into_iter())?;
            }
        }
        Ok(Begun {
            at,
            others: self.others,
        })
    }

    /// The chain's head, with what was told in the transaction at hand.
    pub(super) fn head(&self) -> ChainHead {
        let open = self.open.as_ref().map(|open| &open.turn.head);
        open.unwrap_or(&self.head).clone()
    }

    pub(super) fn set_head(&mut self, head: &ChainHead) -> Result<(), StoreError> {
        let open = self.open()?;
        open.turn.head = head.clone();
        open.has_events = true;
        Ok(())
    }

    /// The head must be the last event: else the chain was cut off, or something was written past the ledger.
    pub(super) fn check_head(&mut self) -> Result<(), StoreError> {
        self.begin_turn(&Ahead::Chores)?;
        self.commit_turn()?;
        let head = self.head();
        let last = self.connection()?.ask(&Question::new(
            "SELECT seq, hash FROM events WHERE seq >= $1 ORDER BY seq DESC LIMIT 1",
            parameters![0_i64],
        ))?;
        let last = match last.first() {
            Some(row) => Some((get::<i64>(row, 0)?.cast_unsigned(), digest(row, 1)?)),
            None => None,
        };
        if last.is_some_and(|(seq, _)| seq > head.seq)
            || last.map_or(head.seq == 0, |last| last == (head.seq, head.hash))
        {
            // What is beyond the head was told by another ledger meanwhile.
            return Ok(());
        }
        Err(StoreError::new(format!(
            "the audit chain ends at event {}, its head is event {}: run `keybrake audit verify`",
            last.map_or(0, |(seq, _)| seq),
            head.seq
        )))
    }

    /// Sends what was decided so far, so that a question over many rows finds it.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let writes = self.pending.take()?;
        self.has_written()?;
        self.send(writes)
    }

    /// Notes that the transaction has to be committed, whatever else comes.
    pub(super) fn has_written(&mut self) -> Result<(), StoreError> {
        self.open()?.must_commit = true;
        Ok(())
    }

    /// Sends statements, and fails if one of them did not write what it should have.
    fn send(&mut self, writes: Vec<Write>) -> Result<(), StoreError> {
        let (questions, rows): (Vec<_>, Vec<_>) = writes
            .into_iter()
            .map(|write| (write.question, write.rows))
            .unzip();
        let written = self.connection()?.write_all(&questions)?;
        for ((question, expected), written) in questions.iter().zip(rows).zip(written) {
            if expected.is_some_and(|expected| expected != written) {
                let what = question.sql.split_whitespace().take(3);
                return Err(StoreError::transient(format!(
                    "somebody else has changed what was decided on: {} wrote {written} rows",
                    what.collect::<Vec<_>>().join(" ")
                )));
            }
        }
        Ok(())
    }

    /// Sends the rest, moves chain and turn on, and commits. `COMMIT` is sent only when every write before it is known to be
    /// right, so that nothing else can be in doubt.
    pub(super) fn commit_turn(&mut self) -> Result<(), StoreError> {
        let Some(open) = self.open.take() else {
            return Err(StoreError::new("no transaction is open"));
        };
        if self.pending.is_empty() && !open.must_commit && !open.has_events {
            // Nothing was decided and nobody was told anything.
            self.end_transaction();
            self.last_turn = Some(open.turn.number);
            return Ok(());
        }
        let mut writes = self.pending.take()?;
        writes.push(move_turn(&open.turn));
        self.send(writes)?;
        match self.connection()?.commit() {
            Ok(()) => {
                self.is_begun = false;
                let number = open.turn.number.saturating_add(1);
                self.last_turn = Some(number);
                self.committed_turn = number;
                self.head = open.turn.head;
                Ok(())
            }
            Err(error) => {
                if error.fault() == crate::store::Fault::InDoubt {
                    let head = open.has_events.then_some(open.turn.head);
                    self.doubt = Some(Doubt { head });
                }
                self.last_turn = None;
                Err(error)
            }
        }
    }

    /// Whether the commit in doubt was done: its last event says so. The turn is locked first, so that a server that is still at
    /// it has come to its end; and the answer is committed by itself, so that it is on every standby on which a commit has to be.
    pub(super) fn settle_doubt(&mut self) -> Result<Settled, StoreError> {
        let Some(Doubt { head }) = self.doubt.take() else {
            return Err(StoreError::new("no commit is in doubt"));
        };
        let settled = self.look_for(head.as_ref());
        if settled.is_err() {
            self.doubt = Some(Doubt { head });
        }
        settled
    }

    fn look_for(&mut self, head: Option<&ChainHead>) -> Result<Settled, StoreError> {
        self.end_transaction();
        self.last_turn = None;
        self.others = Others::Wrote;
        let Some(head) = head else {
            // It wrote no event, so that doing it again does no harm: commands are known by their ids.
            return Ok(Settled::NotCommitted);
        };
        let questions = [
            lock_turn(),
            Question::new(
                "SELECT hash FROM events WHERE seq = $1",
                parameters![head.seq.cast_signed()],
            ),
        ];
        self.connection()?;
        self.is_begun = true;
        let answers = self.connection()?.ask_all(Some(BEGIN), &questions)?;
        let turn = turn_of(answers.first().and_then(|rows| rows.first()))?;
        let event = answers.get(1).and_then(|rows| rows.first());
        let is_there = match event {
            Some(row) => digest(row, 0)? == head.hash,
            None => false,
        };
        self.send(vec![move_turn(&turn)])?;
        self.connection()?
            .commit()
            .map_err(|error| StoreError::transient(error.to_string()))?;
        self.is_begun = false;
        self.committed_turn = turn.number.saturating_add(1);
        Ok(if is_there {
            Settled::Committed
        } else {
            Settled::NotCommitted
        })
    }

    /// Takes the transaction back, and forgets everything that may have come from it.
    pub(super) fn rollback_turn(&mut self) {
        self.end_transaction();
        self.known = Known::default();
        self.last_turn = None;
        self.others = Others::Wrote;
    }

    /// Sees to it that no transaction is open, here or at the server.
    fn end_transaction(&mut self) {
        self.open = None;
        self.pending = Pending::default();
        let is_begun = std::mem::take(&mut self.is_begun);
        if let Some(link) = self
            .link
            .as_mut()
            .filter(|link| is_begun && !link.is_lost())
        {
            // A connection that cannot do even this is of no more use.
            if link.tell("ROLLBACK").is_err() {
                self.link = None;
            }
        }
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.rollback_turn();
    }
}

fn lock_turn() -> Question {
    Question::new(
        "SELECT number, next_request, next_subject, keys, chain, seq, hash, at FROM turn WHERE only_one = 1 FOR UPDATE",
        Vec::new(),
    )
}

/// Moves the turn on, only if it is still the one that was read.
fn move_turn(turn: &Turn) -> Write {
    pending::rare(
        "UPDATE turn SET number = number + 1, next_request = $2, next_subject = $3, keys = $4, seq = $5, hash = $6, at = $7
         WHERE only_one = 1 AND number = $1",
        parameters![
            turn.number,
            turn.next_request,
            turn.next_subject,
            turn.keys,
            turn.head.seq.cast_signed(),
            turn.head.hash.as_bytes().to_vec(),
            turn.head.at
        ],
        Some(1),
    )
}

fn turn_of(row: Option<&tokio_postgres::Row>) -> Result<Turn, StoreError> {
    let row = row.ok_or_else(|| StoreError::new("the turn's row is missing"))?;
    Ok(Turn {
        number: get(row, 0)?,
        next_request: get(row, 1)?,
        next_subject: get(row, 2)?,
        keys: get(row, 3)?,
        head: head_of(row, 4)?,
    })
}

/// Name, number, hash and instant of the chain's head, from this column on.
pub(super) fn head_of(row: &tokio_postgres::Row, first: usize) -> Result<ChainHead, StoreError> {
    let at = |offset: usize| first.saturating_add(offset);
    Ok(ChainHead {
        chain: get::<String>(row, at(0))?.into(),
        seq: get::<i64>(row, at(1))?.cast_unsigned(),
        hash: digest(row, at(2))?,
        at: get(row, at(3))?,
    })
}
