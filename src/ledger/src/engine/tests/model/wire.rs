//! The model's words as the ledger's own, and back.

use keybrake_contract::digest::Digest;
use keybrake_contract::grant::{AllowedEndpoint, Grant, IdempotencyRule};
use keybrake_contract::ids::CommandId;
use keybrake_contract::money::{Currency, Micros, Minor};
use keybrake_contract::refusal::Refusal;
use keybrake_contract::wire::{
    AttemptOutcome, Command, CommandResult, Executed, ExecutedMoney, Forward, Idempotency,
    OfObject, Outcome, Release, ReleaseCause, RequestFacts, Reserve, StoredAnswer,
};
use std::sync::Arc;

use super::{
    Answer, Ask, Budget, BudgetEdit, BudgetIs, Cents, Cost, Id, Key, KeyEdit, Limits, No, Op,
    Parts, Said, Verdict, gives_totals,
};
use crate::clock::timestamp;
use crate::model::{
    Balance, BudgetChange, BudgetState, Caps, DuplicateRule, KeyChange, NewBudget, NewKey, Rolling,
    TripOn,
};

const NONCE: [u8; 16] = [7; 16];

pub fn id(id: Id) -> CommandId {
    CommandId::new(NONCE, id)
}

fn number(id: CommandId) -> Id {
    let (nonce, counter) = id.as_bytes().split_at(16);
    assert_eq!(nonce, NONCE);
    Id::from_be_bytes(counter.try_into().unwrap())
}

fn micros(cents: Cents) -> Micros {
    Micros::from_cents(cents).unwrap()
}

fn cents(micros: Micros) -> Cents {
    assert_eq!(micros.get() % 10_000, 0, "whole cents");
    micros.get() / 10_000
}

fn minor(cents: Cents) -> Minor {
    Minor {
        amount: cents.try_into().unwrap(),
        currency: Currency::USD,
    }
}

fn object(object: u8) -> String {
    format!("ch_{object}")
}

/// As commands name a budget.
pub fn budget_name(budget: usize) -> String {
    format!("budget-{budget}")
}

fn caps(limits: &Limits) -> Caps {
    Caps {
        per_request: limits.per_request.map(micros),
        daily: limits.daily.map(micros),
        monthly: limits.monthly.map(micros),
        rolling: limits.rolling.map(|(cap, hours)| Rolling {
            cap: micros(cap),
            hours,
        }),
        lifetime: limits.lifetime.map(micros),
        max_requests: limits.max_requests.map(|most| most as u64),
    }
}

/// Every rule has the same fields, so that one digest tells a purchase.
fn rule(ms: Option<i64>) -> Option<DuplicateRule> {
    ms.map(|ms| DuplicateRule {
        fields: vec!["customer".to_owned()],
        window_seconds: u32::try_from(ms / 1_000).unwrap(),
    })
}

fn trip_on(brake: Option<(usize, i64)>) -> Option<TripOn> {
    brake.map(|(refusals, within_ms)| TripOn {
        refusals: u32::try_from(refusals).unwrap(),
        within_seconds: u32::try_from(within_ms / 1_000).unwrap(),
    })
}

pub fn new_key(key: &Key) -> NewKey {
    NewKey {
        label: "model".to_owned(),
        workspace: format!("workspace-{}", key.workspace),
        grant: Grant {
            key_id: String::new(),
            version: 0,
            vendor: "stripe".to_owned(),
            allowed_endpoints: vec![AllowedEndpoint::Operation("charges.create".to_owned())],
            constraints: std::collections::BTreeMap::new(),
            vendor_accounts: Vec::new(),
            idempotency: IdempotencyRule::Optional,
            duplicate_fields: Vec::new(),
        },
        caps: caps(&key.limits),
        worst_case: key.worst_case.map(micros),
        expires_at: timestamp(key.expires_at),
        metadata: None,
        budget: key.budget.map(budget_name),
        duplicates: rule(key.rule),
    }
}

pub fn new_budget(number: usize, budget: &Budget) -> NewBudget {
    NewBudget {
        name: budget_name(number),
        parent: budget.parent.map(budget_name),
        caps: caps(&budget.limits),
        time_zone: budget.zone.to_owned(),
        trip_on: trip_on(budget.brake),
        duplicates: rule(budget.rule),
        metadata: None,
    }
}

/// `None`: the key is to be revoked.
pub fn key_change(edit: &KeyEdit, now: i64) -> Option<KeyChange> {
    let mut change = KeyChange::default();
    match edit {
        KeyEdit::Limits(limits) => change.caps = Some(caps(limits)),
        KeyEdit::Budget(budget) => change.budget = Some(budget.map(budget_name)),
        KeyEdit::Rule(ms) => change.duplicates = Some(rule(*ms)),
        KeyEdit::EndsIn(ms) => change.expires_at = Some(timestamp(now + ms)),
        KeyEdit::Revoke => return None,
    }
    Some(change)
}

pub fn budget_change(edit: &BudgetEdit) -> BudgetChange {
    let mut change = BudgetChange::default();
    match edit {
        BudgetEdit::Limits(limits) => change.caps = Some(caps(limits)),
        BudgetEdit::State(state) => change.state = Some(budget_state(*state)),
        BudgetEdit::Brake(brake) => change.trip_on = Some(trip_on(*brake)),
        BudgetEdit::Rule(ms) => change.duplicates = Some(rule(*ms)),
    }
    change
}

pub const fn budget_state(state: BudgetIs) -> BudgetState {
    match state {
        BudgetIs::Open => BudgetState::Open,
        BudgetIs::Frozen => BudgetState::Frozen,
        BudgetIs::Closed => BudgetState::Closed,
        BudgetIs::Tripped => BudgetState::Tripped,
    }
}

