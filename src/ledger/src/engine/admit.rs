//! Admission of a new hold: its price, its debits, its place on record.

use keybrake_contract::money::Micros;
use keybrake_contract::refusal::{CapLeft, Refusal, RefusalCode};
use keybrake_contract::wire::{CommandResult, Cost, Forward};

use super::decided::{Asking, Price};
use super::path::{capped, shut, subjects};
use super::writer::Writer;
use crate::book::{KnownObject, PriceTerms, Pricing, Rates, price};
use crate::model::Caps;
use crate::store::{
    Admission, HoldRow, Kind, Link, NewRequest, RecordKey, RequestNumber, Store, StoreError,
};

/// Of a vendor without a pack.
static NO_RATES: Rates = Rates::NONE;

/// Why a request has no price: the refusal, and what is known of the price all the same.
type Unpriced = Box<(Refusal, Price)>;

/// Where a new hold stands.
struct Placing<'a> {
    number: RequestNumber,
    /// The key's request before it.
    previous: Option<RequestNumber>,
    event: u64,
    record_key: Option<&'a RecordKey>,
    /// The released hold whose record it takes over.
    superseded: Option<&'a HoldRow>,
}

impl<S: Store> Writer<S> {
    /// Prices, debits every balance or none, and puts the request on record as a new hold.
    pub(super) fn admit(
        &mut self,
        asking: &Asking<'_>,
        record_key: Option<&RecordKey>,
        superseded: Option<&HoldRow>,
    ) -> Result<CommandResult, StoreError> {
        if let Some(refusal) = shut(asking.path) {
            return self.refuse(asking, refusal, Price::default(), None);
        }
        let price = match self.priced(asking)? {
            Ok(price) => price,
            Err(unpriced) => {
                let (refusal, price) = *unpriced;
                return self.refuse(asking, refusal, price, None);
            }
        };
        if let Some(refusal) = above_per_request(asking, price) {
            return self.refuse(asking, refusal, price, None);
        }
        if let Some(refusal) = self.duplicate(asking)? {
            return self.refuse(asking, refusal, price, None);
        }
        let balances = match self.debit(asking, price.cost)? {
            Ok(balances) => balances,
            Err(refusal) => return self.refuse(asking, *refusal, price, None),
        };
        let number = self.store.next_request()?;
        let admission = Admission::Admitted {
            most: asking.key.key.caps.max_requests,
        };
        let previous = match self.store.link(asking.key.number, number, admission)? {
            Link::Linked(previous) => previous,
            Link::Full => {
                self.give_back(asking, price.cost)?;
                let refusal = cap_refusal("max_requests", None, None, None);
                return self.refuse(asking, refusal, price, Some(number));
            }
        };
        let id = asking.command.id;
        let event = self.decided(asking, Some(1), price, &balances, None, id)?;
        let place = Placing {
            number,
            previous,
            event,
            record_key,
            superseded,
        };
        self.put_hold(asking, price, &place)?;
        self.note_purchase(asking, number)?;
        self.open_attempts = self.open_attempts.saturating_add(1);
        Ok(self.attempt_answer(id, 1))
    }

    fn put_hold(
        &mut self,
        asking: &Asking<'_>,
        price: Price,
        placing: &Placing<'_>,
    ) -> Result<(), StoreError> {
        let (command, number) = (asking.command, placing.number);
        let forwarded_before = match placing.superseded {
            Some(row) => row.forwarded_before || self.was_forwarded(row, u32::MAX)?,
            None => false,
        };
        let idempotency = command.idempotency.as_ref();
        let key = idempotency.map(|given| given.key.as_str());
        let client_key = idempotency.and_then(|given| given.client_key.as_deref());
        self.store.add_request(&NewRequest {
            number,
            id: command.id,
            digest: asking.digest,
            at: self.now,
            key: asking.key.number,
            budget: asking.key.budget,
            previous: placing.previous,
            label: &asking.key.key.label,
            run_id: command.request.run_id.as_deref(),
            place: asking.place,
            operation: &command.request.operation,
            event: placing.event,
            kind: match command.forward {
                Forward::Read => Kind::Read,
                Forward::Detached => Kind::Write,
            },
            reason: None,
            record_key: placing.record_key,
            idempotency_key: key,
            client_key,
            fingerprint: idempotency.map(|given| &given.fingerprint),
            full_fingerprint: idempotency.and_then(|given| given.full_fingerprint.as_ref()),
            amount: price.amount,
            rate: price.rate,
            cost: price.cost,
            deadline: Some(self.deadline(command.forward_timeout_ms)),
            forwarded_before,
        })?;
        match placing.record_key {
            Some(record_key) => {
                self.store.set_record(record_key, number)?;
                if let Some(row) = placing.superseded {
                    self.store.add_mention(record_key.mentioned(), row.number)?;
                }
            }
            None => self.mention(key, number)?,
        }
        self.mention(client_key, number)
    }

