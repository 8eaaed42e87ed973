//! Reserve: the table "record is × fingerprint", then states, price, duplicates and caps.

use keybrake_contract::refusal::RefusalCode;

use super::{
    Answer, Ask, Attempt, BudgetIs, Cents, Cost, Hold, Id, Known, Model, No, OVERDUE, Record,
    Request, Subject, VENDOR_MEMORY,
};

/// How a repeat stands to the record of its idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    Same,
    /// Of a derived key: the purchase is the same, the request is not.
    SamePurchase,
    Other,
}

impl Model {
    pub(super) fn reserve(&mut self, id: Id, ask: &Ask) -> Answer {
        if let Some(code) = self.unusable(ask.key) {
            return self.refuse(ask, No::plain(code));
        }
        let version = self.version(ask.key);
        if ask.version != Some(version) {
            return Answer::Grant(version);
        }
        let Some((number, likeness)) = self.standing(ask) else {
            return self.admit(id, ask);
        };
        let request = &self.requests[number];
        let is_remembered = self.is_remembered(number);
        match (request.record, likeness) {
            (Record::Released, _) => self.admit(id, ask),
            (_, Likeness::Other) => self.refuse(ask, No::plain(RefusalCode::IdempotencyError)),
            (Record::InFlight, _) => Answer::InFlight,
            (Record::Answered, _) => Answer::Replay {
                hold: request.id,
                answer: request.answer,
            },
            (Record::Unknown, Likeness::Same) if is_remembered => self.again(id, ask, number),
            (Record::Unknown, _) => self.refuse(ask, No::plain(RefusalCode::OutcomeUnknown)),
        }
    }

    pub(super) fn unusable(&self, key: usize) -> Option<RefusalCode> {
        let key = &self.keys[key];
        if key.is_revoked {
            Some(RefusalCode::VaultKeyRevoked)
        } else if key.expires_at <= self.now {
            Some(RefusalCode::VaultKeyExpired)
        } else {
            None
        }
    }

    /// The request that the idempotency key of this one stands for.
    pub(super) fn standing(&self, ask: &Ask) -> Option<(usize, Likeness)> {
        let key = ask.idempotency.filter(|_| !ask.is_read)?;
        let number = *self.records.get(&key)?;
        let first = &self.requests[number].ask;
        let workspace = |ask: &Ask| self.keys[ask.key].workspace;
        let likeness = if first.fingerprint != ask.fingerprint || workspace(first) != workspace(ask)
        {
            Likeness::Other
        } else if first.full_fingerprint == ask.full_fingerprint {
            Likeness::Same
        } else {
            Likeness::SamePurchase
        };
        Some((number, likeness))
    }

    /// Whether the vendor is relied on to know the key of this request still.
    pub(super) fn is_remembered(&self, number: usize) -> bool {
        self.now - self.requests[number].at < VENDOR_MEMORY
    }

    /// Refuses, and lets the brakes of open budgets count it.
    fn refuse(&mut self, ask: &Ask, no: No) -> Answer {
        let is_counted = !matches!(
            no.code,
            RefusalCode::BudgetFrozen
                | RefusalCode::BudgetTripped
                | RefusalCode::VaultKeyExpired
                | RefusalCode::VaultKeyRevoked
        );
        for number in self.path(self.keys[ask.key].budget) {
            let now = self.now;
            let budget = &mut self.budgets[number];
            let Some((most, within)) = budget.brake.filter(|_| is_counted) else {
                continue;
            };
            if budget.state != BudgetIs::Open {
                continue;
            }
            budget.refusals.push(now);
            budget.refusals.retain(|at| now - at < within);
            if budget.refusals.len() >= most {
                budget.state = BudgetIs::Tripped;
            }
        }
        Answer::Refused(no)
    }

    /// Why nothing is admitted under a budget.
    fn shut(&self, leaf: Option<usize>) -> Option<No> {
        self.path(leaf).into_iter().find_map(|budget| {
            let code = match self.budgets[budget].state {
                BudgetIs::Open => return None,
                BudgetIs::Frozen | BudgetIs::Closed => RefusalCode::BudgetFrozen,
                BudgetIs::Tripped => RefusalCode::BudgetTripped,
            };
            Some(No::plain(code).by(Subject::Budget(budget)))
        })
    }

    /// Forwards an unknown again: no second debit.
    fn again(&mut self, id: Id, ask: &Ask, number: usize) -> Answer {
        let shut = self.shut(self.requests[number].budget);
        if let Some(no) = shut.or_else(|| self.shut(self.keys[ask.key].budget)) {
            return self.refuse(ask, no);
        }
        let attempt = self.attempt(id);
        let request = &mut self.requests[number];
        request.record = Record::InFlight;
        request.attempts.push(attempt);
        Answer::Admitted {
            hold: request.id,
            attempt: u32::try_from(request.attempts.len()).unwrap(),
        }
    }

    fn attempt(&self, reserve: Id) -> Attempt {
        Attempt {
            reserve,
            known: Known::Open,
            deadline: self.now + OVERDUE,
        }
    }

