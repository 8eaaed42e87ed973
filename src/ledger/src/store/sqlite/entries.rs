//! Audit entries: each is a row of `requests` with the facts of its event.

use keybrake_contract::ids::CommandId;
use keybrake_contract::money::Micros;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::codes::{Coded as _, Sql, minor};
use super::read::first_since;
use crate::clock::{ceiling_ms, timestamp};
use crate::model::{
    AuditQuery, Entry, EntryOutcome, EntryVerdict, Page, UnknownQuery, UnknownRequest,
};
use crate::store::event_facts::{EventFacts, resolution_told};
use crate::store::paging::{Cursor, Found, page, page_size};
use crate::store::{Kind, ListError, RecordKey, StoreError};

/// Those that moved money first, then those that may have, then the rest.
const RANK: &str = "CASE WHEN r.kind = 1 AND r.record = 1 AND r.hold IN (0, 1) THEN 2
                         WHEN r.kind = 1 AND r.hold IN (0, 3) THEN 1 ELSE 0 END";

const COLUMNS: &str = "r.number, r.id, r.at, k.key_id, r.label, r.run_id, p.vendor, p.account, r.operation,
    r.idempotency_key, r.client_key, r.amount, r.currency, r.cost, r.kind, r.reason, r.outcome, r.status, r.object,
    iif(r.charge_is_object, r.object, r.charge), r.vendor_request_id, r.attempts, r.replays, r.latency_ms, r.alarms, e.body, d.body,
    (SELECT name FROM budgets b WHERE b.number = r.budget)";

/// `CROSS JOIN` keeps the order of the tables: the requests lead.
const JOINS: &str =
    "CROSS JOIN keys k ON k.number = r.subject CROSS JOIN places p ON p.number = r.place
                     LEFT JOIN events e ON e.seq = r.event LEFT JOIN events d ON d.seq = r.resolution";

/// In which order a page comes.
#[derive(Clone, Copy)]
enum Order {
    /// Newest first.
    Newest,
    /// Oldest first.
    Oldest,
    /// Those that moved money first, then newest first.
    Ranked,
}

/// A query as SQL.
struct Question {
    with: String,
    from: String,
    conditions: Vec<String>,
    values: Vec<Value>,
    order: Order,
}

impl Question {
    fn all() -> Self {
        Self {
            with: String::new(),
            from: "requests r".to_owned(),
            conditions: Vec::new(),
            values: Vec::new(),
            order: Order::Newest,
        }
    }

    fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    fn need(&mut self, comparison: &str, value: impl Into<Value>) {
        let value = self.value(value);
        self.conditions.push(format!("{comparison} {value}"));
    }

