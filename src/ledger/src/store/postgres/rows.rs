//! Values to and from columns.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::lifecycle::State;
use keybrake_contract::money::{Currency, Micros, Minor};
use keybrake_contract::wire::StoredAnswer;
use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;

use super::link::Parameter;
use crate::book::Parts;
use crate::clock::timestamp;
use crate::model::Key;
use crate::store::codes::{Coded, rate_of};
use crate::store::{AttemptState, FullKey, HoldRow, KnownAnswer, RecordKey, StoreError};

/// Reads a column.
pub fn get<T: FromSqlOwned>(row: &Row, index: usize) -> Result<T, StoreError> {
    row.try_get(index)
        .map_err(|error| StoreError::new(format!("column {index}: {error}")))
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<[u8; N], StoreError> {
    <[u8; N]>::try_from(bytes).map_err(|_| StoreError::new("a column has the wrong length"))
}

pub fn digest(row: &Row, index: usize) -> Result<Digest, StoreError> {
    sized(&get::<Vec<u8>>(row, index)?).map(Digest::from_bytes)
}

fn digest_if_any(row: &Row, index: usize) -> Result<Option<Digest>, StoreError> {
    get::<Option<Vec<u8>>>(row, index)?
        .map(|bytes| sized(&bytes).map(Digest::from_bytes))
        .transpose()
}

pub fn command_id(row: &Row, index: usize) -> Result<CommandId, StoreError> {
    sized(&get::<Vec<u8>>(row, index)?).map(CommandId::from_bytes)
}

pub fn record_key(row: &Row, index: usize) -> Result<RecordKey, StoreError> {
    sized(&get::<Vec<u8>>(row, index)?).map(RecordKey::from_bytes)
}

fn record_key_if_any(row: &Row, index: usize) -> Result<Option<RecordKey>, StoreError> {
    get::<Option<Vec<u8>>>(row, index)?
        .map(|bytes| sized(&bytes).map(RecordKey::from_bytes))
        .transpose()
}

pub fn code<T: Coded>(row: &Row, index: usize) -> Result<T, StoreError> {
    T::from_code(get(row, index)?).ok_or_else(|| StoreError::new("a column has an unknown code"))
}

pub fn code_if_any<T: Coded>(row: &Row, index: usize) -> Result<Option<T>, StoreError> {
    Ok(get::<Option<i64>>(row, index)?.and_then(T::from_code))
}

/// A number that was written from a smaller type.
pub fn small<T: TryFrom<i64>>(row: &Row, index: usize) -> Result<T, StoreError> {
    T::try_from(get(row, index)?).map_err(|_| StoreError::new("a column is out of range"))
}

pub fn small_if_any<T: TryFrom<i64>>(row: &Row, index: usize) -> Result<Option<T>, StoreError> {
    Ok(get::<Option<i64>>(row, index)?.and_then(|value| T::try_from(value).ok()))
}

/// An amount and, in the column after it, its currency.
pub fn minor(row: &Row, index: usize) -> Result<Option<Minor>, StoreError> {
    let amount: Option<i64> = get(row, index)?;
    let currency: Option<String> = get(row, index.saturating_add(1))?;
    let currency = currency.and_then(|text| Currency::parse(&text).ok());
    Ok(amount.zip(currency).map(|(amount, currency)| Minor {
        amount: amount.cast_unsigned(),
        currency,
    }))
}

/// Cap, free, held, settled, unknown, from this column on.
pub fn parts(row: &Row, first: usize) -> Result<Parts, StoreError> {
    let at = |offset: usize| get(row, first.saturating_add(offset)).map(Micros::new);
    Ok(Parts {
        cap: at(0)?,
        free: at(1)?,
        held: at(2)?,
        settled: at(3)?,
        unknown: at(4)?,
    })
}

/// The columns of [`hold_row`] of a table `q`.
macro_rules! hold_columns {
    () => {
        "q.number, q.id, q.digest, q.at, q.subject, q.place, q.event, q.kind, q.record_key, q.fingerprint, \
         q.full_fingerprint, q.amount, q.currency, q.cost, q.record, q.hold, q.attempts, q.first_attempt, \
         q.forwarded_before, q.shadow, q.status, q.object, q.budget, q.resolution, \
         q.rate"
    };
}
pub(super) use hold_columns;

/// How many they are: what a question asks besides stands after them.
pub(super) const HOLD_COLUMNS: usize = 25;

pub fn hold_row(row: &Row) -> Result<HoldRow, StoreError> {
    Ok(HoldRow {
        number: get(row, 0)?,
        id: command_id(row, 1)?,
        digest: digest(row, 2)?,
        at: get(row, 3)?,
        key: get(row, 4)?,
        place: get(row, 5)?,
        event: get::<i64>(row, 6)?.cast_unsigned(),
        kind: code(row, 7)?,
        record_key: record_key_if_any(row, 8)?,
        fingerprint: digest_if_any(row, 9)?,
        full_fingerprint: digest_if_any(row, 10)?,
        amount: minor(row, 11)?,
        cost: get::<Option<i64>>(row, 13)?.map(Micros::new),
        state: State {
            record: code(row, 14)?,
            hold: code(row, 15)?,
        },
        attempts: small(row, 16)?,
        first_attempt: code::<AttemptState>(row, 17)?,
        forwarded_before: get::<i64>(row, 18)? != 0,
        shadow: get(row, 19)?,
        status: small_if_any(row, 20)?,
        object: get(row, 21)?,
        budget: get(row, 22)?,
        resolution: get::<Option<i64>>(row, 23)?.map(i64::cast_unsigned),
        rate: get::<Option<i64>>(row, 24)?.and_then(rate_of),
    })
}

/// A value that stands as JSON.
pub fn json<T: serde::de::DeserializeOwned>(row: &Row, index: usize) -> Result<T, StoreError> {
    serde_json::from_str(&get::<String>(row, index)?)
        .map_err(|error| StoreError::new(error.to_string()))
}

/// One that may be missing.
pub fn json_if_any<T: serde::de::DeserializeOwned>(
    row: &Row,
    index: usize,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = get(row, index)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| StoreError::new(error.to_string()))
}

