//! The imports of the proxy-wasm ABI, defined natively on the host of this thread.
//!
//! A buffer that is handed out is a boxed slice of exactly its length: the SDK takes it over as a `Vec`.

#![allow(unsafe_code, clippy::too_many_arguments, clippy::missing_safety_doc)]

use super::state::{HOST, Headers, Status};

unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    unsafe { std::slice::from_raw_parts(data, size) }
}

unsafe fn text(data: *const u8, size: usize) -> String {
    String::from_utf8(unsafe { bytes(data, size) }.to_vec()).expect("UTF-8 from the filter")
}

unsafe fn hand_out(value: Vec<u8>, data: *mut *mut u8, size: *mut usize) {
    unsafe {
        *size = value.len();
        *data = if value.is_empty() {
            std::ptr::null_mut()
        } else {
            Box::into_raw(value.into_boxed_slice()).cast()
        };
    }
}

fn read_map(bytes: &[u8]) -> Headers {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    if bytes.is_empty() {
        return Vec::new();
    }
    let count = word(0);
    let mut at = 4 + count * 8;
    let mut map = Vec::new();
    for entry in 0..count {
        let (name, value) = (word(4 + entry * 8), word(8 + entry * 8));
        let text = String::from_utf8(bytes[at..at + name].to_vec()).unwrap();
        at += name + 1;
        map.push((text, bytes[at..at + value].to_vec()));
        at += value + 1;
    }
    map
}