    /// All requests on record for an idempotency key or mentioning it.
    fn by_idempotency_key(&mut self, key: &str) {
        let mention = RecordKey::mention(key);
        let mut lowest = mention.to_be_bytes().to_vec();
        let mut highest = lowest.clone();
        lowest.resize(24, 0);
        highest.resize(24, u8::MAX);
        let (lowest, highest) = (self.value(lowest), self.value(highest));
        let (mention, key) = (self.value(mention), self.value(key.to_owned()));
        self.conditions.push(format!(
            "r.number IN (SELECT request FROM records WHERE record_key BETWEEN {lowest} AND {highest}
                          UNION SELECT request FROM mentions WHERE mention = {mention})
             AND (r.idempotency_key = {key} OR r.client_key = {key})"
        ));
        self.order = Order::Ranked;
    }

    /// The requests of one key, along their links: newest first, and no further than needed.
    fn by_key(&mut self, key_id: &str, cursor: Option<Cursor>, lowest: i64) {
        let key_id = self.value(key_id.to_owned());
        let lowest = self.value(lowest);
        let start = match cursor {
            None => format!(
                "SELECT s.last FROM keys k JOIN subjects s ON s.number = k.number WHERE k.key_id = {key_id}"
            ),
            Some(cursor) => {
                let number = self.value(cursor.number);
                format!(
                    "SELECT r.previous FROM requests r JOIN keys k ON k.number = r.subject
                     WHERE r.number = {number} AND k.key_id = {key_id}"
                )
            }
        };
        self.with = format!(
            "WITH RECURSIVE walk (number) AS (
                 {start}
                 UNION ALL
                 SELECT r.previous FROM walk w JOIN requests r ON r.number = w.number WHERE r.previous >= {lowest}
             )"
        );
        self.from = "walk w CROSS JOIN requests r ON r.number = w.number".to_owned();
    }

    fn by_object(&mut self, object: &str) {
        let object = self.value(object.to_owned());
        self.conditions.push(format!(
            "r.number IN (SELECT number FROM requests WHERE object = {object}
                          UNION SELECT number FROM requests WHERE charge = {object})"
        ));
    }

    fn by_budget(&mut self, budget: &str) {
        let budget = self.value(budget.to_owned());
        self.conditions.push(format!(
            "r.budget IN (WITH RECURSIVE tree (number) AS (
                 SELECT number FROM budgets WHERE name = {budget}
                 UNION ALL SELECT b.number FROM tree t JOIN budgets b ON b.parent = t.number)
             SELECT number FROM tree)"
        ));
    }

    fn after(&mut self, cursor: Cursor) {
        match self.order {
            Order::Newest => self.need("r.number <", cursor.number),
            Order::Oldest => self.need("r.number >", cursor.number),
            Order::Ranked => {
                let (rank, number) = (self.value(cursor.rank), self.value(cursor.number));
                self.conditions
                    .push(format!("({RANK}, r.number) < ({rank}, {number})"));
            }
        }
    }

    fn sql(&self, limit: usize) -> String {
        let order = match self.order {
            // The walk along a key's links comes in this order by itself; sorting it would read it to its end.
            Order::Newest if !self.with.is_empty() => String::new(),
            Order::Newest => "ORDER BY r.number DESC".to_owned(),
            // Requests are numbered in the order of time; so said, the index of unknown ones serves.
            Order::Oldest => "ORDER BY r.at, r.number".to_owned(),
            Order::Ranked => format!("ORDER BY {RANK} DESC, r.number DESC"),
        };
        format!(
            "{} SELECT {COLUMNS}, {RANK} FROM {} {JOINS} WHERE {} {order} LIMIT {}",
            self.with,
            self.from,
            self.conditions.join(" AND "),
            limit.saturating_add(1)
        )
    }
}

/// A page of entries.
pub fn page_of(connection: &Connection, query: &AuditQuery) -> Result<Page<Entry>, ListError> {
    let question = question(connection, query)?;
    let (found, limit) = all_of(connection, question, query.limit)?;
    Ok(page(found, limit, Found::cursor, |found| found.entry))
}

/// A page of requests whose outcome nobody knows.
pub fn unknown_page(
    connection: &Connection,
    query: &UnknownQuery,
    now: i64,
) -> Result<Page<UnknownRequest>, ListError> {
    let mut question = Question::all();
    question.order = Order::Oldest;
    // As the index `requests_unknown` says it.
    question
        .conditions
        .push("r.hold = 3 AND r.kind = 1".to_owned());
    if let Some(cursor) = &query.cursor {
        question.after(Cursor::parse(cursor)?);
    }
    if let Some(key_id) = &query.key_id {
        question.need("k.key_id =", key_id.clone());
    }
    let (found, limit) = all_of(connection, question, query.limit)?;
    Ok(page(found, limit, Found::cursor, |found| {
        let since = found.entry.time.as_millisecond();
        UnknownRequest {
            age_ms: now.saturating_sub(since).max(0),
            entry: found.entry,
        }
    }))
}

/// The entry with this id.
pub fn by_id(connection: &Connection, id: CommandId) -> Result<Option<Entry>, StoreError> {
    let mut question = Question::all();
    question.need("r.id =", id.as_bytes().to_vec());
    let (mut found, _) = all_of(connection, question, 1)?;
    Ok(found.pop().map(|found| found.entry))
}

