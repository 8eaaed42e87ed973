//! Reserve: may this request be made?

use std::sync::Arc;

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::lifecycle::{
    Likeness, OnReserve, RecordState, State, VendorWindow, on_reserve,
};
use keybrake_contract::money::Micros;
use keybrake_contract::refusal::{CapLeft, Refusal, RefusalCode};
use keybrake_contract::wire::{
    Admitted, CommandResult, Cost, CountedReason, Forward, Idempotency, Replay, Reserve,
};

use super::remembered::Remembered;
use super::summary;
use super::writer::Writer;
use crate::audit::{BalanceAfter, CapRefused, Decided, Replayed, canonical};
use crate::book::{Capped, KnownObject, PricedBy, Pricing, price};
use crate::model::EntryOutcome;
use crate::store::{
    Admission, AttemptState, FullKey, HoldChange, HoldRow, Kind, Link, NewRequest, PlaceNumber,
    RecordKey, RequestNumber, Store, StoreError,
};

/// What every step of a reserve needs.
pub(super) struct Asking<'a> {
    pub command: &'a Reserve,
    pub digest: &'a Digest,
    pub key: &'a FullKey,
    pub place: PlaceNumber,
}

/// A request's price, as far as it is known.
#[derive(Clone, Copy, Default)]
pub(super) struct Price {
    pub cost: Option<Micros>,
    pub amount: Option<keybrake_contract::money::Minor>,
    pub by: Option<PricedBy>,
}

impl<S: Store> Writer<S> {
    pub(super) fn reserve(
        &mut self,
        command: &Reserve,
        digest: &Digest,
    ) -> Result<CommandResult, StoreError> {
        if let Some(row) = self.known_request(command.id)? {
            return self.repeated_request(&row, command.id, digest);
        }
        if let Some(answer) = self.repeated(command.id, digest)? {
            return Ok(answer);
        }
        let Some(key) = self.key(&command.key_digest)? else {
            self.count(CountedReason::VaultKeyInvalid, &command.request.vendor, 1);
            return Ok(CommandResult::Refused(Refusal::plain(
                RefusalCode::VaultKeyInvalid,
            )));
        };
        let facts = &command.request;
        let place = self.store.place(
            &facts.vendor,
            &facts.credential,
            facts.vendor_account.as_deref(),
        )?;
        let asking = Asking {
            command,
            digest,
            key: &key,
            place,
        };
        if let Some(code) = self.unusable(&key) {
            return self.refuse(&asking, Refusal::plain(code), Price::default(), None);
        }
        if command.grant_version != Some(key.key.grant.version) {
            let grant = Box::new(key.key.grant.clone());
            self.remember(command.id, digest, &Remembered::Grant(grant.clone()))?;
            return Ok(CommandResult::Grant(grant));
        }
        if facts.vendor != key.key.grant.vendor {
            let refusal = Refusal::plain(RefusalCode::VendorNotAllowed);
            return self.refuse(&asking, refusal, Price::default(), None);
        }
        match (&command.idempotency, command.forward) {
            (Some(idempotency), Forward::Detached) => self.with_record(&asking, idempotency),
            _ => self.admit(&asking, None, None),
        }
    }

    /// Why this key cannot be used just now, if it cannot.
    pub(super) fn unusable(&self, key: &FullKey) -> Option<RefusalCode> {
        if key.key.revoked_at.is_some() {
            Some(RefusalCode::VaultKeyRevoked)
        } else if key.key.expires_at.as_millisecond() <= self.now {
            Some(RefusalCode::VaultKeyExpired)
        } else {
            None
        }
    }

