//! The exports of the SDK's dispatcher: the way into the filter.

#![allow(unsafe_code)]

use std::sync::Mutex;

use super::state::HOST;

pub(super) const CONTINUE: u32 = 0;
pub(super) const PAUSE: u32 = 1;

unsafe extern "C" {
    fn proxy_on_context_create(context: u32, root: u32);
    fn proxy_on_configure(context: u32, size: usize) -> bool;
    fn proxy_on_tick(context: u32);
    fn proxy_on_queue_ready(context: u32, queue: u32);
    fn proxy_on_request_headers(context: u32, count: usize, end: bool) -> u32;
    fn proxy_on_request_body(context: u32, size: usize, end: bool) -> u32;
    fn proxy_on_request_trailers(context: u32, count: usize) -> u32;
    fn proxy_on_response_headers(context: u32, count: usize, end: bool) -> u32;
    fn proxy_on_response_body(context: u32, size: usize, end: bool) -> u32;
    fn proxy_on_http_call_response(
        context: u32,
        token: u32,
        headers: usize,
        body: usize,
        trailers: usize,
    );
    fn proxy_on_done(context: u32) -> bool;
    fn proxy_on_log(context: u32);
    fn proxy_on_delete(context: u32);
}

/// Loads the filter into this thread. The SDK's logger is one for all threads, and its panic hook would keep a failing
/// test's message to itself.
pub(super) fn start() {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    keybrake_filter::start();
    drop(std::panic::take_hook());
}

/// A root context's id with room for a million streams: the dispatcher of a thread knows an id only once.
pub(super) fn next_root() -> u32 {
    thread_local! {
        static NEXT: std::cell::Cell<u32> = const { std::cell::Cell::new(1) };
    }
    NEXT.replace(NEXT.get() + 1_000_000)
}

/// Enters the VM as the host does: with this context as the one that acts.
fn enter<T>(context: u32, callback: impl FnOnce() -> T) -> T {
    let before = HOST.with_borrow_mut(|host| {
        let before = (host.current, host.effective);
        (host.current, host.effective) = (context, 0);
        before
    });
    let result = callback();
    HOST.with_borrow_mut(|host| (host.current, host.effective) = before);
    result
}

pub(super) fn create_context(context: u32, root: u32) {
    enter(context, || unsafe {
        proxy_on_context_create(context, root)
    });
}

pub(super) fn configure(context: u32, size: usize) -> bool {
    enter(context, || unsafe { proxy_on_configure(context, size) })
}

pub(super) fn tick(context: u32) {
    enter(context, || unsafe { proxy_on_tick(context) });
}

pub(super) fn queue_ready(context: u32, queue: u32) {
    enter(context, || unsafe { proxy_on_queue_ready(context, queue) });
}

pub(super) fn request_headers(context: u32, count: usize, end: bool) -> u32 {
    enter(context, || unsafe {
        proxy_on_request_headers(context, count, end)
    })
}

pub(super) fn request_body(context: u32, size: usize, end: bool) -> u32 {
    enter(context, || unsafe {
        proxy_on_request_body(context, size, end)
    })
}

pub(super) fn request_trailers(context: u32, count: usize) -> u32 {
    enter(context, || unsafe {
        proxy_on_request_trailers(context, count)
    })
}

pub(super) fn response_headers(context: u32, count: usize, end: bool) -> u32 {
    enter(context, || unsafe {
        proxy_on_response_headers(context, count, end)
    })
}

pub(super) fn response_body(context: u32, size: usize, end: bool) -> u32 {
    enter(context, || unsafe {
        proxy_on_response_body(context, size, end)
    })
}

pub(super) fn call_response(context: u32, token: u32, headers: usize, body: usize) {
    enter(context, || unsafe {
        proxy_on_http_call_response(context, token, headers, body, 0);
    });
}

pub(super) fn done(context: u32) -> bool {
    enter(context, || unsafe { proxy_on_done(context) })
}

/// The end of a stream: done, logged, deleted.
pub(super) fn end_stream(context: u32) {
    enter(context, || unsafe {
        proxy_on_done(context);
        proxy_on_log(context);
        proxy_on_delete(context);
    });
}
