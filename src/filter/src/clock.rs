//! The worker's monotonic clock. Nothing else of the filter knows the time.

use keybrake_policy::life::Millis;

/// Milliseconds since some moment before the first call.
#[cfg(target_arch = "wasm32")]
pub(crate) fn now() -> Millis {
    use std::cell::OnceCell;
    use std::time::Instant;
    thread_local! {
        static START: OnceCell<Instant> = const { OnceCell::new() };
    }
    START.with(|start| {
        let elapsed = start.get_or_init(Instant::now).elapsed();
        Millis::try_from(elapsed.as_millis()).unwrap_or(Millis::MAX)
    })
}

#[cfg(not(target_arch = "wasm32"))]
thread_local! {
    static NOW: std::cell::Cell<Millis> = const { std::cell::Cell::new(0) };
}

/// Outside of Envoy time is what the host of this thread says.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn now() -> Millis {
    NOW.get()
}

/// Sets the time of this thread. Only a host that is not Envoy has this.
#[cfg(not(target_arch = "wasm32"))]
pub fn set(now: Millis) {
    NOW.set(now);
}
