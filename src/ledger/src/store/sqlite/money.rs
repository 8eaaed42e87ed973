//! Balances. A cap is decided here, by one conditional write.

use keybrake_contract::lifecycle::HoldState;
use keybrake_contract::money::Micros;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::codes::{Sql, Wrote, micros};
use crate::book::{Movement, Parts};
use crate::store::{KeyNumber, StoreError};

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

/// Walks the requests of a key from the newest back to `since`.
pub fn spent_since(
    connection: &Connection,
    subject: KeyNumber,
    since: i64,
    cap: Micros,
) -> Result<Parts, StoreError> {
    let mut statement = connection.prepare_cached(
        "WITH RECURSIVE walk (previous, at, kind, hold, cost) AS (
             SELECT r.previous, r.at, r.kind, r.hold, r.cost
             FROM subjects s JOIN requests r ON r.number = s.last
             WHERE s.number = ?1 AND r.at >= ?2
             UNION ALL
             SELECT r.previous, r.at, r.kind, r.hold, r.cost
             FROM walk w JOIN requests r ON r.number = w.previous
             WHERE r.at >= ?2
         )
         SELECT hold, sum(cost) FROM walk WHERE kind IN (0, 1) AND cost IS NOT NULL GROUP BY hold",
    )?;
    let sums = statement
        .query_map(params![subject, since], |row| {
            Ok((row.get::<_, Sql<HoldState>>(0)?.0, micros(row, 1)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let sum = |wanted: HoldState| {
        sums.iter()
            .find(|(state, _)| *state == wanted)
            .map_or(Micros::ZERO, |(_, sum)| *sum)
    };
    Parts::with_spent(
        cap,
        sum(HoldState::Held),
        sum(HoldState::Settled),
        sum(HoldState::Unknown),
    )
    .ok_or_else(|| StoreError("the sum of a key's requests overflows".to_owned()))
}
