//! Purchases that rules about equal ones still know.

use keybrake_contract::digest::Digest;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::{KeyNumber, Purchase, StoreError};

pub fn latest(
    connection: &Connection,
    subject: KeyNumber,
    digest: &Digest,
) -> Result<Option<Purchase>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT request, at FROM purchases WHERE subject = ?1 AND digest = ?2")?
        .query_row(params![subject, digest.as_bytes()], |row| {
            Ok(Purchase {
                request: row.get(0)?,
                at: row.get(1)?,
            })
        })
        .optional()?)
}

pub fn set(
    connection: &Connection,
    subject: KeyNumber,
    digest: &Digest,
    purchase: Purchase,
    until: i64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT OR FAIL INTO purchases (subject, digest, request, at, until) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (subject, digest) DO UPDATE SET request = ?3, at = ?4, until = ?5",
        )?
        .execute(params![
            subject,
            digest.as_bytes(),
            purchase.request,
            purchase.at,
            until
        ])?;
    Ok(())
}

pub fn prune(connection: &Connection, now: i64, most: u32) -> Result<u32, StoreError> {
    let gone = connection
        .prepare_cached(
            "DELETE FROM purchases WHERE (subject, digest) IN
                 (SELECT subject, digest FROM purchases WHERE until <= ?1 ORDER BY until LIMIT ?2)",
        )?
        .execute(params![now, most])?;
    Ok(u32::try_from(gone).unwrap_or(u32::MAX))
}
