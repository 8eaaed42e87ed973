//! Requests, their attempts and their answers.

use keybrake_contract::ids::CommandId;
use keybrake_contract::lifecycle::{HoldState, RecordState, State};
use keybrake_contract::money::Micros;
use keybrake_contract::wire::StoredAnswer;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::codes::{
    Coded as _, Sql, amount, command_id, digest, digest_if_any, micros_if_any, minor, record_key,
};
use crate::model::EntryOutcome;
use crate::store::codes::{rate_code, rate_of};
use crate::store::{
    AttemptRow, AttemptState, Due, HoldChange, HoldRow, Kind, KnownAnswer, NewRequest, ObjectRow,
    PlaceNumber, RequestNumber, StoreError,
};

/// `SELECT` of the columns of [`hold_row`], with this condition.
macro_rules! select_holds {
    ($condition:literal) => {
        concat!(
            "SELECT number, id, digest, at, subject, place, event, kind, record_key, fingerprint, full_fingerprint, ",
            "amount, currency, cost, record, hold, attempts, first_attempt, forwarded_before, shadow, status, object, budget, resolution, rate ",
            "FROM requests WHERE ",
            $condition
        )
    };
}

fn hold_row(row: &Row<'_>) -> rusqlite::Result<HoldRow> {
    Ok(HoldRow {
        number: row.get(0)?,
        id: command_id(row, 1)?,
        digest: digest(row, 2)?,
        at: row.get(3)?,
        key: row.get(4)?,
        place: row.get(5)?,
        event: row.get::<_, i64>(6)?.cast_unsigned(),
        kind: row.get::<_, Sql<Kind>>(7)?.0,
        record_key: record_key(row, 8)?,
        fingerprint: digest_if_any(row, 9)?,
        full_fingerprint: digest_if_any(row, 10)?,
        amount: minor(row, 11)?,
        cost: micros_if_any(row, 13)?,
        state: State {
            record: row.get::<_, Sql<RecordState>>(14)?.0,
            hold: row.get::<_, Sql<HoldState>>(15)?.0,
        },
        attempts: row.get(16)?,
        first_attempt: row.get::<_, Sql<AttemptState>>(17)?.0,
        forwarded_before: row.get(18)?,
        shadow: row.get(19)?,
        status: row.get(20)?,
        object: row.get(21)?,
        budget: row.get(22)?,
        resolution: row.get::<_, Option<i64>>(23)?.map(i64::cast_unsigned),
        rate: row.get::<_, Option<i64>>(24)?.and_then(rate_of),
    })
}

pub fn by_id(connection: &Connection, id: CommandId) -> Result<Option<HoldRow>, StoreError> {
    Ok(connection
        .prepare_cached(select_holds!("id = ?1"))?
        .query_row([id.as_bytes()], hold_row)
        .optional()?)
}

pub fn by_number(
    connection: &Connection,
    number: RequestNumber,
) -> Result<Option<HoldRow>, StoreError> {
    Ok(connection
        .prepare_cached(select_holds!("number = ?1"))?
        .query_row([number], hold_row)
        .optional()?)
}

pub fn open_holds(
    connection: &Connection,
    place: PlaceNumber,
    object: &str,
) -> Result<Vec<HoldRow>, StoreError> {
    // The condition repeats that of the index `requests_open`, so that it is used.
    let holds = connection
        .prepare_cached(select_holds!(
            "object = ?1 AND record = 1 AND hold = 0 AND object IS NOT NULL AND place = ?2 AND kind = 1 ORDER BY number"
        ))?
        .query_map(params![object, place], hold_row)?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(holds)
}

pub fn settled_on(
    connection: &Connection,
    place: PlaceNumber,
    object: &str,
) -> Result<Micros, StoreError> {
    let settled = connection
        .prepare_cached(
            "SELECT coalesce(sum(cost), 0) FROM (
                 SELECT cost FROM requests WHERE object = ?1 AND place = ?2 AND kind = 1 AND hold = 1
                     AND cost > 0 LIMIT 256)",
        )?
        .query_row(params![object, place], |row| row.get(0))?;
    Ok(Micros::new(settled))
}

pub fn object(
    connection: &Connection,
    place: PlaceNumber,
    object: &str,
    payments: &[String],
) -> Result<Option<ObjectRow>, StoreError> {
    let payments = serde_json::Value::from(payments).to_string();
    Ok(connection
        .prepare_cached(
            "SELECT amount, currency FROM (
                 SELECT * FROM (
                     SELECT amount, currency, number FROM requests
                     WHERE object = ?1 AND place = ?2 AND kind = 1 AND record = 1 ORDER BY number DESC LIMIT 256)
                 UNION ALL
                 SELECT * FROM (
                     SELECT amount, currency, number FROM requests
                     WHERE charge = ?1 AND place = ?2 AND kind = 1 AND record = 1
                         AND operation IN (SELECT value FROM json_each(?3)) ORDER BY number DESC LIMIT 256)
             ) ORDER BY amount IS NULL, number DESC LIMIT 1",
        )?
        .query_row(params![object, place, payments], |row| {
            Ok(ObjectRow {
                amount: minor(row, 0)?,
            })
        })
        .optional()?)
}

