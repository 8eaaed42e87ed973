//! What the requests of a period come to, from their own rows.

use keybrake_contract::lifecycle::HoldState;
use rusqlite::{Connection, params};

use super::codes::{Sql, micros};
use super::money;
use crate::book::Parts;
use crate::model::{Line, Tally};
use crate::store::sums::{Sums, added};
use crate::store::{Period, Spender, StoreError};

/// The balances and the requests of a period.
pub fn period(
    connection: &Connection,
    spender: Spender,
    period: &Period,
) -> Result<(Option<Parts>, Tally), StoreError> {
    let (Spender::Key(subject) | Spender::Budget(subject)) = spender;
    let balance = money::joined(connection, subject, period.windows)?;
    let (since, before) = period.times;
    let (with, number, from) = money::spent(connection, spender, since)?;
    // Of a hold with another cost than it was reserved for, `asked` is what it was reserved for.
    let sums = connection
        .prepare_cached(&format!(
            "{with} SELECT hold, count(*), sum(cost), sum(coalesce(asked, cost)),
                    count(*) FILTER (WHERE cost > asked), coalesce(sum(cost - asked) FILTER (WHERE cost > asked), 0),
                    count(*) FILTER (WHERE cost < asked), coalesce(sum(asked - cost) FILTER (WHERE cost < asked), 0)
             FROM spent WHERE at < ?3 AND (cost > 0 OR asked > 0) GROUP BY hold"
        ))?
        .query_map(params![number, from, before], |row| {
            let line = |count: usize, amount: usize| -> rusqlite::Result<Line> {
                Ok(Line {
                    count: row.get::<_, i64>(count)?.cast_unsigned(),
                    amount: micros(row, amount)?,
                })
            };
            Ok(Sums {
                state: row.get::<_, Sql<HoldState>>(0)?.0,
                cost: line(1, 2)?,
                asked: line(1, 3)?,
                beyond: line(4, 5)?,
                left: line(6, 7)?,
            })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let tally = sums
        .iter()
        .try_fold(Tally::default(), added)
        .ok_or_else(money::overflow)?;
    Ok((balance, tally))
}
