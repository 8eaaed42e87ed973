//! What a store says when it cannot do what it was asked.

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing that is in memory is trusted any more: the ledger ends.
    Fatal,
    /// What was done since `begin` is not there; the same may be done again.
    Transient,
    /// A commit that may have been done, or not: ask with `settle`.
    InDoubt,
}

/// A store that cannot do what it was asked. What was done since `begin` must be taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct StoreError {
    why: String,
    fault: Fault,
}

impl StoreError {
    /// One after which nothing that is in memory is trusted.
    pub fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            fault: Fault::Fatal,
        }
    }

    /// One that may be gone when the same is done again.
    pub fn transient(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            fault: Fault::Transient,
        }
    }

    /// A commit of which it is not known whether it was done.
    pub fn in_doubt(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            fault: Fault::InDoubt,
        }
    }

    /// How bad it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        self.fault
    }
}
