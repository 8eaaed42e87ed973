//! What a transaction is going to ask for, asked in one round trip together with the lock of the turn.

use std::collections::{BTreeSet, HashSet};

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use tokio_postgres::Row;

use super::budgets::{budget_columns, full_budget};
use super::known::{Facts, Known, Subject, is_open};
use super::link::Question;
use super::requests::{learn_settled, settled_on_objects};
use super::rows::{
    HOLD_COLUMNS, code_if_any, command_id, digest, full_key, get, hold_columns, hold_row,
    key_columns, known_answer, parameters, parts, record_key, small,
};
use super::turn::PostgresStore;
use crate::store::counters::{range, split};
use crate::store::{Kind, KnownCommand, RecordKey, StoreError, Wanted};

/// Columns of [`full_key`].
const KEY_COLUMNS: usize = 15;

/// How the rows of a question are learned.
enum Lesson {
    Keys(Vec<Digest>, Vec<i64>),
    Budgets(Vec<i64>),
    KeyBalances,
    HoldBalances(Vec<CommandId>, Vec<i64>),
    Records(Vec<RecordKey>),
    Holds(Vec<CommandId>),
    Commands,
    Reserves,
    Nonces(Vec<[u8; 16]>),
    Objects(Vec<String>),
    Totals(Vec<String>),
    LookedUp(Vec<CommandId>),
}

/// Questions, and how their answers are learned.
#[derive(Default)]
pub struct Foreseen {
    pub questions: Vec<Question>,
    lessons: Vec<Lesson>,
}

impl Foreseen {
    fn add(&mut self, question: Question, lesson: Lesson) {
        self.questions.push(question);
        self.lessons.push(lesson);
    }

    /// Takes the answers in, in the order of the questions.
    pub fn learn(
        self,
        known: &mut Known,
        mut answers: impl Iterator<Item = Vec<Row>>,
    ) -> Result<(), StoreError> {
        for lesson in self.lessons {
            if let Lesson::LookedUp(ids) = lesson {
                for id in ids {
                    // A request that was known when the questions were put was not asked for. When that was forgotten since,
                    // because another ledger has written, nothing is known of it: it was not looked up.
                    if known.facts.by_id.contains_key(&id) {
                        known.facts.looked_up(id);
                    }
                }
                continue;
            }
            learn(
                &mut known.facts,
                lesson,
                &answers.next().unwrap_or_default(),
            )?;
        }
        Ok(())
    }
}

fn learn(facts: &mut Facts, lesson: Lesson, rows: &[Row]) -> Result<(), StoreError> {
    match lesson {
        Lesson::Keys(digests, windows) => learn_keys(facts, &digests, &windows, rows)?,
        Lesson::Budgets(windows) => {
            for row in rows {
                let budget = full_budget(row)?;
                // Those that there are come with the next answer.
                for window in &windows {
                    facts.balances.insert((budget.number, *window), None);
                }
                facts.budgets.insert(budget.number, budget);
            }
        }
        Lesson::KeyBalances => learn_balances(facts, rows)?,
        Lesson::HoldBalances(ids, windows) => {
            for id in ids {
                let hold = facts.by_id.get(&id).copied().flatten();
                let Some(row) = hold.and_then(|number| facts.holds.get(&number)) else {
                    continue;
                };
                for window in &windows {
                    facts.balances.entry((row.key, *window)).or_insert(None);
                }
            }
            learn_balances(facts, rows)?;
        }
        Lesson::Records(wanted) => {
            for key in wanted {
                facts.records.insert(key, None);
            }
            for row in rows {
                let hold = hold_row(row)?;
                let key = record_key(row, HOLD_COLUMNS)?;
                facts.records.insert(key, Some(hold.number));
                let status: Option<i64> = get(row, HOLD_COLUMNS + 1)?;
                let answer = match status {
                    Some(_) => Some(known_answer(row, HOLD_COLUMNS + 1)?),
                    None => None,
                };
                facts.answers.insert(hold.number, answer);
                facts.put_hold(hold);
            }
        }
        Lesson::Holds(wanted) => {
            for id in wanted {
                facts.by_id.insert(id, None);
            }
            for row in rows {
                facts.put_hold(hold_row(row)?);
            }
        }
        Lesson::Commands => {
            for row in rows {
                let known = KnownCommand {
                    digest: digest(row, 1)?,
                    answer: get(row, 2)?,
                };
                facts.commands.insert(command_id(row, 0)?, Some(known));
            }
        }
        Lesson::Reserves => {
            for row in rows {
                let attempt = (get(row, 1)?, small(row, 2)?);
                facts.reserves.insert(command_id(row, 0)?, Some(attempt));
            }
        }
        Lesson::Nonces(nonces) => {
            for nonce in nonces {
                facts.learn_nonce(nonce, 0);
            }
            for row in rows {
                let (nonce, counter) = split(command_id(row, 0)?);
                facts.learn_nonce(nonce, counter);
            }
        }
        Lesson::Objects(objects) => {
            for object in objects {
                facts.open.insert(object, BTreeSet::new());
            }
            for row in rows {
                let hold = hold_row(row)?;
                debug_assert_eq!(code_if_any::<Kind>(row, 7)?, Some(hold.kind));
                if is_open(&hold)
                    && let Some(object) = &hold.object
                    && let Some(open) = facts.open.get_mut(object)
                {
                    open.insert(hold.number);
                }
                facts.put_hold(hold);
            }
        }
        Lesson::Totals(objects) => learn_settled(facts, objects, rows)?,
        Lesson::LookedUp(_) => {}
    }
    Ok(())
}

