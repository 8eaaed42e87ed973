//! What the ledger of a fake world usually says.

use keybrake_contract::grant::Grant;
use keybrake_contract::vault_key;
use keybrake_contract::wire::{Admitted, Command, CommandResult};
use serde_json::json;

use super::state::Headers;
use super::text_headers;

/// Cluster of the ledger.
pub const COMMANDS: &str = "keybrake_commands";

/// The vault key that everybody has.
pub(super) fn vault_key() -> String {
    vault_key::compose([7; vault_key::RANDOM_BYTES])
}

/// What it allows.
pub fn grant(version: u64) -> Grant {
    let grant = json!({
        "key_id": "vk_1",
        "version": version,
        "vendor": "stripe",
        "allowed_endpoints": ["POST /v1/charges", "GET /v1/charges/{id}"],
        "idempotency": "required",
    });
    serde_json::from_value(grant).expect("a grant")
}

/// The answer when nothing is the matter.
pub fn usual_answer(command: &Command) -> CommandResult {
    match command {
        Command::Reserve(reserve) if reserve.grant_version != Some(1) => {
            CommandResult::Grant(Box::new(grant(1)))
        }
        Command::Reserve(reserve) => CommandResult::Admitted(Admitted {
            hold: reserve.id,
            attempt: 1,
            forward_within_ms: 5_000,
        }),
        Command::Release(_) => CommandResult::Released,
        Command::Outcome(_) | Command::Refused(_) | Command::RefusalCount(_) => {
            CommandResult::Recorded
        }
    }
}

/// Headers of an answer of the ledger.
pub(super) fn headers(status: &str) -> Headers {
    text_headers(&[(":status", status), ("keybrake-ledger", "1")])
}
