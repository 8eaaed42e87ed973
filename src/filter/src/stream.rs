//! One client's stream: its callbacks become events of its request.

use std::rc::Rc;

use keybrake_policy::life::gate::AfterHeaders;
use keybrake_policy::life::{Millis, RequestNumber, StreamId};
use keybrake_policy::read::{JudgedHeaders, RawRequest};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};

use crate::clock;
use crate::host::{self, HeaderBytes};
use crate::worker::Worker;

/// One stream. It owns nothing that must outlive it.
pub(crate) struct Stream {
    id: StreamId,
    worker: Option<Rc<Worker>>,
    state: State,
}

enum State {
    /// Nothing has come yet.
    New,
    /// The headers are here, the body is not.
    WaitingForBody {
        judged: Box<JudgedHeaders>,
        request_id: String,
    },
    /// The gate has it.
    Open(RequestNumber),
    /// It is answered, or over.
    Closed,
}

impl Stream {
    pub(crate) const fn new(context_id: u32, worker: Option<Rc<Worker>>) -> Self {
        Self {
            id: StreamId(context_id),
            worker,
            state: State::New,
        }
    }

    /// The gate has the request, or is done with it.
    fn opened(&mut self, now: Millis, opened: Option<RequestNumber>) {
        self.state = opened.map_or(State::Closed, State::Open);
        if let Some(worker) = &self.worker {
            worker.after_stream(now, self.id);
        }
    }

    /// The body is here, or more of it than is allowed.
    fn body_complete(&mut self, size: usize) {
        if let State::WaitingForBody { judged, request_id } =
            std::mem::replace(&mut self.state, State::Closed)
            && let Some(worker) = &self.worker
        {
            let body = host::buffer(BufferType::HttpRequestBody, size);
            let now = clock::now();
            let mut gate = worker.gate.borrow_mut();
            let opened = gate.body(now, self.id, *judged, &body, &request_id);
            drop(gate);
            self.opened(now, opened);
        }
    }

    /// The number of the request, if it is a read on its way through the router.
    fn streaming(&self) -> Option<(&Worker, RequestNumber)> {
        let (State::Open(number), Some(worker)) = (&self.state, &self.worker) else {
            return None;
        };
        let streams = worker.gate.borrow().is_streaming(*number);
        streams.then_some((worker, *number))
    }

    fn response_ended(&self) {
        if let Some((worker, number)) = self.streaming() {
            let now = clock::now();
            worker.gate.borrow_mut().read_ended(now, number);
            worker.after_stream(now, self.id);
        }
    }

    /// The stream is over, whoever ended it.
    fn over(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        if let (State::Open(number), Some(worker)) = (state, &self.worker) {
            let now = clock::now();
            worker.gate.borrow_mut().client_gone(now, number);
            worker.after_stream(now, self.id);
        }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        let headers = host::headers(MapType::HttpRequestHeaders);
        let Some(worker) = &self.worker else {
            return Action::Pause;
        };
        #[cfg(feature = "fail_points")]
        crate::fail_points::on_headers(&headers, worker);
        let request_id = request_id(&headers, self.id);
        let raw = RawRequest {
            headers: &headers,
            body: b"",
            request_id: &request_id,
        };
        let now = clock::now();
        let mut gate = worker.gate.borrow_mut();
        let after = if end_of_stream {
            AfterHeaders::Opened(gate.complete(now, self.id, &raw))
        } else {
            gate.headers(now, self.id, &raw)
        };
        drop(gate);
        match after {
            AfterHeaders::WaitForBody(judged) => {
                self.state = State::WaitingForBody { judged, request_id };
            }
            AfterHeaders::Opened(opened) => self.opened(now, opened),
        }
        Action::Pause
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let most = self
            .worker
            .as_ref()
            .map_or(0, |worker| worker.config.max_request_bytes);
        let too_large = usize::try_from(most).is_ok_and(|most| size > most);
        if end_of_stream || too_large {
            self.body_complete(size);
        }
        if !matches!(self.state, State::WaitingForBody { .. }) {
            // The gate has it all, or has turned it away: the rest must not fill Envoy's buffer, whose own 413 would
            // come before our answer.
            host::drop_body(size);
        }
        Action::Pause
    }

    /// With trailers the body callback never says that the stream is at its end.
    fn on_http_request_trailers(&mut self, _num_trailers: usize) -> Action {
        host::drop_trailers();
        self.body_complete(usize::MAX);
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        if let Some((worker, number)) = self.streaming() {
            // Envoy's own answers come this way, too.
            let details = hostcalls::get_property(vec!["response", "code_details"]);
            if matches!(details, Ok(Some(text)) if text == b"via_upstream") {
                let headers = host::headers(MapType::HttpResponseHeaders);
                let mut gate = worker.gate.borrow_mut();
                gate.read_answered(clock::now(), number, &headers);
            }
            if end_of_stream {
                self.response_ended();
            }
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, _size: usize, end_of_stream: bool) -> Action {
        if end_of_stream {
            self.response_ended();
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _num_trailers: usize) -> Action {
        self.response_ended();
        Action::Continue
    }

    fn on_log(&mut self) {
        self.over();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.over();
    }
}

/// Envoy's own request id. (It is configured not to take a client's.)
fn request_id(headers: &HeaderBytes, stream: StreamId) -> String {
    headers
        .iter()
        .find(|(name, _)| name == b"x-request-id")
        .and_then(|(_, value)| std::str::from_utf8(value).ok())
        .filter(|text| {
            (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        })
        .map_or_else(|| format!("stream-{}", stream.0), str::to_owned)
}
