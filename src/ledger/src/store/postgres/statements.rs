//! One statement for all rows of a table that a transaction writes. Those that rest on something that was read say so in their
//! conditions.

use std::collections::BTreeMap;

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::money::Micros;
use keybrake_contract::wire::StoredAnswer;

use super::known::Subject;
use super::link::{Parameter, Question};
use super::pending::{Change, Told, Touched, Write};
use super::rows::{parameters, text, text_if_any};
use crate::book::Parts;
use crate::model::Key;
use crate::store::codes::Coded as _;
use crate::store::{FullKey, KeyNumber, Purchase, RequestNumber, StoreError};

pub fn insert_events(events: Vec<(i64, Vec<u8>, Vec<u8>)>) -> Question {
    let (mut seqs, mut hashes, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for (seq, hash, body) in events {
        seqs.push(seq);
        hashes.push(hash);
        bodies.push(body);
    }
    Question::new(
        "INSERT INTO events (seq, hash, body)
         SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])",
        parameters![seqs, hashes, bodies],
    )
}

pub fn insert_keys(keys: &[FullKey]) -> Result<Question, StoreError> {
    let of = |column: fn(&Key) -> String| -> Vec<String> {
        keys.iter().map(|full| column(&full.key)).collect()
    };
    let at = |column: fn(&FullKey) -> Option<i64>| -> Vec<Option<i64>> {
        keys.iter().map(column).collect()
    };
    let written =
        |column: fn(&Key) -> Result<Option<String>, StoreError>| -> Result<Vec<_>, StoreError> {
            keys.iter().map(|full| column(&full.key)).collect()
        };
    let digests: Vec<Vec<u8>> = keys
        .iter()
        .map(|full| full.key.digest.as_bytes().to_vec())
        .collect();
    Ok(Question::new(
        "INSERT INTO keys (number, key_id, digest, label, workspace, vendor, key_grant, caps, worst_case, created_at,
                           expires_at, revoked_at, metadata, budget, duplicates)
         SELECT * FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[],
                              $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[],
                              $14::bigint[], $15::text[])",
        parameters![
            at(|full| Some(full.number)),
            of(|key| key.key_id.clone()),
            digests,
            of(|key| text(&key.label)),
            of(|key| text(&key.workspace)),
            of(|key| text(&key.grant.vendor)),
            written(|key| json(&key.grant).map(Some))?,
            written(|key| json(&key.caps).map(Some))?,
            at(|full| full.key.worst_case.map(Micros::get)),
            at(|full| Some(full.key.created_at.as_millisecond())),
            at(|full| Some(full.key.expires_at.as_millisecond())),
            at(|full| full.key.revoked_at.map(|at| at.as_millisecond())),
            written(|key| json_if_any(key.metadata.as_ref()))?,
            at(|full| full.budget),
            written(|key| json_if_any(key.duplicates.as_ref()))?,
        ],
    ))
}

/// A changed key.
pub fn update_key(full: &FullKey) -> Result<Write, StoreError> {
    let FullKey {
        number,
        budget,
        key,
    } = full;
    Ok(Write {
        question: Question::new(
            "UPDATE keys SET label = $2, key_grant = $3, caps = $4, worst_case = $5, expires_at = $6, revoked_at = $7,
                    metadata = $8, budget = $9, duplicates = $10
             WHERE number = $1",
            parameters![
                *number,
                text(&key.label),
                json(&key.grant)?,
                json(&key.caps)?,
                key.worst_case.map(Micros::get),
                key.expires_at.as_millisecond(),
                key.revoked_at.map(|at| at.as_millisecond()),
                json_if_any(key.metadata.as_ref())?,
                *budget,
                json_if_any(key.duplicates.as_ref())?,
            ],
        ),
        rows: Some(1),
    })
}

/// The latest purchases.
pub fn upsert_purchases(purchases: BTreeMap<(KeyNumber, [u8; 32]), (Purchase, i64)>) -> Question {
    let (mut subjects, mut digests) = (Vec::new(), Vec::new());
    let (mut requests, mut times, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for ((subject, digest), (Purchase { request, at }, until)) in purchases {
        subjects.push(subject);
        digests.push(digest.to_vec());
        requests.push(request);
        times.push(at);
        ends.push(until);
    }
    Question::new(
        "INSERT INTO purchases (subject, digest, request, at, until)
         SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[])
         ON CONFLICT (subject, digest) DO UPDATE SET request = excluded.request, at = excluded.at, until = excluded.until",
        parameters![subjects, digests, requests, times, ends],
    )
}

/// JSON in which U+0000 can only stand escaped.
pub fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::new(error.to_string()))
}

/// The same of what may be missing.
pub fn json_if_any(value: Option<&impl serde::Serialize>) -> Result<Option<String>, StoreError> {
    value.map(json).transpose()
}

type Subjects = [(KeyNumber, (Option<Subject>, Subject))];