fn learn_balances(facts: &mut Facts, rows: &[Row]) -> Result<(), StoreError> {
    for row in rows {
        let place = (get(row, 0)?, get(row, 1)?);
        facts.balances.insert(place, Some(parts(row, 2)?));
    }
    Ok(())
}

fn learn_keys(
    facts: &mut Facts,
    digests: &[Digest],
    windows: &[i64],
    rows: &[Row],
) -> Result<(), StoreError> {
    for digest in digests {
        facts.keys.insert(*digest, None);
    }
    for row in rows {
        let key = full_key(row)?;
        let subject = Subject {
            last: get(row, KEY_COLUMNS)?,
            previous: get(row, KEY_COLUMNS + 1)?,
            admitted: get(row, KEY_COLUMNS + 2)?,
        };
        facts.subjects.insert(key.number, subject);
        // Those that there are come with the next answer.
        for window in windows {
            facts.balances.insert((key.number, *window), None);
        }
        facts.keys.insert(key.key.digest, Some(key));
    }
    Ok(())
}

fn bytes_of<'a, T: AsRef<[u8]> + 'a>(values: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    values
        .into_iter()
        .map(|value| value.as_ref().to_vec())
        .collect()
}

impl PostgresStore {
    /// The questions for what is wanted and not known.
    pub(super) fn foresee(&self, wanted: &Wanted) -> Foreseen {
        let facts = &self.known.facts;
        let mut foreseen = Foreseen::default();
        self.foresee_keys(wanted, &mut foreseen);
        self.foresee_ids(wanted, &mut foreseen);
        let records: Vec<RecordKey> = unique(
            wanted
                .records
                .iter()
                .filter(|key| !facts.records.contains_key(key))
                .copied(),
        );
        if !records.is_empty() {
            let keys = bytes_of(records.iter().map(|key| *key.as_bytes()));
            foreseen.add(
                Question::new(
                    concat!(
                        "SELECT ",
                        hold_columns!(),
                        ", r.record_key, a.status, a.content_type, a.body, a.vendor_request_id, a.is_summary
                         FROM records r JOIN requests q ON q.number = r.request LEFT JOIN answers a ON a.request = r.request
                         WHERE r.record_key = ANY($1::bytea[])"
                    ),
                    parameters![keys],
                ),
                Lesson::Records(records),
            );
        }
        let objects: Vec<String> = unique(
            wanted
                .objects
                .iter()
                .filter(|object| !facts.open.contains_key(*object) && !object.contains('\0'))
                .cloned(),
        );
        if !objects.is_empty() {
            foreseen.add(
                Question::new(
                    concat!(
                        "SELECT ",
                        hold_columns!(),
                        " FROM requests q WHERE q.object = ANY($1::text[]) AND q.record = 1 AND q.hold = 0
                          AND q.object IS NOT NULL AND q.kind = 1"
                    ),
                    parameters![objects.clone()],
                ),
                Lesson::Objects(objects),
            );
        }
        let totals: Vec<String> = unique(
            wanted
                .totals
                .iter()
                .filter(|object| !facts.settled.contains_key(*object) && !object.contains('\0'))
                .cloned(),
        );
        if !totals.is_empty() {
            foreseen.add(settled_on_objects(totals.clone()), Lesson::Totals(totals));
        }
        foreseen
    }

