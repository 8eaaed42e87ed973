//! The wasm module that Envoy loads: the entry point of the filter and nothing else.

#[cfg(target_arch = "wasm32")]
mod entry {
    #![allow(missing_docs)]
    proxy_wasm::main! {{ filter::start(); }}
}