pub fn insert_subjects(subjects: &Subjects) -> Question {
    let of = |column: fn(&Subject) -> Option<i64>| {
        subjects
            .iter()
            .map(|(_, (_, now))| column(now))
            .collect::<Vec<_>>()
    };
    Question::new(
        "INSERT INTO subjects (number, last, previous, admitted)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])",
        parameters![
            subjects
                .iter()
                .map(|(number, _)| *number)
                .collect::<Vec<_>>(),
            of(|now| now.last),
            of(|now| now.previous),
            of(|now| Some(now.admitted)),
        ],
    )
}

pub fn update_subjects(subjects: &Subjects) -> Question {
    let now = |column: fn(&Subject) -> Option<i64>| {
        subjects
            .iter()
            .map(|(_, (_, now))| column(now))
            .collect::<Vec<_>>()
    };
    let before = |column: fn(&Subject) -> Option<i64>| {
        subjects
            .iter()
            .map(|(_, (before, _))| before.as_ref().and_then(column))
            .collect::<Vec<_>>()
    };
    Question::new(
        "UPDATE subjects s SET last = u.last, previous = u.previous, admitted = u.admitted
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
              u (number, last, previous, admitted, old_last, old_admitted)
         WHERE s.number = u.number AND s.admitted = u.old_admitted AND coalesce(s.last, 0) = coalesce(u.old_last, 0)",
        parameters![
            subjects.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            now(|now| now.last),
            now(|now| now.previous),
            now(|now| Some(now.admitted)),
            before(|before| before.last),
            before(|before| Some(before.admitted)),
        ],
    )
}

/// The columns that every change of a hold has.
fn changed(changes: &[(RequestNumber, Change)]) -> Vec<Parameter> {
    let of = |column: fn(&Change) -> i64| {
        changes
            .iter()
            .map(|(_, one)| column(one))
            .collect::<Vec<_>>()
    };
    let maybe = |column: fn(&Change) -> Option<i64>| {
        changes
            .iter()
            .map(|(_, one)| column(one))
            .collect::<Vec<_>>()
    };
    let currencies: Vec<_> = changes
        .iter()
        .map(|(_, one)| one.currency.clone())
        .collect();
    parameters![
        changes
            .iter()
            .map(|(number, _)| *number)
            .collect::<Vec<_>>(),
        of(|one| one.state.record.code()),
        of(|one| one.state.hold.code()),
        of(|one| one.outcome),
        of(|one| one.attempts),
        of(|one| one.first_attempt.code()),
        maybe(|one| one.cost),
        maybe(|one| one.amount),
        currencies,
    ]
}

pub fn update_silent(changes: &[(RequestNumber, Change)]) -> Question {
    Question::new(
        "UPDATE requests r SET record = u.record, hold = u.hold, outcome = u.outcome, attempts = u.attempts,
                first_attempt = u.first_attempt, cost = u.cost,
                asked = CASE WHEN r.cost <> u.cost THEN coalesce(r.asked, r.cost) ELSE r.asked END, amount = u.amount, currency = u.currency,
                deadline = CASE WHEN u.first_attempt = 0 THEN r.deadline END
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                     $8::bigint[], $9::text[])
              u (number, record, hold, outcome, attempts, first_attempt, cost, amount, currency)
         WHERE r.number = u.number",
        changed(changes),
    )
}

pub fn update_said(changes: Vec<(RequestNumber, Change)>) -> Question {
    let mut parameters = changed(&changes);
    let said: Vec<Told> = changes
        .into_iter()
        .filter_map(|(_, one)| one.said)
        .collect();
    let texts = |column: fn(&Told) -> Option<String>| said.iter().map(column).collect::<Vec<_>>();
    let statuses: Vec<Option<i64>> = said.iter().map(|said| said.status).collect();
    let latencies: Vec<i64> = said.iter().map(|said| said.latency_ms).collect();
    let same: Vec<i64> = said.iter().map(|said| said.charge_is_object).collect();
    parameters.extend(parameters![
        statuses,
        texts(|said| said.object.clone()),
        texts(|said| said.charge.clone()),
        texts(|said| said.vendor_request_id.clone()),
        latencies,
        same,
    ]);
    Question::new(
        "UPDATE requests r SET record = u.record, hold = u.hold, outcome = u.outcome, attempts = u.attempts,
                first_attempt = u.first_attempt, cost = u.cost,
                asked = CASE WHEN r.cost <> u.cost THEN coalesce(r.asked, r.cost) ELSE r.asked END, amount = u.amount, currency = u.currency,
                deadline = CASE WHEN u.first_attempt = 0 THEN r.deadline END,
                status = u.status, object = u.object, charge = u.charge, vendor_request_id = u.vendor_request_id,
                latency_ms = u.latency_ms, charge_is_object = u.charge_is_object
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                     $8::bigint[], $9::text[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::bigint[],
                     $15::bigint[])
              u (number, record, hold, outcome, attempts, first_attempt, cost, amount, currency, status, object, charge,
                 vendor_request_id, latency_ms, charge_is_object)
         WHERE r.number = u.number",
        parameters,
    )
}

type Balances = [((KeyNumber, i64), Touched)];