pub fn add(connection: &Connection, request: &NewRequest<'_>) -> Result<(), StoreError> {
    let is_admitted = matches!(request.kind, Kind::Read | Kind::Write);
    let state = State::ADMITTED;
    let attempts = u32::from(is_admitted);
    let currency = request.amount.map(|minor| minor.currency);
    connection
        .prepare_cached(
            "INSERT OR FAIL INTO requests (
                 number, id, digest, at, subject, previous, place, event, kind, record, hold, outcome, attempts,
                 first_attempt, deadline, cost, amount, currency, forwarded_before, operation, label, run_id, reason,
                 record_key, idempotency_key, client_key, fingerprint, full_fingerprint, budget, rate)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
                     ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30)",
        )?
        .execute(params![
            request.number,
            request.id.as_bytes(),
            request.digest.as_bytes(),
            request.at,
            request.key,
            request.previous,
            request.place,
            request.event.cast_signed(),
            request.kind.code(),
            if is_admitted { state.record } else { RecordState::Released }.code(),
            if is_admitted { state.hold } else { HoldState::Released }.code(),
            is_admitted.then(|| EntryOutcome::InFlight.code()),
            attempts,
            AttemptState::Open.code(),
            request.deadline,
            request.cost.map(Micros::get),
            amount(request.amount),
            currency.as_ref().map(|currency| currency.as_str()),
            request.forwarded_before,
            request.operation,
            request.label,
            request.run_id,
            request.reason,
            request.record_key.map(|key| key.as_bytes()),
            request.idempotency_key,
            request.client_key,
            request.fingerprint.map(|digest| digest.as_bytes()),
            request.full_fingerprint.map(|digest| digest.as_bytes()),
            request.budget,
            rate_code(request.rate),
        ])?;
    Ok(())
}

pub fn change(
    connection: &Connection,
    number: RequestNumber,
    change: &HoldChange<'_>,
) -> Result<(), StoreError> {
    let is_open = change.first_attempt == AttemptState::Open;
    let currency = change.amount.map(|minor| minor.currency);
    let currency = currency.as_ref().map(|currency| currency.as_str());
    let Some(said) = change.said else {
        connection
            .prepare_cached(
                "UPDATE OR FAIL requests SET record = ?2, hold = ?3, outcome = ?4, attempts = ?5, first_attempt = ?6,
                     deadline = iif(?7, deadline, NULL), asked = iif(cost <> ?8, coalesce(asked, cost), asked), cost = ?8, amount = ?9, currency = ?10
                 WHERE number = ?1",
            )?
            .execute(params![
                number,
                change.state.record.code(),
                change.state.hold.code(),
                change.outcome.code(),
                change.attempts,
                change.first_attempt.code(),
                is_open,
                change.cost.map(Micros::get),
                amount(change.amount),
                currency,
            ])?;
        return Ok(());
    };
    connection
        .prepare_cached(
            "UPDATE OR FAIL requests SET record = ?2, hold = ?3, outcome = ?4, attempts = ?5, first_attempt = ?6,
                 deadline = iif(?7, deadline, NULL), asked = iif(cost <> ?8, coalesce(asked, cost), asked), cost = ?8, amount = ?9, currency = ?10,
                 status = ?11, object = ?12, charge = ?13, vendor_request_id = ?14, latency_ms = ?15,
                 charge_is_object = ?16
             WHERE number = ?1",
        )?
        .execute(params![
            number,
            change.state.record.code(),
            change.state.hold.code(),
            change.outcome.code(),
            change.attempts,
            change.first_attempt.code(),
            is_open,
            change.cost.map(Micros::get),
            amount(change.amount),
            currency,
            said.status,
            said.object,
            said.charge.filter(|charge| Some(*charge) != said.object),
            said.vendor_request_id,
            said.latency_ms,
            said.charge.is_some() && said.charge == said.object,
        ])?;
    Ok(())
}

pub fn set_resolution(
    connection: &Connection,
    number: RequestNumber,
    event: u64,
    object: Option<&str>,
    charge: Option<&str>,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE OR FAIL requests SET resolution = ?2 WHERE number = ?1")?
        .execute(params![number, event.cast_signed()])?;
    if object.is_some() {
        connection
            .prepare_cached(
                "UPDATE OR FAIL requests SET object = ?2, charge = ?3, charge_is_object = ?4 WHERE number = ?1",
            )?
            .execute(params![
                number,
                object,
                charge.filter(|charge| Some(*charge) != object),
                charge.is_some() && charge == object,
            ])?;
    }
    Ok(())
}

