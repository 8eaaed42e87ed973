//! What comes back for a batch, and what it means to each command.

use keybrake_contract::ids::CommandId;
use keybrake_contract::wire::CommandResult;

use super::super::RequestNumber;

/// What came back for a batch.
#[derive(Debug, Clone, Copy)]
pub enum BatchReply<'a> {
    /// The call-out could not be made.
    NotSent,
    /// Somebody answered.
    Answer {
        /// HTTP status.
        status: u16,
        /// Whether the answer carries the ledger's marker. Envoy's own answers do not.
        marked: bool,
        /// Its body.
        body: &'a [u8],
    },
}

/// Why a batch came to nothing. For a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerFailure {
    /// No answer within `ledger_timeout_ms`.
    Late,
    /// The call-out could not be made.
    NotSent,
    /// An answer without the ledger's marker: Envoy's own, or somebody else's.
    NotTheLedger,
    /// The ledger took nothing of it: 401, 413, 503, …
    NothingExecuted,
    /// The answer could not be read, or left commands out.
    Unreadable,
    /// The ledger will never take this command.
    CommandRejected,
}

/// What became of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whose command it was; `None` for commands of nobody (counts).
    pub owner: Option<RequestNumber>,
    /// Which command.
    pub id: CommandId,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// The ledger's answer.
    Answered(CommandResult),
    /// No answer by the deadline. The ledger may have executed it all the same.
    GivenUp,
}