/// The columns of [`full_key`] of a table `k`.
macro_rules! key_columns {
    () => {
        "k.number, k.key_id, k.digest, k.label, k.workspace, k.key_grant, k.caps, k.worst_case, k.created_at, \
         k.expires_at, k.revoked_at, k.metadata, k.budget, \
         (SELECT name FROM budgets b WHERE b.number = k.budget), k.duplicates"
    };
}
pub(super) use key_columns;

pub fn full_key(row: &Row) -> Result<FullKey, StoreError> {
    Ok(FullKey {
        number: get(row, 0)?,
        budget: get(row, 12)?,
        key: Key {
            key_id: get(row, 1)?,
            digest: digest(row, 2)?,
            label: get(row, 3)?,
            workspace: get(row, 4)?,
            grant: json(row, 5)?,
            caps: json(row, 6)?,
            worst_case: get::<Option<i64>>(row, 7)?.map(Micros::new),
            created_at: timestamp(get(row, 8)?),
            expires_at: timestamp(get(row, 9)?),
            revoked_at: get::<Option<i64>>(row, 10)?.map(timestamp),
            metadata: json_if_any(row, 11)?,
            budget: get(row, 13)?,
            duplicates: json_if_any(row, 14)?,
        },
    })
}

/// Status, content type, body, the vendor's request id, whether it is a summary, from this column on.
pub fn known_answer(row: &Row, first: usize) -> Result<KnownAnswer, StoreError> {
    let at = |offset: usize| first.saturating_add(offset);
    Ok(KnownAnswer {
        answer: StoredAnswer {
            status: small(row, at(0))?,
            content_type: get(row, at(1))?,
            body: String::from_utf8_lossy(&get::<Vec<u8>>(row, at(2))?).into_owned(),
            vendor_request_id: get(row, at(3))?,
        },
        is_summary: get::<i64>(row, at(4))? != 0,
    })
}

/// A text for a column. A column cannot hold U+0000; it is kept as U+FFFD, so that an odd header never costs an outcome.
pub fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

pub fn text_if_any(value: Option<&str>) -> Option<String> {
    value.map(text)
}

/// A parameter.
pub fn parameter<T: tokio_postgres::types::ToSql + Sync + Send + 'static>(value: T) -> Parameter {
    Box::new(value)
}

/// Parameters of a statement, one after the other.
macro_rules! parameters {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::postgres::rows::parameter($value)),*] };
}
pub(super) use parameters;