    fn with_record(
        &mut self,
        asking: &Asking<'_>,
        idempotency: &Idempotency,
    ) -> Result<CommandResult, StoreError> {
        let facts = &asking.command.request;
        let record_key = RecordKey::new(
            &facts.vendor,
            &facts.credential,
            facts.vendor_account.as_deref(),
            &idempotency.key,
        );
        let known = match self.store.record(&record_key)? {
            Some(number) => self.store.hold(number)?,
            None => None,
        };
        let Some(row) = known else {
            return self.admit(asking, Some(&record_key), None);
        };
        let likeness = self.likeness(asking.key, idempotency, &row)?;
        let window = self.vendor_window(&facts.vendor, row.at);
        match on_reserve(Some(row.state.record), likeness, window) {
            OnReserve::NewHold => self.admit(asking, Some(&record_key), Some(&row)),
            OnReserve::NextAttempt => self.next_attempt(asking, &row),
            OnReserve::Replay => self.replay(asking, &row),
            OnReserve::InFlight => {
                let command = asking.command;
                self.remember(command.id, asking.digest, &Remembered::InFlight)?;
                Ok(CommandResult::InFlight)
            }
            OnReserve::OutcomeUnknown => {
                let refusal = Refusal::plain(RefusalCode::OutcomeUnknown);
                self.refuse(asking, refusal, Price::default(), None)
            }
            OnReserve::Mismatch => {
                let refusal = Refusal::plain(RefusalCode::IdempotencyError);
                self.refuse(asking, refusal, Price::default(), None)
            }
        }
    }

    fn likeness(
        &mut self,
        key: &FullKey,
        idempotency: &Idempotency,
        row: &HoldRow,
    ) -> Result<Likeness, StoreError> {
        if row.fingerprint != Some(idempotency.fingerprint) {
            return Ok(Likeness::Other);
        }
        let owner = if row.key == key.number {
            None
        } else {
            self.store.workspace(row.key)?
        };
        if owner.is_some_and(|owner| owner != key.key.workspace) {
            return Ok(Likeness::Other);
        }
        Ok(if row.full_fingerprint == idempotency.full_fingerprint {
            Likeness::Same
        } else {
            Likeness::SamePurchase
        })
    }

    /// Whether the vendor still remembers a key that it may have seen first at this instant.
    fn vendor_window(&self, vendor: &str, first_attempt_at: i64) -> VendorWindow {
        let age = self.now.saturating_sub(first_attempt_at);
        match self.vendor_memory_ms.get(vendor) {
            Some(memory_ms) if age < *memory_ms => VendorWindow::Open,
            _ => VendorWindow::Closed,
        }
    }

    /// Prices, debits every balance or none, and puts the request on record as a new hold.
    fn admit(
        &mut self,
        asking: &Asking<'_>,
        record_key: Option<&RecordKey>,
        superseded: Option<&HoldRow>,
    ) -> Result<CommandResult, StoreError> {
        let (command, key) = (asking.command, &asking.key.key);
        let caps = &key.caps;
        let price = match self.priced(asking)? {
            Ok(price) => price,
            Err(refused) => {
                let (refusal, price) = *refused;
                return self.refuse(asking, refusal, price, None);
            }
        };
        if let (Some(cost), Some(most)) = (price.cost, caps.per_request)
            && cost > most
        {
            let refusal = cap_refusal("per_request_usd_cap", price.cost, Some(most), None);
            return self.refuse(asking, refusal, price, None);
        }
        let balances = match self.debit(asking.key, price.cost)? {
            Ok(balances) => balances,
            Err(cap) => {
                let refusal = Refusal {
                    code: RefusalCode::SpendCapExceeded,
                    cap: Some(*cap),
                };
                return self.refuse(asking, refusal, price, None);
            }
        };
        let number = self.store.next_request()?;
        let admission = Admission::Admitted {
            most: caps.max_requests,
        };
        let previous = match self.store.link(asking.key.number, number, admission)? {
            Link::Linked(previous) => previous,
            Link::Full => {
                self.give_back(asking.key, price.cost)?;
                let refusal = cap_refusal("max_requests", None, None, None);
                return self.refuse(asking, refusal, price, Some(number));
            }
        };
        let forwarded_before = match superseded {
            Some(row) => row.forwarded_before || self.was_forwarded(row, u32::MAX)?,
            None => false,
        };
        let event = self.decided(asking, Some(1), price, &balances, None, command.id)?;
        let idempotency = command.idempotency.as_ref();
        self.store.add_request(&NewRequest {
            number,
            id: command.id,
            digest: asking.digest,
            at: self.now,
            key: asking.key.number,
            previous,
            label: &key.label,
            run_id: command.request.run_id.as_deref(),
            place: asking.place,
            operation: &command.request.operation,
            event,
            kind: match command.forward {
                Forward::Read => Kind::Read,
                Forward::Detached => Kind::Write,
            },
            reason: None,
            record_key,
            idempotency_key: idempotency.map(|idempotency| idempotency.key.as_str()),
            client_key: idempotency.and_then(|idempotency| idempotency.client_key.as_deref()),
            fingerprint: idempotency.map(|idempotency| &idempotency.fingerprint),
            full_fingerprint: idempotency
                .and_then(|idempotency| idempotency.full_fingerprint.as_ref()),
            amount: price.amount,
            cost: price.cost,
            deadline: Some(self.deadline(command.forward_timeout_ms)),
            forwarded_before,
        })?;
        match record_key {
            Some(record_key) => {
                self.store.set_record(record_key, number)?;
                if let Some(row) = superseded {
                    self.store.add_mention(record_key.mentioned(), row.number)?;
                }
            }
            None => self.mention(idempotency.map(|given| given.key.as_str()), number)?,
        }
        self.mention(
            idempotency.and_then(|given| given.client_key.as_deref()),
            number,
        )?;
        self.open_attempts = self.open_attempts.saturating_add(1);
        Ok(CommandResult::Admitted(Admitted {
            hold: command.id,
            attempt: 1,
            forward_within_ms: self.options.forward_within_ms,
        }))
    }