    fn admit(&mut self, id: Id, ask: &Ask) -> Answer {
        let (cost, amount) = match self.allowed(ask) {
            Ok(price) => price,
            Err(no) => return self.refuse(ask, no),
        };
        let subjects = self.subjects(ask.key).into_iter();
        let known_to = subjects
            .filter(|subject| ask.is_purchase() && self.rule(*subject).is_some())
            .collect();
        if let Some(key) = ask.idempotency.filter(|_| !ask.is_read) {
            self.records.insert(key, self.requests.len());
        }
        self.requests.push(Request {
            id,
            ask: ask.clone(),
            budget: self.keys[ask.key].budget,
            at: self.now,
            record: Record::InFlight,
            hold: Hold::Held,
            cost,
            amount,
            attempts: vec![self.attempt(id)],
            object: None,
            answer: None,
            known_to,
        });
        Answer::Admitted {
            hold: id,
            attempt: 1,
        }
    }

    /// What a new hold costs, and the amount, unless something says no.
    fn allowed(&self, ask: &Ask) -> Result<(Option<Cents>, Option<Cents>), No> {
        let key = &self.keys[ask.key];
        if let Some(no) = self.shut(key.budget) {
            return Err(no);
        }
        let (cost, amount) = self.price(ask)?;
        for subject in self.subjects(ask.key) {
            let most = self.limits(subject).per_request;
            if most.is_some_and(|most| cost.is_some_and(|cost| cost > most)) {
                return Err(capped("per_request_usd_cap", cost, most).by(subject));
            }
        }
        if let Some(no) = self.duplicate(ask) {
            return Err(no);
        }
        let cost_or_nothing = cost.unwrap_or(0);
        for subject in self.subjects(ask.key) {
            for balance in self.balances(subject) {
                // What costs nothing is refused below zero only.
                if cost_or_nothing > balance.free && (cost_or_nothing > 0 || balance.free < 0) {
                    let left = Some(balance.free);
                    let no = capped(balance.limit, Some(cost_or_nothing), left);
                    return Err(no.by(subject));
                }
            }
        }
        let made = self.requests.iter().filter(|one| one.ask.key == ask.key);
        if key
            .limits
            .max_requests
            .is_some_and(|most| made.count() >= most)
        {
            return Err(capped("max_requests", None, None));
        }
        Ok((cost, amount))
    }

    fn price(&self, ask: &Ask) -> Result<(Option<Cents>, Option<Cents>), No> {
        let (amount, open) = match ask.cost {
            Cost::Nothing => return Ok((Some(0), None)),
            Cost::Amount(amount) => (Some(amount), None),
            Cost::Unknown => (None, None),
            Cost::OfObject(object, part) => {
                let whole = self.amount_of(object);
                let amount = whole.map(|whole| part.unwrap_or(whole));
                let open = self.open_holds(object);
                if part.is_none() && !open.is_empty() {
                    return Ok((Some(0), amount));
                }
                let costs = open.iter().filter_map(|number| self.requests[*number].cost);
                (amount, Some(costs.sum::<Cents>()))
            }
        };
        let subjects = self.subjects(ask.key);
        let is_uncapped = subjects
            .iter()
            .all(|subject| self.limits(*subject).is_uncapped());
        let total = match (amount, self.keys[ask.key].worst_case) {
            (Some(amount), _) => amount,
            (None, _) if is_uncapped => return Ok((None, amount)),
            (None, Some(worst_case)) => match ask.cost {
                // An amount in nobody knows what currency: no less than if it were dollars.
                Cost::OfObject(_, Some(part)) => worst_case.max(part),
                _ => worst_case,
            },
            (None, None) => return Err(No::plain(RefusalCode::AmountUnknown)),
        };
        // Only the difference to what is set aside for the object.
        let beyond = (total - open.unwrap_or(0)).max(0);
        Ok((Some(beyond), amount))
    }

    /// The amount of an object as last heard.
    fn amount_of(&self, object: u8) -> Option<Cents> {
        let answered = self.requests.iter().rev().filter(|request| {
            request.object == Some(object)
                && request.record == Record::Answered
                && !request.ask.is_read
        });
        answered.into_iter().find_map(|request| request.amount)
    }

    /// The holds of an object whose money may still move, oldest first.
    pub(super) fn open_holds(&self, object: u8) -> Vec<usize> {
        let numbers = 0..self.requests.len();
        numbers
            .filter(|number| {
                let request = &self.requests[*number];
                request.object == Some(object)
                    && !request.ask.is_read
                    && (request.record, request.hold) == (Record::Answered, Hold::Held)
            })
            .collect()
    }

    /// An equal purchase within the time of a rule that knows it: the latest, unless it was given back.
    fn duplicate(&self, ask: &Ask) -> Option<No> {
        if !ask.is_purchase() {
            return None;
        }
        for subject in self.subjects(ask.key) {
            let Some(window) = self.rule(subject) else {
                continue;
            };
            let latest = self.requests.iter().rev().find(|request| {
                request.known_to.contains(&subject) && request.ask.purchase == ask.purchase
            });
            let earlier = latest
                .filter(|request| self.now - request.at < window && request.hold != Hold::Released);
            if let Some(earlier) = earlier {
                let no = No {
                    earlier: Some(earlier.id),
                    ..No::plain(RefusalCode::PossibleDuplicate)
                };
                return Some(no.by(subject));
            }
        }
        None
    }
}

impl Ask {
    /// Whether rules about equal purchases are about it.
    pub fn is_purchase(&self) -> bool {
        !self.is_read && self.cost != Cost::Nothing
    }
}

fn capped(limit: &str, asked: Option<Cents>, left: Option<Cents>) -> No {
    No {
        limit: Some(limit.to_owned()),
        asked,
        left,
        ..No::plain(RefusalCode::SpendCapExceeded)
    }
}
