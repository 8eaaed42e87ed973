//! The filter: proxy-wasm callbacks become events, effects become host calls.
//!
//! Here: glue. Not here: any decision about a key, a scope, money, or what happens next to a request; those are in
//! `policy`, which knows nothing of the host.
//!
//! The root context owns everything that must outlive a client's stream: the gate with its outbox, and every
//! call-out. A stream only tells the gate what happened to it and wakes the root.

mod clock;
#[cfg(feature = "fail_points")]
mod fail_points;
mod host;
mod metrics;
mod nonce;
mod root;
mod stream;
pub mod vendor;
mod worker;

#[cfg(not(target_arch = "wasm32"))]
pub use clock::set as set_clock;

/// Registers the root context with the SDK. The module's `_initialize` calls it (in the package `keybrake-module`).
pub fn start() {
    proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
    // After the SDK has set its own hook, which logs.
    #[cfg(target_arch = "wasm32")]
    metrics::count_none_open_after_a_panic();
    proxy_wasm::set_root_context(|context_id| Box::new(root::Root::new(context_id)));
}
