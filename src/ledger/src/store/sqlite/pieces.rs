//! What the audit rests on, read from its tables.

use std::ops::ControlFlow;

use keybrake_contract::lifecycle::{HoldState, RecordState, State};
use rusqlite::{Connection, OptionalExtension as _, Row, Rows};

use super::codes::{Sql, command_id, digest, micros, micros_if_any, minor};
use super::{budgets, keys};
use crate::book::Parts;
use crate::model::EntryOutcome;
use crate::store::codes::rate_of;
use crate::store::{BalancePiece, EventRow, Kind, Piece, RequestPiece};

type Visit<'a> = &'a mut dyn FnMut(Piece) -> ControlFlow<()>;
type Visited = rusqlite::Result<ControlFlow<()>>;

/// Every piece in its order.
pub fn visit_all(connection: &Connection, visit: Visit<'_>) -> Visited {
    for part in [events, all_keys, all_budgets, requests, balances] {
        if part(connection, visit)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

pub fn last_signed_heads(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT line FROM signed_heads ORDER BY number DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()
}

/// Events, each followed by the heads that were signed at it. Heads beyond the last event come last.
fn events(connection: &Connection, visit: Visit<'_>) -> Visited {
    let mut heads = connection.prepare("SELECT seq, line FROM signed_heads ORDER BY number")?;
    let mut heads = Heads::new(heads.query([])?)?;
    let mut events = connection.prepare("SELECT seq, hash, body FROM events ORDER BY seq")?;
    let mut events = events.query([])?;
    while let Some(row) = events.next()? {
        let seq: i64 = row.get(0)?;
        if heads.visit_before(seq, visit)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let event = EventRow {
            seq: seq.cast_unsigned(),
            hash: digest(row, 1)?,
            body: row.get(2)?,
        };
        if visit(Piece::Event(event)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    heads.visit_before(i64::MAX, visit)
}

/// Signed heads in the order in which they were kept, with one looked at ahead.
struct Heads<'a> {
    rows: Rows<'a>,
    next: Option<(i64, String)>,
}

impl<'a> Heads<'a> {
    fn new(rows: Rows<'a>) -> rusqlite::Result<Self> {
        let mut heads = Self { rows, next: None };
        heads.advance()?;
        Ok(heads)
    }

    fn advance(&mut self) -> rusqlite::Result<()> {
        self.next = match self.rows.next()? {
            Some(row) => Some((row.get(0)?, row.get(1)?)),
            None => None,
        };
        Ok(())
    }

    fn visit_before(&mut self, seq: i64, visit: Visit<'_>) -> Visited {
        while let Some((_, line)) = self.next.take_if(|(at, _)| *at < seq) {
            self.advance()?;
            if visit(Piece::Signed(line)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn all_keys(connection: &Connection, visit: Visit<'_>) -> Visited {
    let sql = format!("SELECT {} FROM keys ORDER BY number", keys::COLUMNS);
    each(connection, &sql, visit, |row| {
        Ok(Piece::Key(Box::new(keys::full_key(row)?)))
    })
}

fn all_budgets(connection: &Connection, visit: Visit<'_>) -> Visited {
    let sql = format!("SELECT {} FROM budgets ORDER BY number", budgets::COLUMNS);
    each(connection, &sql, visit, |row| {
        Ok(Piece::Budget(Box::new(budgets::full_budget(row)?)))
    })
}

fn requests(connection: &Connection, visit: Visit<'_>) -> Visited {
    let sql = "SELECT r.id, r.at, r.event, r.subject, coalesce(k.key_id, ''), r.label, r.run_id, r.operation, r.idempotency_key,
                   r.client_key, r.reason, r.kind, r.record, r.hold, r.outcome, r.cost, r.amount, r.currency, r.attempts,
                   r.replays, r.status, r.object, iif(r.charge_is_object, r.object, r.charge), r.vendor_request_id,
                   r.resolution, r.rate, r.budget
               FROM requests r LEFT JOIN keys k ON k.number = r.subject ORDER BY r.number";
    each(connection, sql, visit, |row| {
        Ok(Piece::Request(Box::new(request(row)?)))
    })
}

fn request(row: &Row<'_>) -> rusqlite::Result<RequestPiece> {
    Ok(RequestPiece {
        id: command_id(row, 0)?,
        at: row.get(1)?,
        event: row.get::<_, i64>(2)?.cast_unsigned(),
        subject: row.get(3)?,
        key_id: row.get(4)?,
        budget: row.get(26)?,
        label: row.get(5)?,
        run_id: row.get(6)?,
        operation: row.get(7)?,
        idempotency_key: row.get(8)?,
        client_key: row.get(9)?,
        reason: row.get(10)?,
        kind: row.get::<_, Sql<Kind>>(11)?.0,
        state: State {
            record: row.get::<_, Sql<RecordState>>(12)?.0,
            hold: row.get::<_, Sql<HoldState>>(13)?.0,
        },
        outcome: row
            .get::<_, Option<Sql<EntryOutcome>>>(14)?
            .map(|outcome| outcome.0),
        cost: micros_if_any(row, 15)?,
        amount: minor(row, 16)?,
        attempts: row.get(18)?,
        replays: row.get::<_, i64>(19)?.cast_unsigned(),
        status: row.get(20)?,
        object: row.get(21)?,
        charge: row.get(22)?,
        vendor_request_id: row.get(23)?,
        resolution: row.get::<_, Option<i64>>(24)?.map(i64::cast_unsigned),
        rate: row.get::<_, Option<i64>>(25)?.and_then(rate_of),
    })
}

fn balances(connection: &Connection, visit: Visit<'_>) -> Visited {
    let sql = "SELECT cap, free, held, settled, unknown, subject, window FROM balances ORDER BY subject, window";
    each(connection, sql, visit, |row| {
        Ok(Piece::Balance(BalancePiece {
            subject: row.get(5)?,
            window: row.get(6)?,
            parts: Parts {
                cap: micros(row, 0)?,
                free: micros(row, 1)?,
                held: micros(row, 2)?,
                settled: micros(row, 3)?,
                unknown: micros(row, 4)?,
            },
        }))
    })
}

fn each(
    connection: &Connection,
    sql: &str,
    visit: Visit<'_>,
    piece: impl Fn(&Row<'_>) -> rusqlite::Result<Piece>,
) -> Visited {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if visit(piece(row)?).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
