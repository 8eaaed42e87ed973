//! Pure decisions about one request, from values alone.
//!
//! Here: reading a request strictly, the vendor pack, the plugin configuration, the check against a grant, the
//! fingerprint, the judgement of a vendor's answer, and how a refusal looks. Not here: anything that names a
//! proxy-wasm item, SQL, a clock, a random source or a socket. The code runs in every Envoy worker on the hot path:
//! it allocates little, and its time is bounded on hostile input.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

use keybrake_pack as pack;

pub mod authorize;
pub mod config;
mod fingerprint;
pub mod golden;
pub mod life;
pub mod outcome;
pub mod read;
pub mod refusal;