pub fn insert_balances(balances: &Balances) -> Question {
    let of = |part: fn(&Parts) -> Micros| {
        balances
            .iter()
            .map(|(_, touched)| part(&touched.now).get())
            .collect::<Vec<_>>()
    };
    Question::new(
        "INSERT INTO balances (subject, \"window\", cap, free, held, settled, unknown)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                              $7::bigint[])",
        parameters![
            balances.iter().map(|((subject, _), _)| *subject).collect::<Vec<_>>(),
            balances.iter().map(|((_, window), _)| *window).collect::<Vec<_>>(),
            of(|parts| parts.cap),
            of(|parts| parts.free),
            of(|parts| parts.held),
            of(|parts| parts.settled),
            of(|parts| parts.unknown),
        ],
    )
}

/// The one place where money moves: only while every part is what the decision rested on, and only while as much is free as
/// was taken.
pub fn update_balances(balances: &Balances) -> Question {
    let now = |part: fn(&Parts) -> Micros| {
        balances
            .iter()
            .map(|(_, touched)| part(&touched.now).get())
            .collect::<Vec<_>>()
    };
    let before = |part: fn(&Parts) -> Micros| {
        let part = move |touched: &Touched| touched.before.as_ref().map(|parts| part(parts).get());
        balances
            .iter()
            .map(|(_, touched)| part(touched))
            .collect::<Vec<_>>()
    };
    let needed: Vec<i64> = balances
        .iter()
        .map(|(_, touched)| touched.needed.map_or(i64::MIN, Micros::get))
        .collect();
    Question::new(
        "UPDATE balances b SET cap = u.cap, free = u.free, held = u.held, settled = u.settled, unknown = u.unknown
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                     $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
              u (subject, win, cap, free, held, settled, unknown, old_cap, old_free, old_held, old_settled, old_unknown,
                 needed)
         WHERE b.subject = u.subject AND b.\"window\" = u.win AND b.free >= u.needed AND b.free = u.old_free
               AND b.cap = u.old_cap AND b.held = u.old_held AND b.settled = u.old_settled AND b.unknown = u.old_unknown",
        parameters![
            balances.iter().map(|((subject, _), _)| *subject).collect::<Vec<_>>(),
            balances.iter().map(|((_, window), _)| *window).collect::<Vec<_>>(),
            now(|parts| parts.cap),
            now(|parts| parts.free),
            now(|parts| parts.held),
            now(|parts| parts.settled),
            now(|parts| parts.unknown),
            before(|parts| parts.cap),
            before(|parts| parts.free),
            before(|parts| parts.held),
            before(|parts| parts.settled),
            before(|parts| parts.unknown),
            needed,
        ],
    )
}

pub fn upsert_records(records: &BTreeMap<[u8; 24], RequestNumber>) -> Question {
    Question::new(
        "INSERT INTO records (record_key, request) SELECT * FROM unnest($1::bytea[], $2::bigint[])
         ON CONFLICT (record_key) DO UPDATE SET request = excluded.request",
        parameters![
            records.keys().map(|key| key.to_vec()).collect::<Vec<_>>(),
            records.values().copied().collect::<Vec<_>>(),
        ],
    )
}

pub fn insert_mentions(mentions: Vec<(i64, RequestNumber)>) -> Question {
    let (mentions, requests): (Vec<i64>, Vec<i64>) = mentions.into_iter().unzip();
    Question::new(
        "INSERT INTO mentions (mention, request) SELECT * FROM unnest($1::bigint[], $2::bigint[]) ON CONFLICT DO NOTHING",
        parameters![mentions, requests],
    )
}

pub fn insert_answers(answers: BTreeMap<RequestNumber, StoredAnswer>) -> Question {
    let (mut numbers, mut statuses, mut types) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bodies, mut ids) = (Vec::new(), Vec::new());
    for (number, answer) in answers {
        numbers.push(number);
        statuses.push(i64::from(answer.status));
        types.push(text(&answer.content_type));
        ids.push(text_if_any(answer.vendor_request_id.as_deref()));
        bodies.push(answer.body.into_bytes());
    }
    Question::new(
        "INSERT INTO answers (request, status, content_type, body, vendor_request_id)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::text[])
         ON CONFLICT (request) DO NOTHING",
        parameters![numbers, statuses, types, bodies, ids],
    )
}

pub fn insert_commands(commands: Vec<(CommandId, Digest, i64, Vec<u8>)>) -> Question {
    let (mut ids, mut digests, mut times, mut answers) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, digest, at, answer) in commands {
        ids.push(id.as_bytes().to_vec());
        digests.push(digest.as_bytes().to_vec());
        times.push(at);
        answers.push(answer);
    }
    Question::new(
        "INSERT INTO commands (id, digest, at, answer)
         SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bytea[])",
        parameters![ids, digests, times, answers],
    )
}

pub fn count_replays(replays: &BTreeMap<RequestNumber, i64>) -> Question {
    Question::new(
        "UPDATE requests r SET replays = r.replays + u.more FROM unnest($1::bigint[], $2::bigint[]) u (number, more)
         WHERE r.number = u.number",
        parameters![
            replays.keys().copied().collect::<Vec<_>>(),
            replays.values().copied().collect::<Vec<_>>(),
        ],
    )
}
