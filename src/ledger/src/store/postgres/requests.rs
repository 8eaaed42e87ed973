//! Requests, their records, and the objects that they are about.

use std::collections::HashMap;

use keybrake_contract::ids::CommandId;
use keybrake_contract::money::Micros;

use super::known::Facts;
use super::link::Question;
use super::pending::{rare, record_bytes};
use super::rows::{get, hold_columns, hold_row, minor, parameters, text};
use super::turn::PostgresStore;
use crate::store::{
    HoldChange, HoldRow, Kind, NewRequest, ObjectRow, PlaceNumber, RecordKey, RequestNumber,
    StoreError,
};

impl PostgresStore {
    pub(super) fn holds(
        &mut self,
        rows: &[tokio_postgres::Row],
    ) -> Result<Vec<HoldRow>, StoreError> {
        let mut holds = Vec::with_capacity(rows.len());
        for row in rows {
            let hold = hold_row(row)?;
            self.known.facts.put_hold(hold.clone());
            holds.push(hold);
        }
        Ok(holds)
    }

    fn known_hold(&self, number: RequestNumber) -> Option<HoldRow> {
        self.known.facts.holds.get(&number).cloned()
    }

    pub(super) fn next_request(&mut self) -> Result<RequestNumber, StoreError> {
        let turn = self.turn()?;
        let number = turn.next_request;
        turn.next_request = number.saturating_add(1);
        Ok(number)
    }

    pub(super) fn add_request(&mut self, request: &NewRequest<'_>) -> Result<(), StoreError> {
        self.pending.add_request(request);
        let facts = &mut self.known.facts;
        facts.keep_counter(request.id);
        if matches!(request.kind, Kind::Read | Kind::Write) {
            facts.put_hold(HoldRow::admitted(request));
        } else {
            // Only asked for again when the command is repeated.
            facts.by_id.remove(&request.id);
        }
        Ok(())
    }

    pub(super) fn hold_by_id(&mut self, id: CommandId) -> Result<Option<HoldRow>, StoreError> {
        if let Some(known) = self.known.facts.by_id.get(&id) {
            return match known {
                Some(number) => self.hold(*number),
                None => Ok(None),
            };
        }
        let rows = self.ask_all_sent(
            concat!(
                "SELECT ",
                hold_columns!(),
                " FROM requests q WHERE q.id = $1"
            ),
            parameters![id.as_bytes().to_vec()],
        )?;
        let found = self.holds(&rows)?.pop();
        if found.is_none() {
            self.known.facts.by_id.insert(id, None);
        }
        Ok(found)
    }

    pub(super) fn hold(&mut self, number: RequestNumber) -> Result<Option<HoldRow>, StoreError> {
        if let Some(row) = self.known_hold(number) {
            return Ok(Some(row));
        }
        let rows = self.ask_all_sent(
            concat!(
                "SELECT ",
                hold_columns!(),
                " FROM requests q WHERE q.number = $1"
            ),
            parameters![number],
        )?;
        Ok(self.holds(&rows)?.pop())
    }

    pub(super) fn change_hold(
        &mut self,
        number: RequestNumber,
        change: &HoldChange<'_>,
    ) -> Result<(), StoreError> {
        self.pending.change(number, change);
        if let Some(mut row) = self.known_hold(number) {
            row.state = change.state;
            row.cost = change.cost;
            row.amount = change.amount;
            row.attempts = change.attempts;
            row.first_attempt = change.first_attempt;
            if let Some(said) = change.said {
                if let Some(object) = &row.object {
                    // It may be another object now: it is asked for again.
                    self.known.facts.forget_object(object);
                }
                row.status = said.status;
                row.object = said.object.map(text);
            }
            self.known.facts.change_hold(row);
        } else {
            self.known.facts.forget_objects();
        }
        Ok(())
    }

    pub(super) fn set_shadow(
        &mut self,
        number: RequestNumber,
        shadow: RequestNumber,
    ) -> Result<(), StoreError> {
        if let Some(row) = self.known.facts.holds.get_mut(&number) {
            row.shadow = Some(shadow);
        }
        self.pending.rare.push(rare(
            "UPDATE requests SET shadow = $2 WHERE number = $1",
            parameters![number, shadow],
            Some(1),
        ));
        Ok(())
    }

    pub(super) fn set_resolution(
        &mut self,
        number: RequestNumber,
        event: u64,
        object: Option<&str>,
        charge: Option<&str>,
    ) -> Result<(), StoreError> {
        self.pending.rare.push(rare(
            "UPDATE requests SET resolution = $2 WHERE number = $1",
            parameters![number, event.cast_signed()],
            Some(1),
        ));
        if let Some(row) = self.known.facts.holds.get_mut(&number) {
            row.resolution = Some(event);
        }
        let Some(object) = object else {
            return Ok(());
        };
        self.pending.rare.push(rare(
            "UPDATE requests SET object = $2, charge = $3, charge_is_object = $4 WHERE number = $1",
            parameters![
                number,
                text(object),
                charge.filter(|charge| *charge != object).map(text),
                i64::from(charge == Some(object))
            ],
            Some(1),
        ));
        // The hold and the open holds of its object are asked for again, after all of it was sent.
        self.known.facts.forget_hold(number);
        self.flush()
    }

