//! Balances. A cap is decided here, on what is known under the turn, and written under a condition.

use keybrake_contract::money::Micros;

use super::link::{Link, Question};
use super::pending::{Touched, rare};
use super::read::first_since;
use super::rows::{get, parameter, parameters, parts};
use super::turn::PostgresStore;
use crate::book::{Movement, Parts};
use crate::store::{KeyNumber, Spender, StoreError, Taken};

pub fn overflow() -> StoreError {
    StoreError::new("a sum of money overflows")
}

impl PostgresStore {
    fn parts(&mut self, key: KeyNumber, window: i64) -> Result<Option<Parts>, StoreError> {
        if let Some(known) = self.known.facts.balances.get(&(key, window)) {
            return Ok(*known);
        }
        let rows = self.ask(
            "SELECT cap, free, held, settled, unknown FROM balances WHERE subject = $1 AND \"window\" = $2",
            parameters![key, window],
        )?;
        let found = rows.first().map(|row| parts(row, 0)).transpose()?;
        self.known.facts.balances.insert((key, window), found);
        Ok(found)
    }

    /// Puts a balance as it is now. `taken`: what had to be free for that.
    fn touch(
        &mut self,
        key: KeyNumber,
        window: i64,
        now: Parts,
        taken: Option<Micros>,
    ) -> Result<(), StoreError> {
        let before = self.parts(key, window)?;
        let facts = &mut self.known.facts;
        let is_empty = |(from, end): &(i64, i64)| (*from..*end).contains(&window);
        if before.is_none() && facts.empty.get(&key).is_some_and(is_empty) {
            facts.empty.remove(&key);
        }
        let touched = self
            .pending
            .balances
            .entry((key, window))
            .or_insert(Touched {
                before,
                now,
                needed: None,
            });
        if let (Some(taken), Some(first), Some(before)) = (taken, touched.before, before) {
            // As much as was free at first, less what was free just before, was taken already.
            let already = first.free.checked_sub(before.free).ok_or_else(overflow)?;
            let needed = already.checked_add(taken).ok_or_else(overflow)?;
            touched.needed = touched.needed.max(Some(needed));
        }
        touched.now = now;
        self.known.facts.balances.insert((key, window), Some(now));
        Ok(())
    }

    /// Decided on what is known, which is what the table says for as long as nobody else has the turn; and written only if as much
    /// is free there.
    pub(super) fn take(
        &mut self,
        key: KeyNumber,
        window: i64,
        amount: Micros,
    ) -> Result<Taken, StoreError> {
        let Some(before) = self.parts(key, window)? else {
            return Ok(Taken::NoBalance);
        };
        if before.free < amount {
            return Ok(Taken::TooLittle(before));
        }
        let free = Micros::ZERO.checked_sub(amount).ok_or_else(overflow)?;
        let movement = Movement {
            free,
            held: amount,
            ..Movement::default()
        };
        let after = before.after(movement).ok_or_else(overflow)?;
        self.touch(key, window, after, Some(amount))?;
        Ok(Taken::Taken(after))
    }

    pub(super) fn move_parts(
        &mut self,
        key: KeyNumber,
        window: i64,
        movement: Movement,
    ) -> Result<Option<Parts>, StoreError> {
        let Some(before) = self.parts(key, window)? else {
            return Ok(None);
        };
        let after = before.after(movement).ok_or_else(overflow)?;
        self.touch(key, window, after, None)?;
        Ok(Some(after))
    }

    pub(super) fn balance(
        &mut self,
        key: KeyNumber,
        window: i64,
    ) -> Result<Option<Parts>, StoreError> {
        self.parts(key, window)
    }

    pub(super) fn put_balance(
        &mut self,
        key: KeyNumber,
        window: i64,
        parts: Parts,
    ) -> Result<(), StoreError> {
        self.touch(key, window, parts, None)
    }

    pub(super) fn remove_balance(&mut self, key: KeyNumber, window: i64) -> Result<(), StoreError> {
        self.pending.rare.push(rare(
            "DELETE FROM balances WHERE subject = $1 AND \"window\" = $2",
            parameters![key, window],
            None,
        ));
        self.flush()?;
        self.known.facts.balances.insert((key, window), None);
        Ok(())
    }

