//! What tests ask the model for.

use super::steps::From;
use super::{Ask, Budget, BudgetIs, Cents, Hold, Id, Known, Model, Record};
use crate::model::EntryOutcome;

impl Budget {
    pub fn is_closed(&self) -> bool {
        self.state == BudgetIs::Closed
    }
}

impl Model {
    /// How many attempts wait for their outcome.
    pub fn open_attempts(&self) -> usize {
        self.attempts(From::Open).len()
    }

    /// Hold, number and reserve of such attempts.
    pub fn attempts(&self, from: From) -> Vec<(Id, u32, Id)> {
        let mut all = Vec::new();
        for request in &self.requests {
            let is_decided = matches!(request.record, Record::Answered | Record::Released);
            for (number, attempt) in (1..).zip(&request.attempts) {
                if match from {
                    From::Open => attempt.known == Known::Open,
                    From::Again => request.attempts.len() > 1 && !is_decided,
                    From::Any => true,
                } {
                    all.push((request.id, number, attempt.reserve));
                }
            }
        }
        all
    }

    /// Holds of which nobody knows the outcome.
    pub fn unknown_holds(&self) -> Vec<Id> {
        let requests = self.requests.iter();
        let unknown = requests.filter(|request| request.record == Record::Unknown);
        unknown.map(|request| request.id).collect()
    }

    /// What a request asked for, on the grant as it is now.
    pub fn asked(&self, id: Id) -> Option<Ask> {
        let request = self.requests.iter().find(|one| one.id == id)?;
        let key = request.ask.key;
        let purchase = request.ask.purchase.unwrap_or_default();
        Some(Ask {
            version: Some(self.version(key)),
            purchase: (request.ask.is_purchase() && self.is_ruled(key)).then_some(purchase),
            ..request.ask.clone()
        })
    }

    /// How many budgets' brakes have tripped.
    pub fn tripped(&self) -> usize {
        let budgets = self.budgets.iter();
        let tripped = budgets.filter(|budget| budget.state == BudgetIs::Tripped);
        tripped.count()
    }

    /// How many holds are answered and may still move.
    pub fn open_object_holds(&self) -> usize {
        let requests = self.requests.iter();
        let open = requests.filter(|one| (one.record, one.hold) == (Record::Answered, Hold::Held));
        open.count()
    }

    /// How the audit shows an admitted write: outcome, cost, attempts.
    pub fn ended(&self, id: Id) -> Option<(EntryOutcome, Option<Cents>, u32)> {
        let mut requests = self.requests.iter();
        let request = requests.find(|one| one.id == id && !one.ask.is_read)?;
        let outcome = match (request.record, request.hold) {
            (Record::InFlight, _) => EntryOutcome::InFlight,
            (Record::Unknown, _) => EntryOutcome::Unknown,
            (Record::Released, _) | (_, Hold::Released) => EntryOutcome::Released,
            (Record::Answered, Hold::Held) => EntryOutcome::Held,
            (Record::Answered, _) => EntryOutcome::Settled,
        };
        let attempts = u32::try_from(request.attempts.len()).unwrap();
        Some((outcome, request.cost, attempts))
    }
}