fn write_map(map: &Headers) -> Vec<u8> {
    let mut bytes = (map.len() as u32).to_le_bytes().to_vec();
    for (name, value) in map {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in map {
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.extend(value);
        bytes.push(0);
    }
    bytes
}

/// The headers of a call-out's answer, as kinds of header maps go.
const CALL_RESPONSE_HEADERS: u32 = 6;

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_log(level: u32, data: *const u8, size: usize) -> Status {
    let line = unsafe { text(data, size) };
    let _ = HOST.try_with(|host| {
        if let Ok(mut host) = host.try_borrow_mut() {
            host.log.push((level, line));
        }
    });
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_log_level(level: *mut u32) -> Status {
    unsafe { *level = 2 };
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_current_time_nanoseconds(_time: *mut u64) -> Status {
    panic!("the filter must not read the wall clock");
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_tick_period_milliseconds(period: u32) -> Status {
    let _ = HOST.try_with(|host| host.borrow_mut().tick_period_ms = u64::from(period));
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_buffer_bytes(
    kind: u32,
    start: usize,
    max: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    let found = HOST.with_borrow(|host| host.buffer(kind));
    let Some(buffer) = found else {
        return Status::NotFound;
    };
    let start = start.min(buffer.len());
    let end = start.saturating_add(max).min(buffer.len());
    unsafe { hand_out(buffer[start..end].to_vec(), data, size) };
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_buffer_bytes(
    kind: u32,
    start: usize,
    size: usize,
    _data: *const u8,
    data_size: usize,
) -> Status {
    assert_eq!(
        (kind, start, data_size),
        (0, 0, 0),
        "the filter may drop a request's body, and change nothing in it"
    );
    HOST.with_borrow_mut(|host| host.drop_body(size));
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_pairs(
    kind: u32,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    let map = HOST.with_borrow(|host| host.map(kind));
    unsafe { hand_out(write_map(&map), data, size) };
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_header_map_pairs(kind: u32, data: *const u8, size: usize) -> Status {
    let map = read_map(unsafe { bytes(data, size) });
    HOST.with_borrow_mut(|host| host.set_map(kind, map));
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_value(
    kind: u32,
    key: *const u8,
    key_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    let key = unsafe { text(key, key_size) };
    let map = HOST.with_borrow(|host| host.map(kind));
    if kind == CALL_RESPONSE_HEADERS && map.is_empty() {
        // Envoy has no such map for an answer that broke off.
        return Status::BadArgument;
    }
    match map.into_iter().find(|(name, _)| *name == key) {
        Some((_, value)) => {
            unsafe { hand_out(value, data, size) };
            Status::Ok
        }
        None => Status::NotFound,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_remove_header_map_value(
    kind: u32,
    key: *const u8,
    key_size: usize,
) -> Status {
    let key = unsafe { text(key, key_size) };
    HOST.with_borrow_mut(|host| {
        let map = host.map(kind);
        let kept = map.into_iter().filter(|(name, _)| *name != key).collect();
        host.set_map(kind, kept);
    });
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_replace_header_map_value(
    _kind: u32,
    _key: *const u8,
    _key_size: usize,
    _data: *const u8,
    _size: usize,
) -> Status {
    Status::BadArgument
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_add_header_map_value(
    _kind: u32,
    _key: *const u8,
    _key_size: usize,
    _data: *const u8,
    _size: usize,
) -> Status {
    Status::BadArgument
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_property(
    path: *const u8,
    path_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    let path = unsafe { text(path, path_size) }.replace('\0', ".");
    match HOST.with_borrow(|host| host.property(&path)) {
        Some(value) => {
            unsafe { hand_out(value, data, size) };
            Status::Ok
        }
        None => Status::NotFound,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_property(
    path: *const u8,
    path_size: usize,
    data: *const u8,
    size: usize,
) -> Status {
    let (path, value) = unsafe { (text(path, path_size), text(data, size)) };
    HOST.with_borrow_mut(|host| host.set_property(path, value));
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_register_shared_queue(
    name: *const u8,
    name_size: usize,
    id: *mut u32,
) -> Status {
    let name = unsafe { text(name, name_size) };
    unsafe { *id = HOST.with_borrow_mut(|host| host.register_queue(name)) };
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_dequeue_shared_queue(
    queue: u32,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    match HOST.with_borrow_mut(|host| host.dequeue(queue)) {
        Some(value) => {
            unsafe { hand_out(value, data, size) };
            Status::Ok
        }
        None => Status::Empty,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_enqueue_shared_queue(
    queue: u32,
    data: *const u8,
    size: usize,
) -> Status {
    let value = unsafe { bytes(data, size) }.to_vec();
    // A thread that ends after a failed test has no host any more when its streams go.
    HOST.try_with(|host| host.borrow_mut().enqueue(queue, value))
        .unwrap_or(Status::NotFound)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_continue_stream(kind: u32) -> Status {
    HOST.with_borrow_mut(|host| host.continue_stream(kind))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_close_stream(_kind: u32) -> Status {
    Status::BadArgument
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_send_local_response(
    status: u32,
    _details: *const u8,
    details_size: usize,
    body: *const u8,
    body_size: usize,
    headers: *const u8,
    headers_size: usize,
    grpc_status: i32,
) -> Status {
    assert_eq!((details_size, grpc_status), (0, -1));
    let body = unsafe { bytes(body, body_size) }.to_vec();
    let headers = read_map(unsafe { bytes(headers, headers_size) });
    HOST.with_borrow_mut(|host| host.send_local_response(status, headers, body))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_http_call(
    cluster: *const u8,
    cluster_size: usize,
    headers: *const u8,
    headers_size: usize,
    body: *const u8,
    body_size: usize,
    _trailers: *const u8,
    _trailers_size: usize,
    timeout: u32,
    token: *mut u32,
) -> Status {
    let cluster = unsafe { text(cluster, cluster_size) };
    let headers = read_map(unsafe { bytes(headers, headers_size) });
    let body = unsafe { bytes(body, body_size) }.to_vec();
    match HOST.with_borrow_mut(|host| host.http_call(cluster, headers, body, timeout)) {
        Ok(made) => {
            unsafe { *token = made };
            Status::Ok
        }
        Err(status) => status,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_effective_context(context: u32) -> Status {
    HOST.with_borrow_mut(|host| host.set_effective_context(context))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_done() -> Status {
    HOST.with_borrow_mut(|host| host.root_done = true);
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_define_metric(
    _kind: u32,
    name: *const u8,
    name_size: usize,
    id: *mut u32,
) -> Status {
    let name = unsafe { text(name, name_size) };
    unsafe { *id = HOST.with_borrow_mut(|host| host.define_metric(name)) };
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_record_metric(id: u32, value: u64) -> Status {
    HOST.with_borrow_mut(|host| host.metrics[id as usize].1 = value as i64);
    Status::Ok
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_increment_metric(id: u32, by: i64) -> Status {
    HOST.with_borrow_mut(|host| host.metrics[id as usize].1 += by);
    Status::Ok
}

macro_rules! not_used_by_the_filter {
    ($($name:ident),*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> Status {
            panic!("the filter is not expected to use {}", stringify!($name));
        }
    )*};
}

not_used_by_the_filter!(
    proxy_get_shared_data,
    proxy_set_shared_data,
    proxy_resolve_shared_queue,
    proxy_grpc_call,
    proxy_grpc_stream,
    proxy_grpc_send,
    proxy_grpc_cancel,
    proxy_grpc_close,
    proxy_get_status,
    proxy_call_foreign_function,
    proxy_get_metric
);
