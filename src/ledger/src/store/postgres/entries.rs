//! Audit entries: each is a row of `requests` with the facts of its event.

use keybrake_contract::ids::CommandId;
use keybrake_contract::money::Micros;
use tokio_postgres::Row;

use super::link::Link;
use super::read::{Conditions, below, first_since};
use super::rows::{code, code_if_any, command_id, get, minor, small, small_if_any, text};
use crate::clock::{ceiling_ms, timestamp};
use crate::model::{AuditQuery, Entry, EntryVerdict, Page, UnknownQuery, UnknownRequest};
use crate::store::codes::Coded as _;
use crate::store::event_facts::{EventFacts, resolution_told};
use crate::store::paging::{Cursor, Found, page, page_size};
use crate::store::{Kind, ListError, RecordKey, StoreError};

/// Those that moved money first, then those that may have, then the rest.
const RANK: &str = "CASE WHEN r.kind = 1 AND r.record = 1 AND r.hold IN (0, 1) THEN 2
                         WHEN r.kind = 1 AND r.hold IN (0, 3) THEN 1 ELSE 0 END";

const COLUMNS: &str = "r.number, r.id, r.at, k.key_id, r.label, r.run_id, p.vendor, p.account, r.operation,
    r.idempotency_key, r.client_key, r.amount, r.currency, r.cost, r.kind, r.reason, r.outcome, r.status, r.object,
    CASE WHEN r.charge_is_object <> 0 THEN r.object ELSE r.charge END, r.vendor_request_id, r.attempts, r.replays,
    r.latency_ms, r.alarms, e.body, d.body,
    (SELECT name FROM budgets b WHERE b.number = r.budget)";

const TABLES: &str =
    "requests r JOIN keys k ON k.number = r.subject JOIN places p ON p.number = r.place
    LEFT JOIN events e ON e.seq = r.event LEFT JOIN events d ON d.seq = r.resolution";

/// A page of entries.
pub fn page_of(link: &mut Link, query: &AuditQuery) -> Result<Page<Entry>, ListError> {
    let order = match query.idempotency_key {
        Some(_) => format!("{RANK} DESC, r.number DESC"),
        None => "r.number DESC".to_owned(),
    };
    let conditions = conditions(link, query)?;
    let (found, limit) = all_of(link, &conditions, &order, query.limit)?;
    Ok(page(found, limit, Found::cursor, |found| found.entry))
}

/// A page of requests whose outcome nobody knows, oldest first.
pub fn unknown_page(
    link: &mut Link,
    query: &UnknownQuery,
    now: i64,
) -> Result<Page<UnknownRequest>, ListError> {
    let mut conditions = Conditions::default();
    // As the index `requests_unknown` says it.
    conditions
        .texts
        .push("r.hold = 3 AND r.kind = 1".to_owned());
    if let Some(cursor) = &query.cursor {
        conditions.need("r.number >", Cursor::parse(cursor)?.number);
    }
    if let Some(key_id) = &query.key_id {
        conditions.need("k.key_id =", text(key_id));
    }
    let (found, limit) = all_of(link, &conditions, "r.at, r.number", query.limit)?;
    Ok(page(found, limit, Found::cursor, |found| {
        let since = found.entry.time.as_millisecond();
        UnknownRequest {
            age_ms: now.saturating_sub(since).max(0),
            entry: found.entry,
        }
    }))
}

/// The entry with this id.
pub fn by_id(link: &mut Link, id: CommandId) -> Result<Option<Entry>, StoreError> {
    let mut conditions = Conditions::default();
    conditions.need("r.id =", id.as_bytes().to_vec());
    let (mut found, _) = all_of(link, &conditions, "r.number", 1)?;
    Ok(found.pop().map(|found| found.entry))
}

/// What was found, one more than wanted if there is more, and how many are wanted.
fn all_of(
    link: &mut Link,
    conditions: &Conditions,
    order: &str,
    limit: u32,
) -> Result<(Vec<Found>, usize), StoreError> {
    let limit = page_size(limit);
    let sql = format!(
        "SELECT {COLUMNS}, ({RANK})::bigint FROM {TABLES} WHERE {} ORDER BY {order} LIMIT {}",
        conditions.joined(),
        limit.saturating_add(1)
    );
    let rows = link.ask_text(&sql, &conditions.values)?;
    let found = rows.iter().map(found).collect::<Result<Vec<_>, _>>()?;
    Ok((found, limit))
}