    /// What is known to be empty is not asked for again: windows that begin with a rolling one's first minute are, at each reserve.
    pub(super) fn remove_balances(
        &mut self,
        subject: KeyNumber,
        from: i64,
        before: i64,
    ) -> Result<Parts, StoreError> {
        let nothing = Parts::untouched(Micros::ZERO);
        let known = self.known.facts.empty.get(&subject);
        if known.is_some_and(|(first, end)| *first <= from && before <= *end) {
            return Ok(nothing);
        }
        let rows = self.ask_all_sent(
            "DELETE FROM balances WHERE subject = $1 AND \"window\" >= $2 AND \"window\" < $3
             RETURNING cap, free, held, settled, unknown, \"window\"",
            parameters![subject, from, before],
        )?;
        let mut sum = nothing;
        for row in &rows {
            self.known
                .facts
                .balances
                .insert((subject, get(row, 5)?), None);
            sum = sum.joined(parts(row, 0)?).ok_or_else(overflow)?;
        }
        if !rows.is_empty() {
            self.has_written()?;
        }
        self.known.facts.empty.insert(subject, (from, before));
        Ok(sum)
    }

    pub(super) fn spent_since(
        &mut self,
        spender: Spender,
        since: i64,
        cap: Micros,
    ) -> Result<Parts, StoreError> {
        let whole = self.spent_in_steps(spender, since, i64::MAX)?;
        let spent = whole
            .into_iter()
            .try_fold(Parts::untouched(Micros::ZERO), |sum, (_, parts)| {
                sum.joined(parts)
            });
        spent
            .and_then(|parts| parts.recapped(cap))
            .ok_or_else(overflow)
    }

    pub(super) fn spent_in_steps(
        &mut self,
        spender: Spender,
        since: i64,
        step_ms: i64,
    ) -> Result<Vec<(i64, Parts)>, StoreError> {
        self.flush()?;
        let link = self.connection()?;
        let (with, number, from) = spent(link, spender, since)?;
        let rows = link.ask_text(
            &format!(
                "{with} SELECT at / $3::bigint AS step, coalesce(sum(cost) FILTER (WHERE hold = 0), 0)::bigint,
                        coalesce(sum(cost) FILTER (WHERE hold = 1), 0)::bigint,
                        coalesce(sum(cost) FILTER (WHERE hold = 3), 0)::bigint
                 FROM spent GROUP BY 1 ORDER BY 1"
            ),
            &[parameter(number), parameter(from), parameter(step_ms)],
        )?;
        rows.iter()
            .map(|row| {
                let sum = |index| get(row, index).map(Micros::new);
                let parts = Parts::with_spent(Micros::ZERO, sum(1)?, sum(2)?, sum(3)?);
                Ok((get(row, 0)?, parts.ok_or_else(overflow)?))
            })
            .collect()
    }
}

/// Begins a statement with `spent`: the admitted requests of a key since an instant `$2`, along their links from the newest
/// back.
const OF_KEY: &str = "WITH RECURSIVE walk (previous, at, kind, hold, cost, asked) AS (
        SELECT r.previous, r.at, r.kind, r.hold, r.cost, r.asked
        FROM subjects s JOIN requests r ON r.number = s.last
        WHERE s.number = $1::bigint AND r.at >= $2::bigint
        UNION ALL
        SELECT r.previous, r.at, r.kind, r.hold, r.cost, r.asked
        FROM walk w JOIN requests r ON r.number = w.previous
        WHERE r.at >= $2::bigint
    ), spent AS (SELECT * FROM walk WHERE kind IN (0, 1))";

/// The same of a budget and those below it, from the request with number `$2` on.
const OF_BUDGET: &str = "WITH RECURSIVE tree (number) AS (
        SELECT $1::bigint UNION ALL SELECT b.number FROM tree t JOIN budgets b ON b.parent = t.number
    ), spent AS (
        SELECT r.at, r.hold, r.cost, r.asked FROM tree t JOIN requests r ON r.budget = t.number
        WHERE r.budget IS NOT NULL AND r.number >= $2::bigint AND r.kind IN (0, 1)
    )";

/// A statement's beginning that makes `spent`, and its first two parameters.
pub fn spent(
    link: &mut Link,
    spender: Spender,
    since: i64,
) -> Result<(&'static str, KeyNumber, i64), StoreError> {
    Ok(match spender {
        Spender::Key(number) => (OF_KEY, number, since),
        // Requests are numbered in the order of time.
        Spender::Budget(number) => (OF_BUDGET, number, first_since(link, since)?),
    })
}

/// Balances of a subject in a range of windows, added up.
pub fn joined(
    link: &mut Link,
    subject: KeyNumber,
    (from, before): (i64, i64),
) -> Result<Option<Parts>, StoreError> {
    let rows = link.ask(&Question::new(
        "SELECT sum(cap)::bigint, sum(free)::bigint, sum(held)::bigint, sum(settled)::bigint, sum(unknown)::bigint
         FROM balances WHERE subject = $1 AND \"window\" >= $2 AND \"window\" < $3 HAVING count(*) > 0",
        parameters![subject, from, before],
    ))?;
    rows.first().map(|row| parts(row, 0)).transpose()
}