/// What was found, one more than wanted if there is more, and how many are wanted.
fn all_of(
    connection: &Connection,
    question: Question,
    limit: u32,
) -> Result<(Vec<Found>, usize), StoreError> {
    let limit = page_size(limit);
    let found = connection
        .prepare_cached(&question.sql(limit))
        .and_then(|mut statement| {
            statement
                .query_map(params_from_iter(question.values), found)?
                .collect::<Result<Vec<_>, _>>()
        })?;
    Ok((found, limit))
}

fn question(connection: &Connection, query: &AuditQuery) -> Result<Question, ListError> {
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
    let lowest = since
        .map(|since| first_since(connection, ceiling_ms(since)))
        .transpose()?
        .unwrap_or(1);
    let mut question = Question::all();
    match (idempotency_key, key_id) {
        (Some(key), _) => question.by_idempotency_key(key),
        (None, Some(key_id)) => question.by_key(key_id, cursor, lowest),
        (None, None) => {}
    }
    question.need("r.number >=", lowest);
    if let Some(until) = until {
        question.need("r.number <", first_since(connection, ceiling_ms(*until))?);
    }
    if let Some(cursor) = cursor {
        question.after(cursor);
    }
    if let Some(budget) = budget {
        question.by_budget(budget);
    }
    if let Some(object) = vendor_object_id {
        question.by_object(object);
    }
    let texts = [
        ("k.key_id =", key_id),
        ("r.label =", label),
        ("r.run_id =", run_id),
        ("p.vendor =", vendor),
        ("r.operation =", operation),
    ];
    for (comparison, text) in texts {
        if let Some(text) = text {
            question.need(comparison, text.clone());
        }
    }
    if let Some(outcome) = outcome {
        question.need("r.outcome =", outcome.code());
    }
    match verdict {
        None => {}
        Some(EntryVerdict::Admitted) => question.conditions.push("r.kind IN (0, 1)".to_owned()),
        Some(EntryVerdict::Refused) => question.conditions.push("r.kind IN (2, 3)".to_owned()),
    }
    Ok(question)
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let verdict = row.get::<_, Sql<Kind>>(14)?.0.verdict();
    let amount = minor(row, 11)?;
    let account: String = row.get(7)?;
    let alarms: Option<String> = row.get(24)?;
    let body: Option<Vec<u8>> = row.get(25)?;
    let resolution: Option<Vec<u8>> = row.get(26)?;
    let facts = EventFacts::read(body.as_deref());
    let entry = Entry {
        id: hex::encode(row.get::<_, [u8; 24]>(1)?),
        time: timestamp(row.get(2)?),
        request_id: facts.request_id,
        key_id: row.get(3)?,
        label: row.get(4)?,
        budget: row.get(27)?,
        run_id: row.get(5)?,
        vendor: row.get(6)?,
        credential: facts.credential,
        vendor_account: Some(account).filter(|account| !account.is_empty()),
        operation: row.get(8)?,
        method: facts.method,
        path: facts.path,
        idempotency_key: row.get(9)?,
        client_idempotency_key: row.get(10)?,
        amount: amount.map(|minor| minor.amount),
        currency: amount.map(|minor| minor.currency),
        cost_usd: row
            .get::<_, Option<i64>>(13)?
            .map(|cost| Micros::new(cost).to_string()),
        usd_per_unit: facts.usd_per_unit,
        verdict,
        reason: row.get(15)?,
        param: facts.param,
        outcome: row
            .get::<_, Option<Sql<EntryOutcome>>>(16)?
            .map(|outcome| outcome.0),
        status: row.get(17)?,
        vendor_object_id: row.get(18)?,
        stripe_charge_id: row.get(19)?,
        vendor_request_id: row.get(20)?,
        attempts: row.get(21)?,
        replays: row.get::<_, i64>(22)?.cast_unsigned(),
        latency_ms: row.get(23)?,
        alarms: alarms
            .map(|names| names.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        resolution: resolution.as_deref().and_then(resolution_told),
        params: facts.params,
    };
    Ok(Found {
        number: row.get(0)?,
        rank: row.get(28)?,
        entry,
    })
}
