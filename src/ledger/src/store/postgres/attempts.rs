//! Later attempts, what is overdue, and stored answers.

use keybrake_contract::ids::CommandId;
use keybrake_contract::wire::StoredAnswer;

use super::pending::{self, rare};
use super::rows::{code, get, hold_columns, known_answer, parameters, small, text};
use super::turn::PostgresStore;
use crate::store::codes::Coded as _;
use crate::store::{AttemptRow, AttemptState, Due, KnownAnswer, RequestNumber, StoreError};

impl PostgresStore {
    pub(super) fn later_attempts(
        &mut self,
        number: RequestNumber,
    ) -> Result<Vec<AttemptRow>, StoreError> {
        let rows = self.ask_all_sent(
            "SELECT attempt, state FROM attempts WHERE request = $1 ORDER BY attempt",
            parameters![number],
        )?;
        rows.iter()
            .map(|row| {
                Ok(AttemptRow {
                    attempt: small(row, 0)?,
                    state: code(row, 1)?,
                })
            })
            .collect()
    }

    pub(super) fn attempt_by_reserve(
        &mut self,
        reserve: CommandId,
    ) -> Result<Option<(RequestNumber, u32)>, StoreError> {
        if let Some(known) = self.known.facts.reserves.get(&reserve) {
            return Ok(*known);
        }
        let rows = self.ask_all_sent(
            "SELECT request, attempt FROM attempts WHERE reserve = $1",
            parameters![reserve.as_bytes().to_vec()],
        )?;
        let found = match rows.first() {
            Some(row) => Some((get(row, 0)?, small(row, 1)?)),
            None => None,
        };
        self.known.facts.reserves.insert(reserve, found);
        Ok(found)
    }

    pub(super) fn add_attempt(
        &mut self,
        number: RequestNumber,
        attempt: u32,
        reserve: CommandId,
        deadline: i64,
    ) -> Result<(), StoreError> {
        let facts = &mut self.known.facts;
        facts.keep_counter(reserve);
        facts.reserves.insert(reserve, Some((number, attempt)));
        self.pending.rare.push(rare(
            "INSERT INTO attempts (request, attempt, reserve, state, deadline) VALUES ($1, $2, $3, $4, $5)",
            parameters![
                number,
                i64::from(attempt),
                reserve.as_bytes().to_vec(),
                AttemptState::Open.code(),
                deadline
            ],
            Some(1),
        ));
        Ok(())
    }

    pub(super) fn end_attempt(
        &mut self,
        number: RequestNumber,
        attempt: u32,
        state: AttemptState,
    ) -> Result<(), StoreError> {
        self.pending.rare.push(rare(
            "UPDATE attempts SET state = $3, deadline = NULL WHERE request = $1 AND attempt = $2",
            parameters![number, i64::from(attempt), state.code()],
            None,
        ));
        Ok(())
    }

    /// Reads the holds that are due along with the list: the sweep asks for each of them next.
    pub(super) fn due(&mut self, now: i64, most: u32) -> Result<Vec<Due>, StoreError> {
        let rows = self.ask_all_sent(
            "SELECT request, attempt FROM (
                 SELECT number AS request, 1::bigint AS attempt, deadline FROM requests
                 WHERE deadline IS NOT NULL AND deadline <= $1
                 UNION ALL
                 SELECT request, attempt, deadline FROM attempts WHERE deadline IS NOT NULL AND deadline <= $1
             ) d ORDER BY deadline, request LIMIT $2",
            parameters![now, i64::from(most)],
        )?;
        let due = rows
            .iter()
            .map(|row| {
                Ok(Due {
                    number: get(row, 0)?,
                    attempt: small(row, 1)?,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let numbers: Vec<i64> = due.iter().map(|one| one.number).collect();
        if !numbers.is_empty() {
            let rows = self.ask(
                concat!(
                    "SELECT ",
                    hold_columns!(),
                    " FROM requests q WHERE q.number = ANY($1::bigint[])"
                ),
                parameters![numbers],
            )?;
            self.holds(&rows)?;
        }
        Ok(due)
    }

    pub(super) fn open_attempts(&mut self) -> Result<u64, StoreError> {
        let rows = self.ask_all_sent(
            "SELECT (SELECT count(*) FROM requests WHERE deadline IS NOT NULL)
                  + (SELECT count(*) FROM attempts WHERE deadline IS NOT NULL)",
            Vec::new(),
        )?;
        let count = rows.first().map(|row| get::<i64>(row, 0)).transpose()?;
        Ok(count.unwrap_or_default().cast_unsigned())
    }

    pub(super) fn add_answer(
        &mut self,
        number: RequestNumber,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError> {
        self.pending.add_answer(number, answer);
        // What is there already stays, and is not known here.
        self.known.facts.answers.remove(&number);
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        number: RequestNumber,
    ) -> Result<Option<KnownAnswer>, StoreError> {
        if let Some(known) = self.known.facts.answers.get(&number) {
            return Ok(known.clone());
        }
        let rows = self.ask_all_sent(
            "SELECT status, content_type, body, vendor_request_id, is_summary FROM answers WHERE request = $1",
            parameters![number],
        )?;
        rows.first().map(|row| known_answer(row, 0)).transpose()
    }

    pub(super) fn count_replay(&mut self, number: RequestNumber) -> Result<(), StoreError> {
        let more = self.pending.replays.entry(number).or_default();
        *more = more.saturating_add(1);
        Ok(())
    }

    pub(super) fn answers_to_retire(
        &mut self,
        before: i64,
        most: u32,
    ) -> Result<Vec<(RequestNumber, StoredAnswer)>, StoreError> {
        let rows = self.ask_all_sent(
            "SELECT a.request, q.at, a.status, a.content_type, a.body, a.vendor_request_id, a.is_summary
             FROM answers a JOIN requests q ON q.number = a.request
             WHERE a.request > coalesce((SELECT value FROM marks WHERE name = 'answers_retired'), 0)
             ORDER BY a.request LIMIT $1",
            parameters![i64::from(most)],
        )?;
        let mut answers = Vec::new();
        for row in &rows {
            // Requests are numbered in the order of time, so the first young one ends the list.
            if get::<i64>(row, 1)? >= before {
                break;
            }
            answers.push((get(row, 0)?, known_answer(row, 2)?.answer));
        }
        Ok(answers)
    }

    pub(super) fn retire_answer(
        &mut self,
        number: RequestNumber,
        summary: &StoredAnswer,
    ) -> Result<(), StoreError> {
        self.known.facts.answers.remove(&number);
        self.pending.rare.push(rare(
            "UPDATE answers SET status = $2, content_type = $3, body = $4, is_summary = 1 WHERE request = $1",
            parameters![
                number,
                i64::from(summary.status),
                text(&summary.content_type),
                summary.body.clone().into_bytes()
            ],
            Some(1),
        ));
        self.pending.rare.push(rare(
            "INSERT INTO marks (name, value) VALUES ('answers_retired', $1)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            pending::only(number),
            Some(1),
        ));
        Ok(())
    }
}