    pub(super) fn add_alarm(
        &mut self,
        number: RequestNumber,
        alarm: &str,
    ) -> Result<(), StoreError> {
        self.pending.rare.push(rare(
            "UPDATE requests SET alarms = coalesce(alarms || ',', '') || $2::text WHERE number = $1",
            parameters![number, text(alarm)],
            Some(1),
        ));
        Ok(())
    }

    pub(super) fn record(&mut self, key: &RecordKey) -> Result<Option<RequestNumber>, StoreError> {
        if let Some(known) = self.known.facts.records.get(key) {
            return Ok(*known);
        }
        let rows = self.ask(
            "SELECT request FROM records WHERE record_key = $1",
            parameters![key.as_bytes().to_vec()],
        )?;
        let found = rows.first().map(|row| get(row, 0)).transpose()?;
        self.known.facts.records.insert(*key, found);
        Ok(found)
    }

    pub(super) fn set_record(
        &mut self,
        key: &RecordKey,
        number: RequestNumber,
    ) -> Result<(), StoreError> {
        self.known.facts.records.insert(*key, Some(number));
        self.pending.records.insert(record_bytes(key), number);
        Ok(())
    }

    pub(super) fn add_mention(
        &mut self,
        mention: i64,
        number: RequestNumber,
    ) -> Result<(), StoreError> {
        self.pending.mentions.push((mention, number));
        Ok(())
    }

    pub(super) fn object(
        &mut self,
        place: PlaceNumber,
        object: &str,
        payments: &[String],
    ) -> Result<Option<ObjectRow>, StoreError> {
        let rows = self.ask_all_sent(
            "SELECT amount, currency FROM (
                 (SELECT amount, currency, number FROM requests
                  WHERE object = $1 AND place = $2 AND kind = 1 AND record = 1 ORDER BY number DESC LIMIT 256)
                 UNION ALL
                 (SELECT amount, currency, number FROM requests
                  WHERE charge = $1 AND place = $2 AND kind = 1 AND record = 1 AND operation = ANY($3::text[])
                  ORDER BY number DESC LIMIT 256)
             ) o ORDER BY CASE WHEN amount IS NULL THEN 1 ELSE 0 END, number DESC LIMIT 1",
            parameters![text(object), place, payments.to_vec()],
        )?;
        rows.first()
            .map(|row| {
                Ok(ObjectRow {
                    amount: minor(row, 0)?,
                })
            })
            .transpose()
    }

    pub(super) fn open_holds(
        &mut self,
        place: PlaceNumber,
        object: &str,
    ) -> Result<Vec<HoldRow>, StoreError> {
        if let Some(numbers) = self.known.facts.open.get(object) {
            let known: Option<Vec<HoldRow>> = numbers
                .iter()
                .map(|number| self.known_hold(*number))
                .collect();
            if let Some(mut holds) = known {
                holds.retain(|row| row.place == place);
                return Ok(holds);
            }
        }
        let rows = self.ask_all_sent(
            concat!(
                "SELECT ",
                hold_columns!(),
                " FROM requests q WHERE q.object = $1 AND q.record = 1 AND q.hold = 0 AND q.object IS NOT NULL
                  AND q.place = $2 AND q.kind = 1 ORDER BY q.number"
            ),
            parameters![text(object), place],
        )?;
        self.holds(&rows)
    }

    pub(super) fn settled_on(
        &mut self,
        place: PlaceNumber,
        object: &str,
    ) -> Result<Micros, StoreError> {
        let object = text(object);
        if !self.known.facts.settled.contains_key(&object) {
            let Question { sql, parameters } = settled_on_objects(vec![object.clone()]);
            let rows = self.ask_all_sent(sql, parameters)?;
            learn_settled(&mut self.known.facts, vec![object.clone()], &rows)?;
        }
        let settled = self.known.facts.settled.get(&object);
        settled
            .into_iter()
            .flat_map(HashMap::values)
            .filter(|(at, _)| *at == place)
            .try_fold(Micros::ZERO, |sum, (_, cost)| sum.checked_add(*cost))
            .ok_or_else(|| StoreError::new("what is settled on one object is beyond counting"))
    }
}

/// What is settled on some objects, at every place.
pub fn settled_on_objects(objects: Vec<String>) -> Question {
    Question::new(
        "SELECT o.object, q.number, q.place, q.cost FROM unnest($1::text[]) AS o (object) CROSS JOIN LATERAL
             (SELECT number, place, cost FROM requests
              WHERE object = o.object AND kind = 1 AND hold = 1 AND cost > 0 LIMIT 256) q",
        parameters![objects],
    )
}

/// Takes in the answer to [`settled_on_objects`].
pub fn learn_settled(
    facts: &mut Facts,
    objects: Vec<String>,
    rows: &[tokio_postgres::Row],
) -> Result<(), StoreError> {
    for object in objects {
        facts.settled.insert(object, HashMap::new());
    }
    for row in rows {
        let object: String = get(row, 0)?;
        if let Some(settled) = facts.settled.get_mut(&object) {
            settled.insert(get(row, 1)?, (get(row, 2)?, Micros::new(get(row, 3)?)));
        }
    }
    Ok(())
}
