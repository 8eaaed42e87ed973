//! Decisions on record: the event of each, and the row of a refusal.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::money::{Micros, Minor};
use keybrake_contract::refusal::Refusal;
use keybrake_contract::wire::{CommandResult, Reserve};

use super::path::Path;
use super::writer::Writer;
use crate::audit::{BalanceAfter, CapRefused, Decided};
use crate::book::{PricedBy, Rate};
use crate::store::{
    Admission, FullKey, Kind, Link, NewRequest, PlaceNumber, RequestNumber, Store, StoreError,
};

/// What every step of a reserve needs.
pub(super) struct Asking<'a> {
    pub command: &'a Reserve,
    pub digest: &'a Digest,
    pub key: &'a FullKey,
    /// The budgets that the key draws from.
    pub path: Option<&'a Path>,
    pub place: PlaceNumber,
}

/// A request's price, as far as it is known.
#[derive(Clone, Copy, Default)]
pub(super) struct Price {
    pub cost: Option<Micros>,
    pub amount: Option<Minor>,
    pub rate: Option<Rate>,
    pub by: Option<PricedBy>,
}

impl<S: Store> Writer<S> {
    /// Puts a refusal on record. `number`: one that was drawn already and not used.
    pub(super) fn refuse(
        &mut self,
        asking: &Asking<'_>,
        refusal: Refusal,
        price: Price,
        number: Option<RequestNumber>,
    ) -> Result<CommandResult, StoreError> {
        let command = asking.command;
        let number = match number {
            Some(number) => number,
            None => self.store.next_request()?,
        };
        let previous = match self
            .store
            .link(asking.key.number, number, Admission::Refused)?
        {
            Link::Linked(previous) => previous,
            Link::Full => None,
        };
        let event = self.decided(asking, None, price, &[], Some(&refusal), command.id)?;
        let idempotency = command.idempotency.as_ref();
        let key = idempotency.map(|idempotency| idempotency.key.as_str());
        let client_key = idempotency.and_then(|given| given.client_key.as_deref());
        self.store.add_request(&NewRequest {
            number,
            id: command.id,
            digest: asking.digest,
            at: self.now,
            key: asking.key.number,
            budget: asking.key.budget,
            previous,
            label: &asking.key.key.label,
            run_id: command.request.run_id.as_deref(),
            place: asking.place,
            operation: &command.request.operation,
            event,
            kind: Kind::Refused,
            reason: Some(refusal.code.as_str()),
            record_key: None,
            idempotency_key: key,
            client_key,
            fingerprint: None,
            full_fingerprint: None,
            amount: price.amount,
            rate: price.rate,
            cost: price.cost,
            deadline: None,
            forwarded_before: false,
        })?;
        self.mention(key, number)?;
        self.mention(client_key, number)?;
        self.refused(refusal.code);
        self.brake(asking.path, refusal.code, number, command.id)?;
        Ok(CommandResult::Refused(refusal))
    }

    /// Writes the event of a decision.
    pub(super) fn decided(
        &mut self,
        asking: &Asking<'_>,
        attempt: Option<u32>,
        price: Price,
        balances: &[BalanceAfter],
        refusal: Option<&Refusal>,
        hold: CommandId,
    ) -> Result<u64, StoreError> {
        let (command, key) = (asking.command, &asking.key.key);
        let facts = &command.request;
        let idempotency = command.idempotency.as_ref();
        let event = Decided {
            account: facts.vendor_account.as_deref(),
            amount: price.amount.map(|minor| minor.amount),
            at: self.now,
            attempt,
            balances,
            budget: key.budget.as_deref(),
            by: refusal.map(|_| "ledger"),
            by_budget: refusal.and_then(|refusal| refusal.budget.as_deref()),
            cap: refusal
                .and_then(|refusal| refusal.cap.clone())
                .map(|cap| CapRefused {
                    asked: cap.asked,
                    left: cap.left,
                    limit: cap.limit,
                    resets_at: cap.resets_at,
                }),
            client_idempotency_key: idempotency.and_then(|given| given.client_key.as_deref()),
            code: refusal.map(|refusal| refusal.code),
            cost: price.cost,
            credential: &facts.credential,
            currency: price.amount.map(|minor| minor.currency),
            earlier_request_id: refusal.and_then(|refusal| refusal.earlier_request_id.as_deref()),
            event: if refusal.is_some() {
                "refused"
            } else {
                "admitted"
            },
            fingerprint: idempotency.map(|given| &given.fingerprint),
            full_fingerprint: idempotency.and_then(|given| given.full_fingerprint.as_ref()),
            grant_version: command.grant_version,
            hold,
            idempotency_key: idempotency.map(|given| given.key.as_str()),
            key_id: &key.key_id,
            label: &key.label,
            method: &facts.method,
            operation: &facts.operation,
            param: None,
            params: &facts.params,
            path: &facts.path,
            priced_by: price.by,
            request_id: &facts.request_id,
            reserve: Some(command.id).filter(|id| *id != hold),
            run_id: facts.run_id.as_deref(),
            traceparent: facts.traceparent.as_deref(),
            usd_per_unit: price.rate.map(|rate| rate.to_string()),
            vendor: &facts.vendor,
            workspace: &key.workspace,
        };
        self.tell(&event)
    }
}
