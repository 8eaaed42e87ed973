//! The end of an attempt: outcome, release, sweep, and a person's word.

use super::{Answer, Cents, Hold, Id, Known, Model, Op, Record, Said, Verdict, gives_totals};

impl Model {
    pub(super) fn outcome(&mut self, id: Id, said: &Said) -> Answer {
        let number = self.requests.iter().position(|one| one.id == said.hold);
        let Some(number) = number else {
            return Answer::Recorded;
        };
        let attempt = usize::try_from(said.attempt).unwrap() - 1;
        let known = match said.verdict {
            Verdict::Moved(_) | Verdict::Open(_) | Verdict::Cancelled => Known::Executed,
            Verdict::Declined => Known::Declined,
            Verdict::NotExecuted => Known::NotExecuted { is_begun: true },
            Verdict::Indeterminate => Known::Indeterminate,
        };
        let before = self.requests[number].record;
        self.end(number, attempt, known, said.verdict, said.object);
        let request = &mut self.requests[number];
        let is_decided = before != Record::Answered && request.record == Record::Answered;
        if is_decided && !request.ask.is_read {
            request.answer = Some(id);
        }
        Answer::Recorded
    }

    /// The attempt of this reserve was never begun. One that comes later will not be.
    pub(super) fn release(&mut self, reserve: Id) -> Answer {
        if let Some((number, attempt)) = self.attempt_of(reserve) {
            let known = self.requests[number].attempts[attempt].known;
            if matches!(known, Known::Open | Known::Overdue) {
                let unbegun = Known::NotExecuted { is_begun: false };
                self.end(number, attempt, unbegun, Verdict::NotExecuted, None);
            }
        } else {
            let cancelled = (None, Answer::Cancelled);
            self.commands.entry(reserve).or_insert(cancelled);
        }
        Answer::Released
    }

    /// A person's word about a request whose outcome nobody knows, or about the end of what is held. Whether it was taken.
    pub fn resolve(&mut self, hold: Id, verdict: Verdict) -> bool {
        let number = self.requests.iter().position(|one| one.id == hold);
        let Some(number) = number.filter(|number| !self.requests[*number].ask.is_read) else {
            return false;
        };
        let request = &mut self.requests[number];
        match (request.record, request.hold, verdict) {
            (Record::Unknown, _, _) => {}
            (Record::Answered, Hold::Held, Verdict::Moved(said)) => {
                request.cost = said.or(request.cost);
                request.hold = Hold::Settled;
                return true;
            }
            (Record::Answered, Hold::Held, Verdict::Open(_)) => return false,
            (Record::Answered, Hold::Held, _) => {
                request.hold = Hold::Released;
                return true;
            }
            _ => return false,
        }
        let last = self.requests[number].attempts.len() - 1;
        if verdict.is_executed() {
            self.end(number, last, Known::Executed, verdict, None);
        } else {
            // It holds for every attempt of which nobody knew.
            for attempt in &mut self.requests[number].attempts {
                let not_executed = Known::NotExecuted { is_begun: true };
                attempt.known = firmer(attempt.known, not_executed);
            }
            self.decide(number, Record::Released, Hold::Released);
        }
        true
    }

    /// Whether money is held for what the vendor made for a request.
    pub fn is_open(&self, hold: Id) -> bool {
        let mut all = self.requests.iter();
        all.any(|one| one.id == hold && one.record == Record::Answered && one.hold == Hold::Held)
    }

    pub(super) fn end(
        &mut self,
        number: usize,
        attempt: usize,
        known: Known,
        verdict: Verdict,
        object: Option<u8>,
    ) {
        let request = &self.requests[number];
        let is_read = request.ask.is_read;
        let is_ours = attempt < request.attempts.len();
        if !is_ours && (!verdict.is_executed() || is_read) {
            return;
        }
        let is_news = request.record != Record::Answered;
        // Nothing can have been moved by a read.
        let verdict = match verdict {
            Verdict::Indeterminate if is_read => Verdict::NotExecuted,
            Verdict::Open(_) | Verdict::Cancelled | Verdict::Moved(_) if is_read => {
                Verdict::Moved(None)
            }
            other => other,
        };
        let (record, hold) = self.after(number, attempt, verdict);
        if is_news && verdict.is_executed() && !is_read {
            self.settle(number, verdict, object);
        }
        let request = &mut self.requests[number];
        if is_news {
            request.object = object;
        }
        if is_ours {
            let before = request.attempts[attempt].known;
            request.attempts[attempt].known = firmer(before, known);
        }
        self.decide(number, record, hold);
    }

