//! The root context: configuration, wake-ups, call-outs, time.

use std::rc::Rc;

use keybrake_policy::config::PluginConfig;
use keybrake_policy::life::Millis;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType};

use crate::stream::Stream;
use crate::worker::Worker;
use crate::{clock, host};

/// One per worker and plugin configuration.
pub(crate) struct Root {
    context_id: u32,
    worker: Option<Rc<Worker>>,
    /// The host has been told that this root still has work.
    ending: bool,
}

impl Root {
    pub(crate) const fn new(context_id: u32) -> Self {
        Self {
            context_id,
            worker: None,
            ending: false,
        }
    }

    /// Runs one callback of the root on the worker, then carries out what came of it: all at one instant, since each look at
    /// the clock is a way out of the VM.
    fn act(&self, callback: impl FnOnce(&Worker, Millis)) {
        let Some(worker) = &self.worker else { return };
        #[cfg(feature = "fail_points")]
        if worker.root_traps.get() {
            crate::fail_points::trap();
        }
        let now = clock::now();
        callback(worker, now);
        worker.after_root(now);
        if self.ending && worker.is_idle() {
            // The answers above may have left a stream in effect.
            let _ = hostcalls::set_effective_context(self.context_id);
            let _ = hostcalls::done();
        }
    }
}

impl Context for Root {
    fn on_http_call_response(
        &mut self,
        token: u32,
        num_headers: usize,
        body_size: usize,
        _num_trailers: usize,
    ) {
        self.act(|worker, now| worker.call_ended(now, token, num_headers, body_size));
    }

    /// A root that still has something in flight stays until that has ended.
    fn on_done(&mut self) -> bool {
        let Some(worker) = &self.worker else {
            return true;
        };
        worker.gate.borrow_mut().hurry();
        worker.after_root(clock::now());
        self.ending = !worker.is_idle();
        !self.ending
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = host::buffer(BufferType::PluginConfiguration, size);
        match PluginConfig::parse(&bytes) {
            Ok(config) => {
                self.worker = Some(Rc::new(Worker::new(config)));
                true
            }
            Err(invalid) => {
                log::error!("{invalid}");
                false
            }
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        self.act(|worker, _now| worker.queue_ready(queue));
    }

    fn on_tick(&mut self) {
        self.act(|worker, now| worker.gate.borrow_mut().tick(now));
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(context_id, self.worker.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