    fn priced(
        &mut self,
        asking: &Asking<'_>,
    ) -> Result<Result<Price, Box<(Refusal, Price)>>, StoreError> {
        let key = &asking.key.key;
        let object = match &asking.command.cost {
            Cost::OfObject(named) => self.known_object(asking.place, &named.object)?,
            Cost::Nothing | Cost::Amount(_) | Cost::Unknown => None,
        };
        let capped = if key.caps.is_uncapped() {
            Capped::No
        } else {
            Capped::Yes
        };
        Ok(
            match price(&asking.command.cost, object, capped, key.worst_case) {
                Pricing::Priced { cost, amount, by } => Ok(Price {
                    cost,
                    amount,
                    by: Some(by),
                }),
                Pricing::AboveEveryCap(minor) => {
                    let (limit, left) = tightest(&key.caps);
                    let price = Price {
                        amount: Some(minor),
                        ..Price::default()
                    };
                    Err(Box::new((cap_refusal(limit, None, left, None), price)))
                }
                Pricing::AmountUnknown(amount) => {
                    let price = Price {
                        amount,
                        ..Price::default()
                    };
                    let refusal = Refusal::plain(RefusalCode::AmountUnknown);
                    Err(Box::new((refusal, price)))
                }
            },
        )
    }

    fn known_object(
        &mut self,
        place: PlaceNumber,
        object: &str,
    ) -> Result<Option<KnownObject>, StoreError> {
        let Some(known) = self.store.object(place, object)? else {
            return Ok(None);
        };
        let open = self.store.open_holds(place, object)?;
        let held = open.iter().try_fold(Micros::ZERO, |sum, row| {
            sum.checked_add(row.cost.unwrap_or_default())
        });
        Ok(Some(KnownObject {
            amount: known.amount,
            open: held.filter(|_| !open.is_empty()),
        }))
    }

    /// The next attempt on a hold whose outcome is unknown: no debit, the money stays unknown.
    fn next_attempt(
        &mut self,
        asking: &Asking<'_>,
        row: &HoldRow,
    ) -> Result<CommandResult, StoreError> {
        let command = asking.command;
        let attempt = row.attempts.saturating_add(1);
        let deadline = self.deadline(command.forward_timeout_ms);
        self.store
            .add_attempt(row.number, attempt, command.id, deadline)?;
        self.store.change_hold(
            row.number,
            &HoldChange {
                state: State {
                    record: RecordState::InFlight,
                    hold: row.state.hold,
                },
                outcome: EntryOutcome::InFlight,
                cost: row.cost,
                amount: row.amount,
                attempts: attempt,
                first_attempt: row.first_attempt,
                said: None,
            },
        )?;
        let price = Price {
            cost: row.cost,
            amount: row.amount,
            by: None,
        };
        self.decided(asking, Some(attempt), price, &[], None, row.id)?;
        let remembered = Remembered::Attempt {
            hold: row.id,
            attempt,
        };
        self.remember(command.id, asking.digest, &remembered)?;
        self.open_attempts = self.open_attempts.saturating_add(1);
        Ok(self.attempt_answer(row.id, attempt))
    }

    pub(super) const fn attempt_answer(&self, hold: CommandId, attempt: u32) -> CommandResult {
        CommandResult::Admitted(Admitted {
            hold,
            attempt,
            forward_within_ms: self.options.forward_within_ms,
        })
    }