    /// Record and hold after this verdict on an attempt.
    fn after(&self, number: usize, attempt: usize, verdict: Verdict) -> (Record, Hold) {
        let request = &self.requests[number];
        let same = (request.record, request.hold);
        let is_latest = attempt + 1 >= request.attempts.len();
        let is_surely_none = self.are_others_not_executed(number, attempt);
        match (verdict, request.record) {
            // What was answered is final.
            (_, Record::Answered) => same,
            (Verdict::Moved(_), _) => (Record::Answered, Hold::Settled),
            (Verdict::Open(_), _) => (Record::Answered, Hold::Held),
            (Verdict::Cancelled, _) => (Record::Answered, Hold::Released),
            (_, Record::Released) => same,
            (Verdict::Declined, _) => (Record::Released, Hold::Released),
            (Verdict::NotExecuted, _) if is_surely_none => (Record::Released, Hold::Released),
            (Verdict::NotExecuted | Verdict::Indeterminate, _) if is_latest => {
                (Record::Unknown, Hold::Unknown)
            }
            (Verdict::NotExecuted, _) => same,
            (Verdict::Indeterminate, record) => (record, Hold::Unknown),
        }
    }

    /// Whether every other attempt of a request was for certain not executed.
    pub(super) fn are_others_not_executed(&self, number: usize, attempt: usize) -> bool {
        let others = self.requests[number].attempts.iter().enumerate();
        others
            .filter(|(other, _)| *other != attempt)
            .all(|(_, other)| matches!(other.known, Known::NotExecuted { .. } | Known::Declined))
    }

    /// What an execution takes, from the open holds of its object first and beyond them from its own; all in full.
    fn settle(&mut self, number: usize, verdict: Verdict, object: Option<u8>) {
        let open = object.map(|object| self.open_holds(object));
        let open = open.unwrap_or_default();
        let held: Cents = open.iter().filter_map(|one| self.requests[*one].cost).sum();
        let said = match verdict {
            Verdict::Moved(said) | Verdict::Open(said) => said,
            _ => None,
        };
        let settled = match object {
            Some(object) if gives_totals(object) => self.settled_on(object),
            _ => 0,
        };
        let taken = said.map(|said| (said - settled).max(0));
        let beyond = taken.map(|taken| (taken - held).max(0));
        let own = &mut self.requests[number];
        own.amount = said.or(own.amount);
        match verdict {
            Verdict::Moved(_) => own.cost = beyond.or(own.cost),
            // Money that may still move is never lowered.
            Verdict::Open(_) => own.cost = own.cost.max(beyond),
            _ => {}
        }
        let mut left = taken;
        for number in open {
            let one = &mut self.requests[number];
            match verdict {
                Verdict::Moved(_) => {
                    let share = one.cost.map(|cost| left.unwrap_or(cost).min(cost));
                    left = left.map(|left| left - share.unwrap_or(0));
                    one.cost = share;
                    one.hold = Hold::Settled;
                }
                Verdict::Cancelled => one.hold = Hold::Released,
                _ => {}
            }
        }
    }

    /// Whether an outcome tells, for the first time, a total of which a part is settled.
    pub fn tells_of_what_is_settled(&self, op: &Op) -> bool {
        let Op::Outcome(said) = op else {
            return false;
        };
        let is_amount = matches!(
            said.verdict,
            Verdict::Moved(Some(_)) | Verdict::Open(Some(_))
        );
        let object = said
            .object
            .filter(|object| is_amount && gives_totals(*object));
        let is_news = self
            .requests
            .iter()
            .any(|one| one.id == said.hold && one.record != Record::Answered && !one.ask.is_read);
        is_news && object.is_some_and(|object| self.settled_on(object) > 0)
    }

    /// What the writes on this object have settled.
    fn settled_on(&self, object: u8) -> Cents {
        let writes = self.requests.iter().filter(|one| !one.ask.is_read);
        let settled = writes.filter(|one| one.object == Some(object) && one.hold == Hold::Settled);
        settled.filter_map(|one| one.cost).sum()
    }

    /// Puts a request into a state. Its idempotency key stands for its newest request, save that an executed one is never
    /// forgotten for one that was released.
    fn decide(&mut self, number: usize, record: Record, hold: Hold) {
        let request = &mut self.requests[number];
        let before = request.record;
        (request.record, request.hold) = (record, hold);
        let Some(key) = request.ask.idempotency.filter(|_| !request.ask.is_read) else {
            return;
        };
        let newest = self.records[&key];
        match (before, record) {
            (Record::Released, Record::Answered) if newest != number => {
                if self.requests[newest].record == Record::Released {
                    self.records.insert(key, number);
                } else {
                    self.behind.insert(newest, number);
                }
            }
            (Record::InFlight | Record::Unknown, Record::Released) => {
                if let Some(executed) = self.behind.get(&number) {
                    self.records.insert(key, *executed);
                }
            }
            _ => {}
        }
    }
}

/// A later word stays unless the earlier one was firmer.
fn firmer(before: Known, said: Known) -> Known {
    match (before, said) {
        (Known::NotExecuted { .. }, Known::NotExecuted { .. }) => said,
        _ => before.max(said),
    }
}
