//! Host calls under names that say what they are for. Each costs a way out of the VM and back.

use std::time::Duration;

use keybrake_policy::life::StreamId;
use keybrake_policy::life::effect::Marks;
use keybrake_policy::refusal::Answer;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, Bytes, MapType};

/// Header names and values as bytes: a value need not be UTF-8.
pub(crate) type HeaderBytes = Vec<(Vec<u8>, Vec<u8>)>;

/// All headers of one kind.
pub(crate) fn headers(kind: MapType) -> HeaderBytes {
    hostcalls::get_map_bytes(kind)
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (name.into_bytes(), value))
        .collect()
}

/// One header of a map that there is; `None`: it is not in it, or no text. (Of a map that there is not the SDK panics.)
pub(crate) fn header(kind: MapType, name: &str) -> Option<String> {
    let value = hostcalls::get_map_value_bytes(kind, name).ok()??;
    String::from_utf8(value).ok()
}

/// The first `size` bytes of a buffer.
pub(crate) fn buffer(kind: BufferType, size: usize) -> Bytes {
    if size == 0 {
        return Bytes::new();
    }
    hostcalls::get_buffer(kind, 0, size)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Makes the next host calls act on this stream. `Err`: the host does not know it any more.
pub(crate) fn act_on(stream: StreamId) -> Result<(), HostError> {
    hostcalls::set_effective_context(stream.0).map_err(|_| HostError)
}

/// Puts what the access log prints into the filter state of the stream that is acted on.
pub(crate) fn mark(marks: &Marks) {
    let set = |name: &str, value: &str| {
        let _ = hostcalls::set_property(vec![name], Some(value.as_bytes()));
    };
    set("keybrake_verdict", marks.verdict.as_str());
    if let Some(outcome) = marks.outcome {
        set("keybrake_outcome", outcome);
    }
    if let Some(status) = marks.upstream_status {
        set("keybrake_upstream_status", &status.to_string());
    }
    if let Some(id) = &marks.vendor_request_id {
        set("keybrake_vendor_request_id", id);
    }
    if let Some(hold) = marks.hold {
        set("keybrake_hold", &hold.to_string());
    }
}

/// Answers the stream that is acted on.
pub(crate) fn reply(answer: &Answer) {
    let headers = answer
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let status = u32::from(answer.status);
    let _ = hostcalls::send_http_response(status, headers, Some(&answer.body));
}

/// Opens the way to the router for the stream that is acted on: with these headers and no others, and the
/// mark that the router's guard asks for.
pub(crate) fn pass_on(headers: Vec<(&str, &[u8])>) {
    let _ = hostcalls::set_map_bytes(MapType::HttpRequestHeaders, headers);
    let _ = hostcalls::set_property(vec!["keybrake_admitted"], Some(b"1"));
    let _ = hostcalls::resume_http_request();
}

/// Takes the trailers off the request of this callback's stream: nobody judges them, so nobody gets them.
pub(crate) fn drop_trailers() {
    let _ = hostcalls::set_map_bytes(MapType::HttpRequestTrailers, Vec::new());
}

/// Takes what has come of the body off the request of this callback's stream.
pub(crate) fn drop_body(size: usize) {
    let _ = hostcalls::set_buffer(BufferType::HttpRequestBody, 0, size, b"");
}

/// A call-out of the context that is acted on, which must be the root. `Err`: Envoy did not take it, and no callback
/// will come.
pub(crate) fn call(
    cluster: &str,
    headers: Vec<(&str, &str)>,
    body: &[u8],
    timeout_ms: u64,
) -> Result<u32, HostError> {
    let timeout = Duration::from_millis(timeout_ms);
    let body = (!body.is_empty()).then_some(body);
    hostcalls::dispatch_http_call(cluster, headers, body, Vec::new(), timeout)
        .map_err(|_| HostError)
}

/// The host did not do as it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostError;
