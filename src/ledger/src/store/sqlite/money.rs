//! Balances. A cap is decided here, by one conditional write.

use keybrake_contract::money::Micros;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::codes::{Wrote, micros};
use super::read::first_since;
use crate::book::{Movement, Parts};
use crate::store::{KeyNumber, Spender, StoreError};

fn parts(row: &Row<'_>) -> rusqlite::Result<Parts> {
    Ok(Parts {
        cap: micros(row, 0)?,
        free: micros(row, 1)?,
        held: micros(row, 2)?,
        settled: micros(row, 3)?,
        unknown: micros(row, 4)?,
    })
}

pub fn balance(
    connection: &Connection,
    subject: KeyNumber,
    window: i64,
) -> rusqlite::Result<Option<Parts>> {
    connection
        .prepare_cached("SELECT cap, free, held, settled, unknown FROM balances WHERE subject = ?1 AND window = ?2")?
        .query_row(params![subject, window], parts)
        .optional()
}

/// Takes it if enough is free. (`RETURNING` would build a temporary table each time.)
pub fn take(
    connection: &Connection,
    subject: KeyNumber,
    window: i64,
    amount: Micros,
) -> Result<Wrote, StoreError> {
    let changed = connection
        .prepare_cached(
            "UPDATE OR FAIL balances SET free = free - ?3, held = held + ?3
             WHERE subject = ?1 AND window = ?2 AND free >= ?3",
        )?
        .execute(params![subject, window, amount.get()])?;
    Ok(Wrote::rows(changed))
}

/// Moves money, if there is such a balance.
pub fn move_parts(
    connection: &Connection,
    subject: KeyNumber,
    window: i64,
    movement: Movement,
) -> Result<Wrote, StoreError> {
    let changed = connection
        .prepare_cached(
            "UPDATE OR FAIL balances SET free = free + ?3, held = held + ?4, settled = settled + ?5, unknown = unknown + ?6
             WHERE subject = ?1 AND window = ?2",
        )?
        .execute(params![
            subject,
            window,
            movement.free.get(),
            movement.held.get(),
            movement.settled.get(),
            movement.unknown.get()
        ])?;
    Ok(Wrote::rows(changed))
}

pub fn put(
    connection: &Connection,
    subject: KeyNumber,
    window: i64,
    parts: Parts,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT OR FAIL INTO balances (subject, window, cap, free, held, settled, unknown) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (subject, window) DO UPDATE SET cap = ?3, free = ?4, held = ?5, settled = ?6, unknown = ?7",
        )?
        .execute(params![
            subject,
            window,
            parts.cap.get(),
            parts.free.get(),
            parts.held.get(),
            parts.settled.get(),
            parts.unknown.get()
        ])?;
    Ok(())
}

/// Balances of a subject in a range of windows, added up.
pub fn joined(
    connection: &Connection,
    subject: KeyNumber,
    (from, before): (i64, i64),
) -> rusqlite::Result<Option<Parts>> {
    connection
        .prepare_cached(
            "SELECT sum(cap), sum(free), sum(held), sum(settled), sum(unknown) FROM balances
             WHERE subject = ?1 AND window >= ?2 AND window < ?3 HAVING count(*) > 0",
        )?
        .query_row(params![subject, from, before], parts)
        .optional()
}

/// Removes the balances of a subject in a range of windows, and answers them.
pub fn remove(
    connection: &Connection,
    subject: KeyNumber,
    from: i64,
    before: i64,
) -> Result<Vec<(i64, Parts)>, StoreError> {
    let removed = connection
        .prepare_cached(
            "DELETE FROM balances WHERE subject = ?1 AND window >= ?2 AND window < ?3
             RETURNING cap, free, held, settled, unknown, window",
        )?
        .query_map(params![subject, from, before], |row| {
            Ok((row.get(5)?, parts(row)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(removed)
}

/// Begins a statement with `spent`: the admitted requests of a key since an instant `?2`, along their links from the newest
/// back.
const OF_KEY: &str = "WITH RECURSIVE walk (previous, at, kind, hold, cost, asked) AS (
        SELECT r.previous, r.at, r.kind, r.hold, r.cost, r.asked
        FROM subjects s JOIN requests r ON r.number = s.last
        WHERE s.number = ?1 AND r.at >= ?2
        UNION ALL
        SELECT r.previous, r.at, r.kind, r.hold, r.cost, r.asked
        FROM walk w JOIN requests r ON r.number = w.previous
        WHERE r.at >= ?2
    ), spent AS (SELECT * FROM walk WHERE kind IN (0, 1))";

/// The same of a budget and those below it, from the request with number `?2` on.
const OF_BUDGET: &str = "WITH RECURSIVE tree (number) AS (
        SELECT ?1 UNION ALL SELECT b.number FROM tree t JOIN budgets b ON b.parent = t.number
    ), spent AS (
        SELECT r.at, r.hold, r.cost, r.asked FROM tree t CROSS JOIN requests r ON r.budget = t.number
        WHERE r.budget IS NOT NULL AND r.number >= ?2 AND r.kind IN (0, 1)
    )";

/// A statement's beginning that makes `spent`, and its first two parameters.
pub fn spent(
    connection: &Connection,
    spender: Spender,
    since: i64,
) -> Result<(&'static str, KeyNumber, i64), StoreError> {
    Ok(match spender {
        Spender::Key(number) => (OF_KEY, number, since),
        // Requests are numbered in the order of time.
        Spender::Budget(number) => (OF_BUDGET, number, first_since(connection, since)?),
    })
}

pub fn spent_since(
    connection: &Connection,
    spender: Spender,
    since: i64,
    cap: Micros,
) -> Result<Parts, StoreError> {
    let whole = spent_in_steps(connection, spender, since, i64::MAX)?;
    let spent = whole
        .into_iter()
        .try_fold(Parts::untouched(Micros::ZERO), |sum, (_, parts)| {
            sum.joined(parts)
        });
    spent
        .and_then(|parts| parts.recapped(cap))
        .ok_or_else(overflow)
}

pub fn spent_in_steps(
    connection: &Connection,
    spender: Spender,
    since: i64,
    step_ms: i64,
) -> Result<Vec<(i64, Parts)>, StoreError> {
    let (with, number, from) = spent(connection, spender, since)?;
    let mut statement = connection.prepare_cached(&format!(
        "{with} SELECT at / ?3 AS step, sum(cost) FILTER (WHERE hold = 0), sum(cost) FILTER (WHERE hold = 1),
                sum(cost) FILTER (WHERE hold = 3)
         FROM spent GROUP BY step ORDER BY step"
    ))?;
    let sums = statement
        .query_map(params![number, from, step_ms], |row| {
            let sum = |index: usize| -> rusqlite::Result<Micros> {
                Ok(Micros::new(row.get::<_, Option<i64>>(index)?.unwrap_or(0)))
            };
            Ok((row.get::<_, i64>(0)?, sum(1)?, sum(2)?, sum(3)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    sums.into_iter()
        .map(|(step, held, settled, unknown)| {
            let parts = Parts::with_spent(Micros::ZERO, held, settled, unknown);
            Ok((step, parts.ok_or_else(overflow)?))
        })
        .collect()
}

pub fn overflow() -> StoreError {
    StoreError::new("a sum of money overflows".to_owned())
}