    fn foresee_keys(&self, wanted: &Wanted, foreseen: &mut Foreseen) {
        let facts = &self.known.facts;
        let keys: Vec<Digest> = unique(
            wanted
                .keys
                .iter()
                .filter(|digest| !facts.keys.contains_key(digest))
                .copied(),
        );
        if keys.is_empty() {
            return;
        }
        let digests = bytes_of(keys.iter().map(|digest| *digest.as_bytes()));
        foreseen.add(
            Question::new(
                concat!(
                    "SELECT ",
                    key_columns!(),
                    ", s.last, s.previous, s.admitted FROM keys k JOIN subjects s ON s.number = k.number
                     WHERE k.digest = ANY($1::bytea[])"
                ),
                parameters![digests.clone()],
            ),
            Lesson::Keys(keys, wanted.windows.clone()),
        );
        foreseen.add(
            Question::new(
                concat!(
                    "WITH RECURSIVE way (number, parent) AS (
                         SELECT b.number, b.parent FROM keys k JOIN budgets b ON b.number = k.budget
                         WHERE k.digest = ANY($1::bytea[])
                         UNION SELECT b.number, b.parent FROM way w JOIN budgets b ON b.number = w.parent)
                     SELECT ",
                    budget_columns!(),
                    " FROM way w JOIN budgets b ON b.number = w.number"
                ),
                parameters![digests.clone()],
            ),
            Lesson::Budgets(wanted.windows.clone()),
        );
        foreseen.add(
            Question::new(
                "WITH RECURSIVE way (number, up) AS (
                     SELECT k.number, k.budget FROM keys k WHERE k.digest = ANY($1::bytea[])
                     UNION SELECT b.number, b.parent FROM way w JOIN budgets b ON b.number = w.up)
                 SELECT b.subject, b.\"window\", b.cap, b.free, b.held, b.settled, b.unknown
                 FROM way w JOIN balances b ON b.subject = w.number WHERE b.\"window\" = ANY($2::bigint[])",
                parameters![digests, wanted.windows.clone()],
            ),
            Lesson::KeyBalances,
        );
    }

    /// Everywhere where an id can stand: ids that cannot be new for certain, and the holds that are named.
    fn foresee_ids(&self, wanted: &Wanted, foreseen: &mut Foreseen) {
        let facts = &self.known.facts;
        let is_new = |id: &CommandId| facts.seen(*id) == Some(crate::store::Seen::Never);
        let nonces: Vec<[u8; 16]> = unique(
            wanted
                .ids
                .iter()
                .filter(|id| facts.seen(**id).is_none())
                .map(|id| split(*id).0),
        );
        let holds: Vec<CommandId> = unique(
            wanted
                .holds
                .iter()
                .filter(|id| !facts.by_id.contains_key(id))
                .copied(),
        );
        let ids: Vec<CommandId> = unique(wanted.ids.iter().filter(|id| !is_new(id)).copied());
        let requests: Vec<CommandId> = unique(
            ids.iter()
                .filter(|id| !facts.by_id.contains_key(id))
                .chain(&holds)
                .copied(),
        );
        if !requests.is_empty() {
            foreseen.add(
                Question::new(
                    concat!(
                        "SELECT ",
                        hold_columns!(),
                        " FROM requests q WHERE q.id = ANY($1::bytea[])"
                    ),
                    parameters![bytes_of(requests.iter().map(|id| *id.as_bytes()))],
                ),
                Lesson::Holds(requests),
            );
        }
        if !holds.is_empty() {
            foreseen.add(
                Question::new(
                    "WITH RECURSIVE way (number, up) AS (
                         SELECT q.subject, q.budget FROM requests q WHERE q.id = ANY($1::bytea[])
                         UNION SELECT b.number, b.parent FROM way w JOIN budgets b ON b.number = w.up)
                     SELECT b.subject, b.\"window\", b.cap, b.free, b.held, b.settled, b.unknown
                     FROM way w JOIN balances b ON b.subject = w.number WHERE b.\"window\" = ANY($2::bigint[])",
                    parameters![
                        bytes_of(holds.iter().map(|id| *id.as_bytes())),
                        wanted.windows.clone()
                    ],
                ),
                Lesson::HoldBalances(holds, wanted.windows.clone()),
            );
        }
        if !ids.is_empty() {
            let bytes = bytes_of(ids.iter().map(|id| *id.as_bytes()));
            foreseen.add(
                Question::new(
                    "SELECT id, digest, answer FROM commands WHERE id = ANY($1::bytea[])",
                    parameters![bytes.clone()],
                ),
                Lesson::Commands,
            );
            foreseen.add(
                Question::new(
                    "SELECT reserve, request, attempt FROM attempts WHERE reserve = ANY($1::bytea[])",
                    parameters![bytes],
                ),
                Lesson::Reserves,
            );
        }
        if !nonces.is_empty() {
            foreseen.add(highest_counters(&nonces), Lesson::Nonces(nonces));
        }
        foreseen.lessons.push(Lesson::LookedUp(ids));
    }
}

/// The highest id on record of each nonce.
pub fn highest_counters(nonces: &[[u8; 16]]) -> Question {
    let (lowest, highest): (Vec<_>, Vec<_>) = nonces
        .iter()
        .map(|nonce| {
            let (lowest, highest) = range(*nonce);
            (lowest.as_bytes().to_vec(), highest.as_bytes().to_vec())
        })
        .unzip();
    Question::new(
        "SELECT id FROM (
             SELECT greatest(
                 coalesce((SELECT q.id FROM requests q WHERE q.id BETWEEN n.low AND n.high ORDER BY q.id DESC LIMIT 1), ''::bytea),
                 coalesce((SELECT c.id FROM commands c WHERE c.id BETWEEN n.low AND n.high ORDER BY c.id DESC LIMIT 1), ''::bytea),
                 coalesce((SELECT a.reserve FROM attempts a WHERE a.reserve BETWEEN n.low AND n.high
                           ORDER BY a.reserve DESC LIMIT 1), ''::bytea)
             ) AS id FROM unnest($1::bytea[], $2::bytea[]) n (low, high)
         ) found WHERE id <> ''::bytea",
        parameters![lowest, highest],
    )
}

/// Each once, in the order of the first.
fn unique<T: Clone + Eq + std::hash::Hash>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    values.filter(|value| seen.insert(value.clone())).collect()
}
