//! What the requests of a period come to, from their own rows.

use keybrake_contract::lifecycle::HoldState;
use keybrake_contract::money::Micros;
use tokio_postgres::Row;

use super::link::Link;
use super::money;
use super::rows::{code, get, parameter};
use crate::book::Parts;
use crate::model::{Line, Tally};
use crate::store::sums::{Sums, added};
use crate::store::{Period, Spender, StoreError};

/// The balances and the requests of a period.
pub fn period(
    link: &mut Link,
    spender: Spender,
    period: &Period,
) -> Result<(Option<Parts>, Tally), StoreError> {
    let (Spender::Key(subject) | Spender::Budget(subject)) = spender;
    let balance = money::joined(link, subject, period.windows)?;
    let (since, before) = period.times;
    let (with, number, from) = money::spent(link, spender, since)?;
    // Of a hold with another cost than it was reserved for, `asked` is what it was reserved for.
    let rows = link.ask_text(
        &format!(
            "{with} SELECT hold, count(*), sum(cost)::bigint, sum(coalesce(asked, cost))::bigint,
                    count(*) FILTER (WHERE cost > asked),
                    coalesce(sum(cost - asked) FILTER (WHERE cost > asked), 0)::bigint,
                    count(*) FILTER (WHERE cost < asked),
                    coalesce(sum(asked - cost) FILTER (WHERE cost < asked), 0)::bigint
             FROM spent WHERE at < $3::bigint AND (cost > 0 OR asked > 0) GROUP BY hold"
        ),
        &[parameter(number), parameter(from), parameter(before)],
    )?;
    let mut tally = Tally::default();
    for row in &rows {
        tally = added(tally, &sums(row)?).ok_or_else(money::overflow)?;
    }
    Ok((balance, tally))
}

fn sums(row: &Row) -> Result<Sums, StoreError> {
    let line = |count: usize, amount: usize| -> Result<Line, StoreError> {
        Ok(Line {
            count: get::<i64>(row, count)?.cast_unsigned(),
            amount: Micros::new(get(row, amount)?),
        })
    };
    Ok(Sums {
        state: code::<HoldState>(row, 0)?,
        cost: line(1, 2)?,
        asked: line(1, 3)?,
        beyond: line(4, 5)?,
        left: line(6, 7)?,
    })
}
