//! What clients do in a fake world, and what the router does for those that were let on.

use super::state::{HOST, Headers, StreamState};
use super::{CHARGE, World, ledger, vm};

impl World {
    /// The usual headers of this request, under a request id of its own.
    pub fn headers(&self, method: &str, path: &str, extra: &[(&str, &str)]) -> Headers {
        let request_id = format!("req-{}", self.next_context);
        let key = format!("Bearer {}", ledger::vault_key());
        let mut headers: Headers = [
            (":method", method),
            (":path", path),
            (":authority", "localhost"),
            (":scheme", "http"),
            ("x-request-id", &request_id),
            ("authorization", &key),
        ]
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect();
        if method == "POST" {
            let form = b"application/x-www-form-urlencoded".to_vec();
            headers.push(("content-type".to_owned(), form));
        }
        for (name, value) in extra {
            headers.retain(|(have, _)| have != name);
            headers.push(((*name).to_owned(), value.as_bytes().to_vec()));
        }
        headers
    }

    /// A client sends a whole request.
    pub fn send(&mut self, headers: Headers, body: &[u8]) -> u32 {
        let stream = self.begin(headers, body.is_empty());
        if !body.is_empty() {
            self.body(stream, body, true);
        }
        stream
    }

    /// A client sends the usual charge under this idempotency key.
    pub fn charge(&mut self, key: &str) -> u32 {
        let headers = self.headers("POST", "/stripe/v1/charges", &[("idempotency-key", key)]);
        self.send(headers, CHARGE)
    }

    /// A client reads a charge.
    pub fn read(&mut self) -> u32 {
        let headers = self.headers("GET", "/stripe/v1/charges/ch_1", &[]);
        self.send(headers, b"")
    }

    /// A client sends headers.
    pub fn begin(&mut self, headers: Headers, end_of_stream: bool) -> u32 {
        let stream = self.next_context;
        self.next_context += 1;
        HOST.with_borrow_mut(|host| {
            let state = StreamState {
                headers: headers.clone(),
                ..StreamState::default()
            };
            host.streams.insert(stream, state);
        });
        vm::create_context(stream, self.root);
        let action = vm::request_headers(stream, headers.len(), end_of_stream);
        assert!(action == vm::PAUSE, "the headers went on by themselves");
        self.after();
        stream
    }

    /// A client sends (more of) the body.
    pub fn body(&mut self, stream: u32, part: &[u8], end_of_stream: bool) {
        if self.is_over(stream) {
            return;
        }
        let size = HOST.with_borrow_mut(|host| {
            let state = host.streams.get_mut(&stream).expect("a stream");
            state.body.extend_from_slice(part);
            state.body.len()
        });
        let action = vm::request_body(stream, size, end_of_stream);
        assert!(action == vm::PAUSE, "the body went on by itself");
        self.after();
    }

    /// A client ends its request with trailers.
    pub fn trailers(&mut self, stream: u32, trailers: &[(&str, &str)]) {
        if self.is_over(stream) {
            return;
        }
        HOST.with_borrow_mut(|host| {
            let state = host.streams.get_mut(&stream).expect("a stream");
            state.trailers = trailers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect();
        });
        let action = vm::request_trailers(stream, trailers.len());
        assert!(action == vm::PAUSE, "the trailers went on by themselves");
        self.after();
    }

    /// The client hangs up, or the stream ends otherwise.
    pub fn hang_up(&mut self, stream: u32) {
        if self.is_over(stream) {
            return;
        }
        vm::end_stream(stream);
        HOST.with_borrow_mut(|host| {
            host.streams.get_mut(&stream).expect("a stream").done = true;
        });
        self.after();
    }

    /// Envoy answers a stream by itself, as with 413 or 408: the answer passes the filter, and the stream is over.
    pub fn envoy_answers(&mut self, stream: u32) {
        if self.is_over(stream) {
            return;
        }
        self.read_responds(stream, "413", false);
        if !self.is_over(stream) {
            self.read_ends(stream);
        }
    }

    /// Response headers of a read come from the vendor, or are made up by Envoy (`via_upstream` false).
    pub fn read_responds(&mut self, stream: u32, status: &str, via_upstream: bool) {
        HOST.with_borrow_mut(|host| {
            let state = host.streams.get_mut(&stream).expect("a stream");
            state.code_details = if via_upstream {
                "via_upstream"
            } else {
                "upstream_reset"
            }
            .to_owned();
            state.response_headers = vec![
                (":status".to_owned(), status.as_bytes().to_vec()),
                ("request-id".to_owned(), b"req_vendor".to_vec()),
            ];
        });
        let action = vm::response_headers(stream, 2, false);
        assert!(action == vm::CONTINUE, "a read streams");
        self.after();
    }

    /// The response body of a read ends, and with it the stream.
    pub fn read_ends(&mut self, stream: u32) {
        assert!(vm::response_body(stream, 10, true) == vm::CONTINUE);
        self.after();
        self.hang_up(stream);
    }
}
