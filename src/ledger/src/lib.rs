//! The ledger: caps, records, audit.
//!
//! Here: the pure rules of money (`book`), the stores, the engine that executes commands, the audit chain, the public API and
//! the command line. Not here: anything that knows Envoy or proxy-wasm; anything that decides about a request's scope.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod audit;
pub mod book;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod engine;
pub mod http;
pub mod metrics;
pub mod model;
pub mod outbound;
pub mod rates;
pub mod reconcile;
pub mod signing;
pub mod store;
pub mod telemetry;
pub mod vendors;