fn conditions(link: &mut Link, query: &AuditQuery) -> Result<Conditions, ListError> {
    let AuditQuery {
        idempotency_key,
        key_id,
        label,
        budget,
        run_id,
        vendor,
        operation,
        outcome,
        verdict,
        vendor_object_id,
        since,
        until,
        limit: _,
        cursor,
    } = query;
    let cursor = cursor.as_deref().map(Cursor::parse).transpose()?;
    let mut conditions = Conditions::default();
    if let Some(key) = idempotency_key {
        by_idempotency_key(&mut conditions, key);
    }
    if let Some(since) = since {
        conditions.need("r.number >=", first_since(link, ceiling_ms(*since))?);
    }
    if let Some(until) = until {
        conditions.need("r.number <", first_since(link, ceiling_ms(*until))?);
    }
    match cursor {
        Some(cursor) if idempotency_key.is_some() => {
            let rank = conditions.value(cursor.rank);
            let number = conditions.value(cursor.number);
            conditions
                .texts
                .push(format!("(({RANK})::bigint, r.number) < ({rank}, {number})"));
        }
        Some(cursor) => conditions.need("r.number <", cursor.number),
        None => {}
    }
    if let Some(budget) = budget {
        let budget = conditions.value(text(budget));
        conditions.texts.push(below("r.budget", &budget));
    }
    if let Some(object) = vendor_object_id {
        let object = conditions.value(text(object));
        conditions
            .texts
            .push(format!("(r.object = {object} OR r.charge = {object})"));
    }
    if let Some(key_id) = key_id {
        let key_id = conditions.value(text(key_id));
        // So that the index over a key's requests is walked, newest first.
        conditions.texts.push(format!(
            "r.subject = (SELECT number FROM keys WHERE key_id = {key_id})"
        ));
    }
    let texts = [
        ("r.label =", label),
        ("r.run_id =", run_id),
        ("p.vendor =", vendor),
        ("r.operation =", operation),
    ];
    for (comparison, value) in texts {
        if let Some(value) = value {
            conditions.need(comparison, text(value));
        }
    }
    if let Some(outcome) = outcome {
        conditions.need("r.outcome =", outcome.code());
    }
    match verdict {
        None => {}
        Some(EntryVerdict::Admitted) => conditions.texts.push("r.kind IN (0, 1)".to_owned()),
        Some(EntryVerdict::Refused) => conditions.texts.push("r.kind IN (2, 3)".to_owned()),
    }
    Ok(conditions)
}

/// All requests on record for an idempotency key or mentioning it.
fn by_idempotency_key(conditions: &mut Conditions, key: &str) {
    let mention = RecordKey::mention(key);
    let mut lowest = mention.to_be_bytes().to_vec();
    let mut highest = lowest.clone();
    lowest.resize(24, 0);
    highest.resize(24, u8::MAX);
    let lowest = conditions.value(lowest);
    let highest = conditions.value(highest);
    let mention = conditions.value(mention);
    let key = conditions.value(text(key));
    conditions.texts.push(format!(
        "r.number IN (SELECT request FROM records WHERE record_key BETWEEN {lowest} AND {highest}
                      UNION SELECT request FROM mentions WHERE mention = {mention})
         AND (r.idempotency_key = {key} OR r.client_key = {key})"
    ));
}

fn found(row: &Row) -> Result<Found, StoreError> {
    let verdict = code::<Kind>(row, 14)?.verdict();
    let amount = minor(row, 11)?;
    let account: String = get(row, 7)?;
    let alarms: Option<String> = get(row, 24)?;
    let body: Option<Vec<u8>> = get(row, 25)?;
    let resolution: Option<Vec<u8>> = get(row, 26)?;
    let facts = EventFacts::read(body.as_deref());
    let entry = Entry {
        id: command_id(row, 1)?.to_string(),
        time: timestamp(get(row, 2)?),
        request_id: facts.request_id,
        key_id: get(row, 3)?,
        label: get(row, 4)?,
        budget: get(row, 27)?,
        run_id: get(row, 5)?,
        vendor: get(row, 6)?,
        credential: facts.credential,
        vendor_account: Some(account).filter(|account| !account.is_empty()),
        operation: get(row, 8)?,
        method: facts.method,
        path: facts.path,
        idempotency_key: get(row, 9)?,
        client_idempotency_key: get(row, 10)?,
        amount: amount.map(|minor| minor.amount),
        currency: amount.map(|minor| minor.currency),
        cost_usd: get::<Option<i64>>(row, 13)?.map(|cost| Micros::new(cost).to_string()),
        usd_per_unit: facts.usd_per_unit,
        verdict,
        reason: get(row, 15)?,
        param: facts.param,
        outcome: code_if_any(row, 16)?,
        status: small_if_any(row, 17)?,
        vendor_object_id: get(row, 18)?,
        stripe_charge_id: get(row, 19)?,
        vendor_request_id: get(row, 20)?,
        attempts: small(row, 21)?,
        replays: get::<i64>(row, 22)?.cast_unsigned(),
        latency_ms: small_if_any(row, 23)?,
        alarms: alarms
            .map(|names| names.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        resolution: resolution.as_deref().and_then(resolution_told),
        params: facts.params,
    };
    Ok(Found {
        number: get(row, 0)?,
        rank: get(row, 28)?,
        entry,
    })
}
