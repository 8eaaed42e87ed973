//! What the filter and the ledger agree on.
//!
//! Here: money, digests, ids, endpoint patterns, the wire messages between the two, the closed set of refusal
//! codes and the life-cycle table of records and holds. Not here: anything that decides about one request (that is
//! `policy`), anything that knows SQL, HTTP, a clock, a random source or a proxy-wasm item.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod digest;
pub mod endpoint;
pub mod grant;
mod hexadecimal;
pub mod ids;
pub mod lifecycle;
pub mod money;
pub mod refusal;
pub mod results;
pub mod vault_key;
pub mod wire;

/// Header that marks every answer of the ledger's command route. An answer without it did not come from a ledger
/// (Envoy answers failed call-outs itself) and counts as "ledger unavailable".
pub const LEDGER_HEADER: &str = "keybrake-ledger";

/// Value of [`LEDGER_HEADER`]: the version of the wire messages.
pub const LEDGER_HEADER_VALUE: &str = "1";

/// Path of the ledger's command route.
pub const COMMANDS_PATH: &str = "/internal/v1/commands";

/// Header that carries the filter's internal credential to the ledger. Put in by Envoy, never by the filter.
pub const INTERNAL_KEY_HEADER: &str = "keybrake-internal-key";

/// Most commands in one batch.
pub const BATCH_MAX_COMMANDS: usize = 256;

/// Most bytes in one batch.
pub const BATCH_MAX_BYTES: usize = 4 * 1024 * 1024;
