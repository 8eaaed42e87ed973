//! What the filter refused: put on record for known keys, counted for the rest.

use keybrake_contract::digest::Digest;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::{CommandResult, CountedReason, RefusalCount, Refused};

use super::alarms::AlarmKind;
use super::path::{grant_version, told_grant};
use super::remembered::Remembered;
use super::writer::Writer;
use crate::audit::{Counted, Decided};
use crate::store::{Admission, FullKey, Kind, Link, NewRequest, RequestNumber, Store, StoreError};

impl<S: Store> Writer<S> {
    pub(super) fn refused_by_filter(
        &mut self,
        command: &Refused,
        digest: &Digest,
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
        let path = self.path_of(&key)?;
        let path = path.as_deref();
        if let Some(code) = self.unusable(&key) {
            self.put_on_record(command, digest, &key, code)?;
            return Ok(CommandResult::Refused(Refusal::plain(code)));
        }
        if command
            .grant_version
            .is_some_and(|version| version != grant_version(&key, path))
        {
            let grant = told_grant(&key, path);
            self.remember(command.id, digest, &Remembered::Grant(grant.clone()))?;
            return Ok(CommandResult::Grant(grant));
        }
        let number = self.put_on_record(command, digest, &key, command.code)?;
        self.brake(path, command.code, number, command.id)?;
        Ok(CommandResult::Recorded)
    }

    /// `code` is the filter's own, or says why the key cannot be used at all: then the ledger refuses.
    fn put_on_record(
        &mut self,
        command: &Refused,
        digest: &Digest,
        key: &FullKey,
        code: RefusalCode,
    ) -> Result<RequestNumber, StoreError> {
        let facts = &command.request;
        let account = facts.vendor_account.as_deref();
        let place = self
            .store
            .place(&facts.vendor, &facts.credential, account)?;
        let number = self.store.next_request()?;
        let previous = match self.store.link(key.number, number, Admission::Refused)? {
            Link::Linked(previous) => previous,
            Link::Full => None,
        };
        let (kind, by) = if matches!(
            code,
            RefusalCode::VaultKeyRevoked | RefusalCode::VaultKeyExpired
        ) {
            (Kind::Refused, "ledger")
        } else {
            (Kind::RefusedByFilter, "filter")
        };
        let event = self.refusal_event(command, key, code, by)?;
        self.store.add_request(&NewRequest {
            number,
            id: command.id,
            digest,
            at: self.now,
            key: key.number,
            budget: key.budget,
            previous,
            label: &key.key.label,
            run_id: facts.run_id.as_deref(),
            place,
            operation: &facts.operation,
            event,
            kind,
            reason: Some(code.as_str()),
            record_key: None,
            idempotency_key: command.idempotency_key.as_deref(),
            client_key: None,
            fingerprint: None,
            full_fingerprint: None,
            amount: command.amount,
            rate: None,
            cost: None,
            deadline: None,
            forwarded_before: false,
        })?;
        self.mention(command.idempotency_key.as_deref(), number)?;
        self.refused(code);
        Ok(number)
    }

    fn refusal_event(
        &mut self,
        command: &Refused,
        key: &FullKey,
        code: RefusalCode,
        by: &'static str,
    ) -> Result<u64, StoreError> {
        let facts = &command.request;
        let event = Decided {
            account: facts.vendor_account.as_deref(),
            amount: command.amount.map(|minor| minor.amount),
            at: self.now,
            attempt: None,
            balances: &[],
            budget: key.key.budget.as_deref(),
            by: Some(by),
            by_budget: None,
            cap: None,
            client_idempotency_key: None,
            code: Some(code),
            cost: None,
            credential: &facts.credential,
            currency: command.amount.map(|minor| minor.currency),
            earlier_request_id: None,
            event: "refused",
            fingerprint: None,
            full_fingerprint: None,
            grant_version: command.grant_version,
            hold: command.id,
            idempotency_key: command.idempotency_key.as_deref(),
            key_id: &key.key.key_id,
            label: &key.key.label,
            method: &facts.method,
            operation: &facts.operation,
            param: command.param.as_deref(),
            params: &facts.params,
            path: &facts.path,
            priced_by: None,
            request_id: &facts.request_id,
            reserve: None,
            run_id: facts.run_id.as_deref(),
            traceparent: facts.traceparent.as_deref(),
            usd_per_unit: None,
            vendor: &facts.vendor,
            workspace: &key.key.workspace,
        };
        self.tell(&event)
    }

    pub(super) fn refusal_count(
        &mut self,
        command: &RefusalCount,
        digest: &Digest,
    ) -> Result<CommandResult, StoreError> {
        if let Some(answer) = self.repeated(command.id, digest)? {
            return Ok(answer);
        }
        self.counted(command.reason, &command.listener, command.count)?;
        if command.reason == CountedReason::RealCredential {
            self.alarm(AlarmKind::RealCredential, Some(command.id), None)?;
        }
        self.refused_count(command.reason, command.count);
        self.remember(command.id, digest, &Remembered::Recorded)?;
        Ok(CommandResult::Recorded)
    }

    /// Writes the event of a count.
    fn counted(
        &mut self,
        reason: CountedReason,
        listener: &str,
        count: u64,
    ) -> Result<(), StoreError> {
        let event = Counted {
            at: self.now,
            count,
            event: "counted",
            listener,
            reason,
        };
        self.tell(&event)?;
        Ok(())
    }

    /// Counts a refusal that is on record only as a number, until the next [`Self::write_counts`].
    pub(super) fn count(&mut self, reason: CountedReason, listener: &str, count: u64) {
        let slot = self
            .counts
            .entry((reason, listener.to_owned()))
            .or_default();
        *slot = slot.saturating_add(count);
        self.refused_count(reason, count);
    }

    /// Writes what was counted as events.
    pub(super) fn write_counts(&mut self) -> Result<(), StoreError> {
        for ((reason, listener), count) in std::mem::take(&mut self.counts) {
            self.counted(reason, &listener, count)?;
        }
        Ok(())
    }
}