/// `keys`: the digests of the keys, in the model's order.
pub fn command(number: Id, op: &Op, keys: &[Digest]) -> Command {
    match op {
        Op::Reserve(ask) => Command::Reserve(Box::new(reserve(number, ask, keys))),
        Op::Outcome(said) => Command::Outcome(Box::new(outcome(number, said))),
        Op::Release(reserve) => Command::Release(Release {
            id: id(number),
            reserve: id(*reserve),
            cause: ReleaseCause::NoAnswer,
        }),
    }
}

fn reserve(number: Id, ask: &Ask, keys: &[Digest]) -> Reserve {
    let digest = |of: u8| Digest::of(&[of]);
    let forward = if ask.is_read {
        Forward::Read
    } else {
        Forward::Detached
    };
    Reserve {
        id: id(number),
        key_digest: keys[ask.key],
        grant_version: ask.version,
        request: Arc::new(RequestFacts {
            vendor: "stripe".to_owned(),
            credential: "stripe".to_owned(),
            operation: "charges.create".to_owned(),
            method: "POST".to_owned(),
            path: "/v1/charges".to_owned(),
            vendor_account: None,
            request_id: number.to_string(),
            run_id: None,
            traceparent: None,
            params: std::collections::BTreeMap::new(),
        }),
        forward,
        cost: match ask.cost {
            Cost::Nothing => keybrake_contract::wire::Cost::Nothing,
            Cost::Amount(amount) => keybrake_contract::wire::Cost::Amount(minor(amount)),
            Cost::Unknown => keybrake_contract::wire::Cost::Unknown,
            Cost::OfObject(of, part) => keybrake_contract::wire::Cost::OfObject(OfObject {
                object: object(of),
                amount: part.map(|part| minor(part).amount),
                currency: None,
                draws: keybrake_contract::wire::Draws::OnHold,
            }),
        },
        idempotency: ask.idempotency.map(|key| Idempotency {
            key: format!("k-{key}"),
            fingerprint: digest(ask.fingerprint),
            full_fingerprint: ask.full_fingerprint.map(digest),
            client_key: None,
        }),
        purchases: ask.purchase.map(digest).into_iter().collect(),
        forward_timeout_ms: 90_000,
    }
}

fn outcome(number: Id, said: &Said) -> Outcome {
    Outcome {
        id: id(number),
        hold: id(said.hold),
        attempt: said.attempt,
        outcome: verdict(said.verdict, said.object),
        status: Some(200),
        vendor_request_id: None,
        vendor_object_id: said.object.map(object),
        charge_id: said.object.map(object),
        replayed_by_vendor: false,
        answer: said.verdict.is_executed().then(|| StoredAnswer {
            status: 200,
            content_type: "application/json".to_owned(),
            body: number.to_string(),
            vendor_request_id: None,
        }),
        latency_ms: 1,
    }
}

pub fn executed(said: Verdict, object: Option<u8>) -> Option<Executed> {
    let (money, amount) = match said {
        Verdict::Moved(amount) => (ExecutedMoney::Moved, amount),
        Verdict::Open(amount) => (ExecutedMoney::Open, amount),
        Verdict::Cancelled => (ExecutedMoney::Cancelled, None),
        _ => return None,
    };
    let amount = amount.map(minor);
    let is_total = amount.is_some() && object.is_some_and(gives_totals);
    Some(Executed {
        money,
        amount,
        is_total,
    })
}

fn verdict(said: Verdict, object: Option<u8>) -> AttemptOutcome {
    match (said, executed(said, object)) {
        (_, Some(executed)) => AttemptOutcome::Executed(executed),
        (Verdict::Declined, _) => AttemptOutcome::DeclinedFinal,
        (Verdict::NotExecuted, _) => AttemptOutcome::NotExecuted,
        _ => AttemptOutcome::Indeterminate,
    }
}

pub fn answer(result: CommandResult) -> Answer {
    match result {
        CommandResult::Admitted(admitted) => Answer::Admitted {
            hold: number(admitted.hold),
            attempt: admitted.attempt,
        },
        CommandResult::Grant(grant) => Answer::Grant(grant.version),
        CommandResult::Refused(refusal) => Answer::Refused(no(refusal)),
        CommandResult::Replay(replay) => Answer::Replay {
            hold: number(replay.hold),
            answer: (!replay.summary).then(|| replay.answer.body.parse().unwrap()),
        },
        CommandResult::InFlight => Answer::InFlight,
        CommandResult::Cancelled => Answer::Cancelled,
        CommandResult::Recorded => Answer::Recorded,
        CommandResult::Released => Answer::Released,
        CommandResult::CommandIdConflict => Answer::Conflict,
        CommandResult::InvalidCommand(why) => panic!("unreadable: {why}"),
    }
}

fn no(refusal: Refusal) -> No {
    let name = refusal.budget;
    let cap = refusal.cap;
    No {
        code: refusal.code,
        asked: cap.as_ref().and_then(|cap| cap.asked).map(cents),
        left: cap.as_ref().and_then(|cap| cap.left).map(cents),
        limit: cap.map(|cap| cap.limit),
        budget: name.map(|name| name.strip_prefix("budget-").unwrap().parse().unwrap()),
        earlier: refusal.earlier_request_id.map(|id| id.parse().unwrap()),
    }
}

pub fn parts(balance: &Balance) -> Parts {
    let parts = Parts {
        limit: balance.limit,
        cap: cents(balance.cap),
        free: cents(balance.free),
        held: cents(balance.held),
        settled: cents(balance.settled),
        unknown: cents(balance.unknown),
    };
    let sum = parts.free + parts.held + parts.settled + parts.unknown;
    assert_eq!(sum, parts.cap, "the parts add up to the cap");
    parts
}
