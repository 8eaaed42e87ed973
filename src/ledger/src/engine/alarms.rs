//! What an operator must hear of.

use keybrake_contract::ids::{CommandId, HoldId};
use keybrake_contract::lifecycle;

use super::writer::Writer;
use crate::audit::Alarm;
use crate::store::{HoldRow, Store, StoreError};

/// The kinds of alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AlarmKind {
    /// Less than nothing is free.
    CapOverrun,
    /// The vendor took more than was held.
    AmountAboveHold,
    /// A hold that had been given back turned out to be executed.
    ExecutedAfterRelease,
    /// Two attempts of one hold were executed, on different objects.
    ExecutedTwice,
    /// The vendor replayed an answer to a request that we never made before.
    ReplayedByVendor,
    /// An outcome named a hold that is not on record.
    OutcomeWithoutHold,
    /// An outcome named an attempt that was never admitted.
    OutcomeWithoutAttempt,
    /// One command id, two commands.
    CommandIdConflict,
    /// A budget's brake tripped: every key under it is stopped until an admin opens it again.
    BudgetTripped,
    /// What looks like a real vendor secret was presented as a vault key.
    RealCredential,
}

impl AlarmKind {
    /// Its stable name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::CapOverrun => "cap_overrun",
            Self::AmountAboveHold => "amount_above_hold",
            Self::ExecutedAfterRelease => "executed_after_release",
            Self::ExecutedTwice => "executed_twice",
            Self::ReplayedByVendor => "replayed_by_vendor",
            Self::OutcomeWithoutHold => "outcome_without_hold",
            Self::OutcomeWithoutAttempt => "outcome_without_attempt",
            Self::CommandIdConflict => "command_id_conflict",
            Self::BudgetTripped => "budget_tripped",
            Self::RealCredential => "real_credential",
        }
    }
}

impl From<lifecycle::Alarm> for AlarmKind {
    fn from(alarm: lifecycle::Alarm) -> Self {
        match alarm {
            lifecycle::Alarm::ExecutedAfterRelease => Self::ExecutedAfterRelease,
        }
    }
}

impl<S: Store> Writer<S> {
    /// Raises an alarm: an event, a count, a line in the log.
    pub(super) fn alarm(
        &mut self,
        kind: AlarmKind,
        command: Option<CommandId>,
        hold: Option<HoldId>,
    ) -> Result<(), StoreError> {
        let alarm = Alarm {
            alarm: kind.name(),
            at: self.now,
            command,
            event: "alarm",
            hold,
        };
        self.tell(&alarm)?;
        self.alarmed(kind.name());
        tracing::error!(alarm = kind.name(), ?hold, "alarm");
        Ok(())
    }

    /// Raises the alarms of a hold and notes them in its entry.
    pub(super) fn alarms_of(
        &mut self,
        row: &HoldRow,
        kinds: &[AlarmKind],
        command: Option<CommandId>,
    ) -> Result<(), StoreError> {
        for kind in kinds {
            self.alarm(*kind, command, Some(row.id))?;
            self.store.add_alarm(row.number, kind.name())?;
        }
        Ok(())
    }
}