    fn replay(&mut self, asking: &Asking<'_>, row: &HoldRow) -> Result<CommandResult, StoreError> {
        let command = asking.command;
        let answer = self.replay_of(row)?;
        let with = match &answer {
            CommandResult::Replay(replay) if replay.summary => "summary",
            _ => "answer",
        };
        self.store.count_replay(row.number)?;
        canonical(
            &Replayed {
                at: self.now,
                event: "replayed",
                hold: row.id,
                key_id: &asking.key.key.key_id,
                request_id: &command.request.request_id,
                reserve: command.id,
                run_id: command.request.run_id.as_deref(),
                with,
            },
            &mut self.buffer,
        )
        .map_err(not_canonical)?;
        self.append()?;
        self.remember(command.id, asking.digest, &Remembered::Replay(row.number))?;
        Ok(answer)
    }

    /// The stored answer of a request, or a summary of it.
    pub(super) fn replay_of(&mut self, row: &HoldRow) -> Result<CommandResult, StoreError> {
        let known = self.store.answer(row.number)?;
        let (answer, summary) = match known {
            Some(known) => (known.answer, known.is_summary),
            None => (summary::of_row(row), true),
        };
        Ok(CommandResult::Replay(Box::new(Replay {
            hold: row.id,
            answer,
            summary,
        })))
    }

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
            cost: price.cost,
            deadline: None,
            forwarded_before: false,
        })?;
        self.mention(key, number)?;
        self.mention(client_key, number)?;
        self.refused(refusal.code);
        Ok(CommandResult::Refused(refusal))
    }

    /// Writes the event of a decision.
    fn decided(
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
            by: refusal.map(|_| "ledger"),
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
            vendor: &facts.vendor,
            workspace: &key.workspace,
        };
        canonical(&event, &mut self.buffer).map_err(not_canonical)?;
        self.append()
    }

    fn deadline(&self, forward_timeout_ms: u32) -> i64 {
        [
            self.options.forward_within_ms,
            forward_timeout_ms,
            self.options.sweep_grace_ms,
        ]
        .into_iter()
        .fold(self.now, |sum, ms| sum.saturating_add(i64::from(ms)))
    }

    /// Whether an attempt of this hold before `attempt` may have reached the vendor.
    pub(super) fn was_forwarded(
        &mut self,
        row: &HoldRow,
        attempt: u32,
    ) -> Result<bool, StoreError> {
        if attempt <= 1 {
            return Ok(false);
        }
        if row.first_attempt != AttemptState::NotForwarded {
            return Ok(true);
        }
        if row.attempts < 2 {
            return Ok(false);
        }
        let later = self.store.later_attempts(row.number)?;
        Ok(later
            .iter()
            .any(|other| other.attempt < attempt && other.state != AttemptState::NotForwarded))
    }

    /// The key with this digest.
    pub(super) fn key(&mut self, digest: &Digest) -> Result<Option<Arc<FullKey>>, StoreError> {
        if let Some(key) = self.keys.get(digest) {
            return Ok(Some(key));
        }
        let Some(key) = self.store.key_by_digest(digest)? else {
            return Ok(None);
        };
        let key = Arc::new(key);
        self.keys.put(Arc::clone(&key));
        Ok(Some(key))
    }
}

pub(super) fn not_canonical(error: serde_json::Error) -> StoreError {
    StoreError(format!("an event cannot be written: {error}"))
}

pub(super) fn cap_refusal(
    limit: &str,
    asked: Option<Micros>,
    left: Option<Micros>,
    resets_at: Option<String>,
) -> Refusal {
    Refusal {
        code: RefusalCode::SpendCapExceeded,
        cap: Some(CapLeft {
            limit: limit.to_owned(),
            asked,
            left,
            resets_at,
        }),
    }
}

/// The first cap that is set, for a request that passes all of them.
fn tightest(caps: &crate::model::Caps) -> (&'static str, Option<Micros>) {
    [
        ("per_request_usd_cap", caps.per_request),
        ("daily_usd_cap", caps.daily),
        ("monthly_usd_cap", caps.monthly),
    ]
    .into_iter()
    .find(|(_, cap)| cap.is_some())
    .unwrap_or(("lifetime_usd_cap", caps.lifetime))
}
