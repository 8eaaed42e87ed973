//! Reserve: may this request be made?

use std::sync::Arc;

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::lifecycle::{
    Likeness, OnReserve, RecordState, State, VendorWindow, on_reserve,
};
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::{
    Admitted, CommandResult, CountedReason, Idempotency, Replay, Reserve, StoredAnswer,
};

use super::decided::{Asking, Price};
use super::duplicates::wrong_purchases;
use super::path::{grant_version, shut, told_grant};
use super::remembered::Remembered;
use super::summary;
use super::writer::Writer;
use crate::audit::Replayed;
use crate::model::EntryOutcome;
use crate::store::{AttemptState, FullKey, HoldChange, HoldRow, RecordKey, Store, StoreError};

impl<S: Store> Writer<S> {
    pub(super) fn reserve(
        &mut self,
        command: &Reserve,
        digest: &Digest,
        record_key: Option<&RecordKey>,
    ) -> Result<CommandResult, StoreError> {
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
        let path = self.path_of(&key)?;
        let path = path.as_deref();
        let asking = Asking {
            command,
            digest,
            key: &key,
            path,
            place,
        };
        if let Some(code) = self.unusable(&key) {
            return self.refuse(&asking, Refusal::plain(code), Price::default(), None);
        }
        if command.grant_version != Some(grant_version(&key, path)) {
            let grant = told_grant(&key, path);
            self.remember(command.id, digest, &Remembered::Grant(grant.clone()))?;
            return Ok(CommandResult::Grant(grant));
        }
        if facts.vendor != key.key.grant.vendor {
            let refusal = Refusal::plain(RefusalCode::VendorNotAllowed);
            return self.refuse(&asking, refusal, Price::default(), None);
        }
        if let Some(wrong) = wrong_purchases(&asking) {
            return Ok(CommandResult::InvalidCommand(wrong.to_owned()));
        }
        match (&command.idempotency, record_key) {
            (Some(idempotency), Some(record_key)) => {
                self.with_record(&asking, idempotency, record_key)
            }
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
        record_key: &RecordKey,
    ) -> Result<CommandResult, StoreError> {
        let known = match self.store.record(record_key)? {
            Some(number) => self.store.hold(number)?,
            None => None,
        };
        let Some(row) = known else {
            return self.admit(asking, Some(record_key), None);
        };
        let likeness = self.likeness(asking.key, idempotency, &row)?;
        let window = self.vendor_window(&asking.command.request.vendor, row.at);
        match on_reserve(Some(row.state.record), likeness, window) {
            OnReserve::NewHold => self.admit(asking, Some(record_key), Some(&row)),
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
        let memory_ms = self.terms.get(vendor).and_then(|terms| terms.memory_ms);
        match memory_ms {
            Some(memory_ms) if age < memory_ms => VendorWindow::Open,
            _ => VendorWindow::Closed,
        }
    }

    /// The next attempt on a hold whose outcome is unknown: no debit, the money stays unknown.
    fn next_attempt(
        &mut self,
        asking: &Asking<'_>,
        row: &HoldRow,
    ) -> Result<CommandResult, StoreError> {
        // It draws on the budgets of its hold, and is made by this key.
        let path = self.path(row.budget)?;
        if let Some(refusal) = shut(path.as_deref()).or_else(|| shut(asking.path)) {
            return self.refuse(asking, refusal, Price::default(), None);
        }
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
            rate: row.rate,
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
            CommandResult::Replay(replay) if replay.retrieved => "retrieved",
            _ => "answer",
        };
        self.store.count_replay(row.number)?;
        self.tell(&Replayed {
            at: self.now,
            event: "replayed",
            hold: row.id,
            key_id: &asking.key.key.key_id,
            request_id: &command.request.request_id,
            reserve: command.id,
            run_id: command.request.run_id.as_deref(),
            with,
        })?;
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
        let retrieved = !summary && self.is_retrieved(row, &answer)?;
        Ok(CommandResult::Replay(Box::new(Replay {
            hold: row.id,
            answer,
            summary,
            retrieved,
        })))
    }

    /// Whether a stored answer is the one that came with the evidence that decided its request.
    fn is_retrieved(&mut self, row: &HoldRow, answer: &StoredAnswer) -> Result<bool, StoreError> {
        #[derive(serde::Deserialize)]
        struct Told {
            answer_sha256: Option<Digest>,
        }
        let Some(event) = row.resolution else {
            return Ok(false);
        };
        let body = self.store.event(event)?.unwrap_or_default();
        let told = serde_json::from_slice(&body).ok();
        Ok(told.is_some_and(|told: Told| {
            told.answer_sha256 == Some(Digest::of(answer.body.as_bytes()))
        }))
    }

    pub(super) fn deadline(&self, forward_timeout_ms: u32) -> i64 {
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
