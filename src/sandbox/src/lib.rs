//! A Stripe-shaped vendor to try things on: objects, idempotency rules and errors as the real one has them, a clock that can
//! be moved, faults on demand, and counts of what it received and executed.
//!
//! `vendor` is the state machine, `objects` what it trades in, `exchange` one HTTP exchange, `server` and `wire` the
//! sockets, `control` the API for tests. See the README beside this crate.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod answer;
pub mod arrival;
pub mod auth;
pub mod book;
pub mod clock;
pub mod config;
pub mod control;
pub mod counts;
pub mod exchange;
pub mod fault_words;
pub mod faults;
pub mod form;
pub mod idempotency;
pub mod ids;
pub mod journal;
pub mod objects;
pub mod operations;
pub mod params;
pub mod router;
pub mod run;
pub mod server;
pub mod tls;
pub mod vendor;
pub mod wire;