    fn priced(&mut self, asking: &Asking<'_>) -> Result<Result<Price, Unpriced>, StoreError> {
        let key = &asking.key.key;
        let object = match &asking.command.cost {
            Cost::OfObject(named) => self.known_object(asking, &named.object)?,
            Cost::Nothing | Cost::Amount(_) | Cost::AtLeast(_) | Cost::Unknown => None,
        };
        let terms = PriceTerms {
            capped: capped(asking.key, asking.path),
            worst_case: key.worst_case,
            rates: self
                .terms
                .get(&key.grant.vendor)
                .map_or(&NO_RATES, |terms| &terms.rates),
        };
        Ok(match price(&asking.command.cost, object, terms) {
            Pricing::Priced {
                cost,
                amount,
                rate,
                by,
            } => Ok(Price {
                cost,
                amount,
                rate,
                by: Some(by),
            }),
            Pricing::AboveEveryCap(minor) => {
                let price = Price {
                    amount: Some(minor),
                    ..Price::default()
                };
                Err(Box::new((above_every_cap(asking), price)))
            }
            Pricing::AmountUnknown(amount) => {
                let price = Price {
                    amount,
                    ..Price::default()
                };
                let refusal = Refusal::plain(RefusalCode::AmountUnknown);
                Err(Box::new((refusal, price)))
            }
        })
    }

    fn known_object(
        &mut self,
        asking: &Asking<'_>,
        object: &str,
    ) -> Result<Option<KnownObject>, StoreError> {
        let terms = self.terms.get(&asking.key.key.grant.vendor);
        let payments = terms.map_or(&[][..], |terms| &terms.payments);
        let Some(known) = self.store.object(asking.place, object, payments)? else {
            return Ok(None);
        };
        let open = self.store.open_holds(asking.place, object)?;
        let held = open.iter().try_fold(Micros::ZERO, |sum, row| {
            sum.checked_add(row.cost.unwrap_or_default())
        });
        Ok(Some(KnownObject {
            amount: known.amount,
            rate: open.first().and_then(|row| row.rate),
            open: held.filter(|_| !open.is_empty()),
        }))
    }
}

pub(super) fn cap_refusal(
    limit: &str,
    asked: Option<Micros>,
    left: Option<Micros>,
    resets_at: Option<String>,
) -> Refusal {
    Refusal {
        cap: Some(CapLeft {
            limit: limit.to_owned(),
            asked,
            left,
            resets_at,
        }),
        ..Refusal::plain(RefusalCode::SpendCapExceeded)
    }
}

/// The refusal by the first limit for one request that this one is above.
fn above_per_request(asking: &Asking<'_>, price: Price) -> Option<Refusal> {
    let cost = price.cost?;
    subjects(asking.key, asking.path).find_map(|subject| {
        let most = subject.caps.per_request.filter(|most| cost > *most)?;
        let refusal = cap_refusal("per_request_usd_cap", price.cost, Some(most), None);
        Some(refusal.by_budget(subject.budget))
    })
}

/// The refusal of a request that passes every cap: by the first that is set.
fn above_every_cap(asking: &Asking<'_>) -> Refusal {
    let capped = subjects(asking.key, asking.path).find(|subject| !subject.caps.is_uncapped());
    let Some(subject) = capped else {
        return cap_refusal("lifetime_usd_cap", None, None, None);
    };
    let (limit, left) = tightest(subject.caps);
    cap_refusal(limit, None, left, None).by_budget(subject.budget)
}

/// The first cap that is set, for a request that passes all of them.
fn tightest(caps: &Caps) -> (&'static str, Option<Micros>) {
    [
        ("per_request_usd_cap", caps.per_request),
        ("daily_usd_cap", caps.daily),
        ("monthly_usd_cap", caps.monthly),
        ("rolling_usd_cap", caps.rolling.map(|rolling| rolling.cap)),
    ]
    .into_iter()
    .find(|(_, cap)| cap.is_some())
    .unwrap_or(("lifetime_usd_cap", caps.lifetime))
}