pub fn later_attempts(
    connection: &Connection,
    number: RequestNumber,
) -> Result<Vec<AttemptRow>, StoreError> {
    let attempts = connection
        .prepare_cached("SELECT attempt, state FROM attempts WHERE request = ?1 ORDER BY attempt")?
        .query_map([number], |row| {
            Ok(AttemptRow {
                attempt: row.get(0)?,
                state: row.get::<_, Sql<AttemptState>>(1)?.0,
            })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(attempts)
}

pub fn add_attempt(
    connection: &Connection,
    number: RequestNumber,
    attempt: u32,
    reserve: CommandId,
    deadline: i64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR FAIL INTO attempts (request, attempt, reserve, state, deadline) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![number, attempt, reserve.as_bytes(), AttemptState::Open.code(), deadline])?;
    Ok(())
}

pub fn end_attempt(
    connection: &Connection,
    number: RequestNumber,
    attempt: u32,
    state: AttemptState,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE OR FAIL attempts SET state = ?3, deadline = NULL WHERE request = ?1 AND attempt = ?2",
        )?
        .execute(params![number, attempt, state.code()])?;
    Ok(())
}

pub fn due(connection: &Connection, now: i64, most: u32) -> Result<Vec<Due>, StoreError> {
    let due = connection
        .prepare_cached(
            "SELECT request, attempt FROM (
                 SELECT number AS request, 1 AS attempt, deadline FROM requests
                 WHERE deadline IS NOT NULL AND deadline <= ?1
                 UNION ALL
                 SELECT request, attempt, deadline FROM attempts WHERE deadline IS NOT NULL AND deadline <= ?1
             ) ORDER BY deadline, request LIMIT ?2",
        )?
        .query_map(params![now, most], |row| {
            Ok(Due {
                number: row.get(0)?,
                attempt: row.get(1)?,
            })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(due)
}

fn stored_answer(row: &Row<'_>, first: usize) -> rusqlite::Result<StoredAnswer> {
    let at = |offset: usize| first.saturating_add(offset);
    Ok(StoredAnswer {
        status: row.get(at(0))?,
        content_type: row.get(at(1))?,
        body: row.get(at(2))?,
        vendor_request_id: row.get(at(3))?,
    })
}

pub fn add_answer(
    connection: &Connection,
    number: RequestNumber,
    answer: &StoredAnswer,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT OR FAIL INTO answers (request, status, content_type, body, vendor_request_id) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (request) DO NOTHING",
        )?
        .execute(params![number, answer.status, answer.content_type, answer.body, answer.vendor_request_id])?;
    Ok(())
}

pub fn answer(
    connection: &Connection,
    number: RequestNumber,
) -> Result<Option<KnownAnswer>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT status, content_type, body, vendor_request_id, is_summary FROM answers WHERE request = ?1")?
        .query_row([number], |row| {
            Ok(KnownAnswer {
                answer: stored_answer(row, 0)?,
                is_summary: row.get(4)?,
            })
        })
        .optional()?)
}

pub fn answers_to_retire(
    connection: &Connection,
    before: i64,
    most: u32,
) -> Result<Vec<(RequestNumber, StoredAnswer)>, StoreError> {
    let answers = connection
        .prepare_cached(
            "SELECT a.request, r.at, a.status, a.content_type, a.body, a.vendor_request_id
             FROM answers a JOIN requests r ON r.number = a.request
             WHERE a.request > coalesce((SELECT value FROM marks WHERE name = 'answers_retired'), 0)
             ORDER BY a.request LIMIT ?1",
        )?
        .query_map([most], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?, stored_answer(row, 2)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    // Requests are numbered in the order of time, so the first young one ends the list.
    Ok(answers
        .into_iter()
        .take_while(|(_, at, _)| *at < before)
        .map(|(number, _, answer)| (number, answer))
        .collect())
}

pub fn retire_answer(
    connection: &Connection,
    number: RequestNumber,
    summary: &StoredAnswer,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE OR FAIL answers SET status = ?2, content_type = ?3, body = ?4, is_summary = 1 WHERE request = ?1",
        )?
        .execute(params![
            number,
            summary.status,
            summary.content_type,
            summary.body
        ])?;
    connection
        .prepare_cached("INSERT OR FAIL INTO marks (name, value) VALUES ('answers_retired', ?1) ON CONFLICT (name) DO UPDATE SET value = ?1")?
        .execute([number])?;
    Ok(())
}
