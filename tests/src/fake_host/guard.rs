//! What must hold in every test, whatever it is about.
//!
//! - A call to a vendor, or a resumed stream, needs an admitted reserve of the same request, once; and no release of
//!   that reserve before it.
//! - A client gets the answer to a forwarded request only when the outcome is on record, unless the answer says
//!   `keybrake-settlement: pending`.
//! - A command is sent again with the same bytes or not at all.

use std::collections::{BTreeMap, BTreeSet};

use keybrake_contract::ids::CommandId;
use keybrake_contract::wire::{Batch, Command, CommandResult, Forward, Reserve};

use super::state::{Call, Headers, Reply};

/// The watch over one host.
#[derive(Debug, Default)]
pub(super) struct Guard {
    sent: BTreeMap<CommandId, Command>,
    admitted: BTreeMap<CommandId, Reserve>,
    released: BTreeSet<CommandId>,
    /// Reserves that were forwarded: an admission that is said again is none.
    spent: BTreeSet<CommandId>,
    /// Request ids that were forwarded detached.
    forwarded: BTreeSet<String>,
    /// Request ids whose outcome, or release, the filter knows to be on record.
    settled: BTreeSet<String>,
    pub(super) forwards: usize,
}

fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(have, _)| have == name);
    found.and_then(|(_, value)| std::str::from_utf8(value).ok())
}

impl Guard {
    pub(super) fn batch_sent(&mut self, call: &Call) {
        let batch: Batch = serde_json::from_slice(&call.body).expect("a batch of the contract");
        assert!(!batch.commands.is_empty(), "an empty batch");
        for command in batch.commands {
            if let Command::Release(release) = &command {
                self.released.insert(release.reserve);
            }
            if let Some(before) = self.sent.insert(command.id(), command.clone()) {
                assert_eq!(before, command, "a command changed between two sendings");
            }
        }
    }

    /// A batch's answer is about to reach the filter.
    pub(super) fn answered(&mut self, id: CommandId, result: &CommandResult) {
        match (self.sent.get(&id), result) {
            (Some(Command::Reserve(reserve)), CommandResult::Admitted(_))
                if !self.spent.contains(&id) =>
            {
                self.admitted.insert(id, (**reserve).clone());
            }
            (Some(Command::Outcome(outcome)), CommandResult::Recorded) => {
                let request = self.request_of(outcome.hold);
                self.settled.extend(request);
            }
            _ => {}
        }
    }

    /// The request that was forwarded under this hold. (The fake ledger's holds are the reserves that made them.)
    fn request_of(&self, hold: CommandId) -> Option<String> {
        match self.sent.get(&hold) {
            Some(Command::Reserve(reserve)) => Some(reserve.request.request_id.clone()),
            _ => None,
        }
    }

    pub(super) fn vendor_called(&mut self, call: &Call) {
        let path = header(&call.headers, ":path").unwrap_or_default();
        let key = header(&call.headers, "idempotency-key");
        let found = self.admitted.iter().find(|(id, reserve)| {
            let same_key = match &reserve.idempotency {
                Some(idempotency) => key == Some(idempotency.key.as_str()),
                None => key.is_none_or(|key| key == id.to_string()),
            };
            reserve.forward == Forward::Detached
                && path.split('?').next() == Some(reserve.request.path.as_str())
                && same_key
        });
        let id = *found
            .expect("a vendor was called without an admitted reserve")
            .0;
        assert!(
            !self.released.contains(&id),
            "a released reserve was forwarded"
        );
        let reserve = self.admitted.remove(&id).expect("just found");
        self.spent.insert(id);
        self.forwarded.insert(reserve.request.request_id.clone());
        self.forwards += 1;
        assert!(
            header(&call.headers, "authorization").is_none(),
            "a key left"
        );
    }

    pub(super) fn resumed(&mut self, headers: &Headers) {
        let request_id = header(headers, "x-request-id").unwrap_or_default();
        let found = self.admitted.iter().find(|(_, reserve)| {
            reserve.forward == Forward::Read && reserve.request.request_id == request_id
        });
        let id = *found
            .expect("a stream was resumed without an admitted reserve")
            .0;
        assert!(
            !self.released.contains(&id),
            "a released reserve was resumed"
        );
        self.admitted.remove(&id);
        self.spent.insert(id);
        self.forwards += 1;
        assert!(header(headers, "authorization").is_none(), "a key left");
    }

    /// Forgets all but the count: nothing is open, so nothing that was said before may count again.
    pub(super) fn forget(&mut self) {
        *self = Self {
            forwards: self.forwards,
            ..Self::default()
        };
    }

    pub(super) fn replied(&mut self, reply: &Reply) {
        let Some(request_id) = reply.header("keybrake-request-id") else {
            return;
        };
        let pending = reply.header("keybrake-settlement") == Some("pending");
        if self.forwarded.contains(request_id) && !self.settled.contains(request_id) && !pending {
            let nothing_sent = reply.header("keybrake-reason") == Some("governance_unavailable");
            assert!(nothing_sent, "answered before the outcome was on record");
        }
    }
}
