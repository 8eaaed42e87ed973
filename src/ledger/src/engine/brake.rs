//! The brake: refusals under a budget are counted, and enough of them in a short time stop every key under it.

use keybrake_contract::ids::CommandId;
use keybrake_contract::refusal::RefusalCode;

use super::alarms::AlarmKind;
use super::path::{Path, Tier, tiers};
use super::writer::Writer;
use crate::audit::Tripped;
use crate::clock::timestamp;
use crate::model::{BudgetState, TripOn};
use crate::store::{RequestNumber, Store, StoreError};

impl<S: Store> Writer<S> {
    /// Counts a refusal that is on record as this request, for every brake on the way to the root.
    pub(super) fn brake(
        &mut self,
        path: Option<&Path>,
        code: RefusalCode,
        request: RequestNumber,
        id: CommandId,
    ) -> Result<(), StoreError> {
        if !counts(code) {
            return Ok(());
        }
        for tier in tiers(path) {
            let Some(trip_on) = tier.budget.trip_on else {
                continue;
            };
            if tier.budget.state != BudgetState::Open {
                continue;
            }
            let within_ms = i64::from(trip_on.within_seconds).saturating_mul(1_000);
            let since = self.now.saturating_sub(within_ms);
            let count = self
                .store
                .note_refusal(tier.number, request, self.now, since)?;
            if count >= u64::from(trip_on.refusals) {
                self.trip(tier, trip_on, id)?;
            }
        }
        Ok(())
    }

    fn trip(&mut self, tier: &Tier, trip_on: TripOn, id: CommandId) -> Result<(), StoreError> {
        let Some(full) = self.store.budget(tier.number)? else {
            return Err(StoreError::new("a budget is missing".to_owned()));
        };
        let mut budget = full.budget;
        budget.state = BudgetState::Tripped;
        budget.tripped_at = Some(timestamp(self.now));
        budget.version = budget.version.saturating_add(1);
        self.store.change_budget(tier.number, &budget)?;
        self.paths.clear();
        self.tell(&Tripped {
            at: self.now,
            budget: &budget.name,
            event: "budget_tripped",
            hold: id,
            refusals: trip_on.refusals,
            within_seconds: trip_on.within_seconds,
        })?;
        self.alarm(AlarmKind::BudgetTripped, Some(id), None)
    }
}

/// Whether a refusal says that something goes wrong. One by the budget's own state is the brake at work, and a key that
/// has ended was stopped on purpose: its workload, asking on, must not stop the others.
const fn counts(code: RefusalCode) -> bool {
    !matches!(
        code,
        RefusalCode::BudgetFrozen
            | RefusalCode::BudgetTripped
            | RefusalCode::VaultKeyExpired
            | RefusalCode::VaultKeyRevoked
    )
}
