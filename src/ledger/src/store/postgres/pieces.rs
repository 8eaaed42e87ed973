//! What the audit rests on, read from its tables some rows at a time.

use std::ops::ControlFlow;

use keybrake_contract::lifecycle::State;
use keybrake_contract::money::Micros;
use tokio_postgres::Row;

use super::budgets::{budget_columns, full_budget};
use super::link::{Link, Question};
use super::rows::{
    code, code_if_any, command_id, digest, full_key, get, key_columns, minor, parameters, parts,
    small, small_if_any,
};
use crate::store::codes::rate_of;
use crate::store::{BalancePiece, EventRow, Piece, RequestPiece, StoreError};

/// Rows that are read at a time.
const ROWS: i64 = 2_000;

type Visit<'a> = &'a mut dyn FnMut(Piece) -> ControlFlow<()>;
type Visited = Result<ControlFlow<()>, StoreError>;

/// Every piece in its order.
pub fn visit_all(link: &mut Link, visit: Visit<'_>) -> Visited {
    for part in [events_and_heads, keys, budgets, requests, balances] {
        if part(link, visit)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

pub fn last_signed_heads(link: &mut Link) -> Result<Option<String>, StoreError> {
    let rows = link.ask(&Question::new(
        "SELECT line FROM signed_heads ORDER BY number DESC LIMIT 1",
        Vec::new(),
    ))?;
    rows.first().map(|row| get(row, 0)).transpose()
}

/// Events in order; `visit` may ask something else meanwhile.
pub fn events(
    link: &mut Link,
    visit: &mut dyn FnMut(&mut Link, EventRow) -> ControlFlow<()>,
) -> Visited {
    let mut after = i64::MIN;
    loop {
        let rows = link.ask(&Question::new(
            "SELECT seq, hash, body FROM events WHERE seq > $1 ORDER BY seq LIMIT $2",
            parameters![after, ROWS],
        ))?;
        let Some(last) = rows.last() else {
            return Ok(ControlFlow::Continue(()));
        };
        after = get(last, 0)?;
        for row in &rows {
            let event = EventRow {
                seq: get::<i64>(row, 0)?.cast_unsigned(),
                hash: digest(row, 1)?,
                body: get(row, 2)?,
            };
            if visit(link, event).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

/// Signed heads in the order in which they were kept, some read ahead.
struct Heads {
    waiting: std::collections::VecDeque<(i64, String)>,
    after: i64,
    is_end: bool,
}

impl Heads {
    const fn new() -> Self {
        Self {
            waiting: std::collections::VecDeque::new(),
            after: i64::MIN,
            is_end: false,
        }
    }

    fn fill(&mut self, link: &mut Link) -> Result<(), StoreError> {
        if self.is_end || !self.waiting.is_empty() {
            return Ok(());
        }
        let rows = link.ask(&Question::new(
            "SELECT seq, line, number FROM signed_heads WHERE number > $1 ORDER BY number LIMIT $2",
            parameters![self.after, ROWS],
        ))?;
        match rows.last() {
            Some(last) => self.after = get(last, 2)?,
            None => self.is_end = true,
        }
        for row in &rows {
            self.waiting.push_back((get(row, 0)?, get(row, 1)?));
        }
        Ok(())
    }

    fn visit_before(&mut self, link: &mut Link, seq: i64, visit: Visit<'_>) -> Visited {
        loop {
            self.fill(link)?;
            if self.waiting.front().is_none_or(|(at, _)| *at >= seq) {
                return Ok(ControlFlow::Continue(()));
            }
            let Some((_, line)) = self.waiting.pop_front() else {
                return Ok(ControlFlow::Continue(()));
            };
            if visit(Piece::Signed(line)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

/// Events, each followed by the heads that were signed at it. Heads beyond the last event come last.
fn events_and_heads(link: &mut Link, visit: Visit<'_>) -> Visited {
    let mut heads = Heads::new();
    let mut failed = None;
    let visited = events(link, &mut |link, event| {
        let seq = event.seq.cast_signed();
        match heads.visit_before(link, seq, visit) {
            Ok(ControlFlow::Continue(())) => visit(Piece::Event(event)),
            Ok(stop) => stop,
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None if visited.is_break() => Ok(visited),
        None => heads.visit_before(link, i64::MAX, visit),
    }
}

fn keys(link: &mut Link, visit: Visit<'_>) -> Visited {
    each(
        link,
        concat!(
            "SELECT ",
            key_columns!(),
            " FROM keys k WHERE k.number > $1 ORDER BY k.number LIMIT $2"
        ),
        |row| get(row, 0),
        |row| Ok(Piece::Key(Box::new(full_key(row)?))),
        visit,
    )
}

fn budgets(link: &mut Link, visit: Visit<'_>) -> Visited {
    each(
        link,
        concat!(
            "SELECT ",
            budget_columns!(),
            " FROM budgets b WHERE b.number > $1 ORDER BY b.number LIMIT $2"
        ),
        |row| get(row, 0),
        |row| Ok(Piece::Budget(Box::new(full_budget(row)?))),
        visit,
    )
}

fn requests(link: &mut Link, visit: Visit<'_>) -> Visited {
    each(
        link,
        "SELECT r.id, r.at, r.event, r.subject, coalesce(k.key_id, ''), r.label, r.run_id, r.operation, r.idempotency_key,
                r.client_key, r.reason, r.kind, r.record, r.hold, r.outcome, r.cost, r.amount, r.currency, r.attempts,
                r.replays, r.status, r.object, CASE WHEN r.charge_is_object <> 0 THEN r.object ELSE r.charge END,
                r.vendor_request_id, r.resolution, r.number, r.rate, r.budget
         FROM requests r LEFT JOIN keys k ON k.number = r.subject WHERE r.number > $1 ORDER BY r.number LIMIT $2",
        |row| get(row, 25),
        |row| Ok(Piece::Request(Box::new(request(row)?))),
        visit,
    )
}

fn request(row: &Row) -> Result<RequestPiece, StoreError> {
    Ok(RequestPiece {
        id: command_id(row, 0)?,
        at: get(row, 1)?,
        event: get::<i64>(row, 2)?.cast_unsigned(),
        subject: get(row, 3)?,
        key_id: get(row, 4)?,
        budget: get(row, 27)?,
        label: get(row, 5)?,
        run_id: get(row, 6)?,
        operation: get(row, 7)?,
        idempotency_key: get(row, 8)?,
        client_key: get(row, 9)?,
        reason: get(row, 10)?,
        kind: code(row, 11)?,
        state: State {
            record: code(row, 12)?,
            hold: code(row, 13)?,
        },
        outcome: code_if_any(row, 14)?,
        cost: get::<Option<i64>>(row, 15)?.map(Micros::new),
        amount: minor(row, 16)?,
        attempts: small(row, 18)?,
        replays: get::<i64>(row, 19)?.cast_unsigned(),
        status: small_if_any(row, 20)?,
        object: get(row, 21)?,
        charge: get(row, 22)?,
        vendor_request_id: get(row, 23)?,
        resolution: get::<Option<i64>>(row, 24)?.map(i64::cast_unsigned),
        rate: get::<Option<i64>>(row, 26)?.and_then(rate_of),
    })
}

fn balances(link: &mut Link, visit: Visit<'_>) -> Visited {
    let mut after = (i64::MIN, i64::MIN);
    loop {
        let rows = link.ask(&Question::new(
            "SELECT subject, \"window\", cap, free, held, settled, unknown FROM balances
             WHERE (subject, \"window\") > ($1, $2) ORDER BY subject, \"window\" LIMIT $3",
            parameters![after.0, after.1, ROWS],
        ))?;
        let Some(last) = rows.last() else {
            return Ok(ControlFlow::Continue(()));
        };
        after = (get(last, 0)?, get(last, 1)?);
        for row in &rows {
            let piece = Piece::Balance(BalancePiece {
                subject: get(row, 0)?,
                window: get(row, 1)?,
                parts: parts(row, 2)?,
            });
            if visit(piece).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

/// Rows in the order of their numbers.
fn each(
    link: &mut Link,
    sql: &'static str,
    number: impl Fn(&Row) -> Result<i64, StoreError>,
    piece: impl Fn(&Row) -> Result<Piece, StoreError>,
    visit: Visit<'_>,
) -> Visited {
    let mut after = i64::MIN;
    loop {
        let rows = link.ask(&Question::new(sql, parameters![after, ROWS]))?;
        let Some(last) = rows.last() else {
            return Ok(ControlFlow::Continue(()));
        };
        after = number(last)?;
        for row in &rows {
            if visit(piece(row)?).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}
