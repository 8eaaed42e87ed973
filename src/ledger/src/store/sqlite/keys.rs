//! Keys, and the links from a key to its requests.

use keybrake_contract::digest::Digest;
use keybrake_contract::money::Micros;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::codes::{Wrote, digest as digest_at};
use crate::clock::timestamp;
use crate::model::Key;
use crate::store::{Admission, BudgetNumber, FullKey, KeyNumber, RequestNumber, StoreError};

/// The columns of [`full_key`].
pub const COLUMNS: &str = "number, key_id, digest, label, workspace, key_grant, caps, worst_case, created_at, expires_at, revoked_at, metadata, \
    budget, (SELECT name FROM budgets b WHERE b.number = keys.budget), duplicates";

pub fn full_key(row: &Row<'_>) -> rusqlite::Result<FullKey> {
    let json = |index: usize| -> rusqlite::Result<&str> { Ok(row.get_ref(index)?.as_str()?) };
    let bad = |index: usize| {
        move |error: serde_json::Error| {
            rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
        }
    };
    let metadata: Option<String> = row.get(11)?;
    let duplicates: Option<String> = row.get(14)?;
    Ok(FullKey {
        number: row.get(0)?,
        budget: row.get(12)?,
        key: Key {
            key_id: row.get(1)?,
            digest: digest_at(row, 2)?,
            label: row.get(3)?,
            workspace: row.get(4)?,
            grant: serde_json::from_str(json(5)?).map_err(bad(5))?,
            caps: serde_json::from_str(json(6)?).map_err(bad(6))?,
            worst_case: row.get::<_, Option<i64>>(7)?.map(Micros::new),
            created_at: timestamp(row.get(8)?),
            expires_at: timestamp(row.get(9)?),
            revoked_at: row.get::<_, Option<i64>>(10)?.map(timestamp),
            metadata: metadata
                .map(|text| serde_json::from_str(&text))
                .transpose()
                .map_err(bad(11))?,
            budget: row.get(13)?,
            duplicates: duplicates
                .map(|text| serde_json::from_str(&text))
                .transpose()
                .map_err(bad(14))?,
        },
    })
}

pub fn by_digest(connection: &Connection, digest: &Digest) -> Result<Option<FullKey>, StoreError> {
    Ok(connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE digest = ?1"))?
        .query_row([digest.as_bytes()], full_key)
        .optional()?)
}

pub fn by_id(connection: &Connection, key_id: &str) -> Result<Option<FullKey>, StoreError> {
    Ok(connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE key_id = ?1"))?
        .query_row([key_id], full_key)
        .optional()?)
}

pub fn workspace(connection: &Connection, key: KeyNumber) -> Result<Option<String>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT workspace FROM keys WHERE number = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?)
}

pub fn unrevoked_by_label_prefix(
    connection: &Connection,
    prefix: &str,
) -> Result<Vec<FullKey>, StoreError> {
    let keys = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM keys WHERE label >= ?1 AND substr(label, 1, length(?1)) = ?1 AND revoked_at IS NULL"
        ))?
        .query_map([prefix], full_key)?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(keys)
}

pub fn unrevoked_by_budget(
    connection: &Connection,
    budget: BudgetNumber,
) -> Result<Vec<FullKey>, StoreError> {
    let keys = connection
        .prepare_cached(&format!(
            "{TREE} SELECT {COLUMNS} FROM keys WHERE budget IN (SELECT number FROM tree) AND revoked_at IS NULL"
        ))?
        .query_map([budget], full_key)?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(keys)
}

/// Begins a statement with the budgets of the tree under budget `?1`, itself among them.
pub const TREE: &str = "WITH RECURSIVE tree (number) AS (
    SELECT ?1 UNION ALL SELECT b.number FROM tree t JOIN budgets b ON b.parent = t.number)";

pub fn add(
    connection: &Connection,
    key: &Key,
    budget: Option<BudgetNumber>,
) -> Result<KeyNumber, StoreError> {
    connection
        .prepare_cached("INSERT OR FAIL INTO subjects DEFAULT VALUES")?
        .execute([])?;
    let number = connection.last_insert_rowid();
    connection
        .prepare_cached(
            "INSERT OR FAIL INTO keys (number, key_id, digest, label, workspace, vendor, key_grant, caps, worst_case, created_at,
                               expires_at, revoked_at, metadata, budget, duplicates)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            number,
            key.key_id,
            key.digest.as_bytes(),
            key.label,
            key.workspace,
            key.grant.vendor,
            json(&key.grant)?,
            json(&key.caps)?,
            key.worst_case.map(Micros::get),
            key.created_at.as_millisecond(),
            key.expires_at.as_millisecond(),
            key.revoked_at.map(|at| at.as_millisecond()),
            key.metadata.as_ref().map(json).transpose()?,
            budget,
            key.duplicates.as_ref().map(json).transpose()?,
        ])?;
    Ok(number)
}

pub fn change(connection: &Connection, full: &FullKey) -> Result<(), StoreError> {
    let FullKey {
        number,
        budget,
        key,
    } = full;
    connection
        .prepare_cached(
            "UPDATE OR FAIL keys SET label = ?2, key_grant = ?3, caps = ?4, worst_case = ?5, expires_at = ?6, revoked_at = ?7,
                             metadata = ?8, budget = ?9, duplicates = ?10
             WHERE number = ?1",
        )?
        .execute(params![
            number,
            key.label,
            json(&key.grant)?,
            json(&key.caps)?,
            key.worst_case.map(Micros::get),
            key.expires_at.as_millisecond(),
            key.revoked_at.map(|at| at.as_millisecond()),
            key.metadata.as_ref().map(json).transpose()?,
            budget,
            key.duplicates.as_ref().map(json).transpose()?,
        ])?;
    Ok(())
}

/// Makes this the key's latest request and counts it, if there is room.
pub fn count(
    connection: &Connection,
    key: KeyNumber,
    request: RequestNumber,
    admission: Admission,
) -> Result<Wrote, StoreError> {
    let (count, most) = match admission {
        Admission::Refused => (0, i64::MAX),
        Admission::Admitted { most } => (
            1,
            most.map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX)),
        ),
    };
    let changed = connection
        .prepare_cached(
            "UPDATE OR FAIL subjects SET previous = last, last = ?2, admitted = admitted + ?3
             WHERE number = ?1 AND admitted < ?4",
        )?
        .execute(params![key, request, count, most])?;
    Ok(Wrote::rows(changed))
}

/// The key's request before the latest one.
pub fn previous(
    connection: &Connection,
    key: KeyNumber,
) -> Result<Option<RequestNumber>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT previous FROM subjects WHERE number = ?1")?
        .query_row([key], |row| row.get(0))?)
}

pub fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::new(error.to_string()))
}
