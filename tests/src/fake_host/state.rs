//! What the host of one thread knows: streams, call-outs, queues, metrics.
//!
//! The SDK keeps its dispatcher per thread as well, so each test has a VM of its own.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use super::guard::Guard;

thread_local! {
    pub(super) static HOST: RefCell<Host> = RefCell::new(Host::default());
}

/// Header names and values.
pub type Headers = Vec<(String, Vec<u8>)>;

/// The ABI's status codes, as far as they are used.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// There is no such thing.
    NotFound = 1,
    /// The argument means nothing.
    BadArgument = 2,
    /// Nothing is in the queue.
    Empty = 7,
    /// The host could not.
    InternalFailure = 10,
}

/// An answer to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u32,
    /// Headers.
    pub headers: Headers,
    /// Body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// A call-out that has not ended.
#[derive(Debug, Clone)]
pub struct Call {
    /// To name it.
    pub token: u32,
    /// Envoy cluster.
    pub cluster: String,
    /// Headers, pseudo headers included.
    pub headers: Headers,
    /// Body.
    pub body: Vec<u8>,
    /// Its time-out.
    pub timeout_ms: u32,
}

impl Call {
    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// What the host knows of one client's stream.
#[derive(Debug, Default)]
pub(super) struct StreamState {
    pub headers: Headers,
    pub trailers: Headers,
    pub body: Vec<u8>,
    pub response_headers: Headers,
    pub code_details: String,
    pub properties: BTreeMap<String, String>,
    pub reply: Option<Reply>,
    pub resumed: bool,
    pub done: bool,
}

/// The host.
#[derive(Debug, Default)]
pub struct Host {
    pub(super) configuration: Vec<u8>,
    pub(super) commands_cluster: String,
    pub(super) streams: BTreeMap<u32, StreamState>,
    pub(super) current: u32,
    pub(super) effective: u32,
    pub(super) root: u32,
    pub(super) calls: BTreeMap<u32, Call>,
    next_token: u32,
    /// Clusters whose next calls are not taken.
    pub(super) refuses_calls: VecDeque<String>,
    queues: Vec<(String, VecDeque<Vec<u8>>)>,
    pub(super) wake_ups: VecDeque<u32>,
    pub(super) queues_broken: bool,
    pub(super) tick_period_ms: u64,
    pub(super) metrics: Vec<(String, i64)>,
    pub(super) log: Vec<(u32, String)>,
    pub(super) root_done: bool,
    pub(super) answered_headers: Headers,
    pub(super) answered_body: Vec<u8>,
    pub(super) guard: Guard,
}

impl Host {
    fn acting(&self) -> u32 {
        if self.effective == 0 {
            self.current
        } else {
            self.effective
        }
    }

    pub(super) fn set_effective_context(&mut self, context: u32) -> Status {
        let known = context == self.root
            || self
                .streams
                .get(&context)
                .is_some_and(|stream| !stream.done);
        if !known {
            return Status::BadArgument;
        }
        self.effective = context;
        Status::Ok
    }

    fn stream(&mut self) -> &mut StreamState {
        let acting = self.acting();
        self.streams
            .get_mut(&acting)
            .unwrap_or_else(|| panic!("context {acting} is no stream"))
    }

    pub(super) fn buffer(&self, kind: u32) -> Option<Vec<u8>> {
        match kind {
            0 => self.streams.get(&self.acting()).map(|s| s.body.clone()),
            4 => Some(self.answered_body.clone()),
            7 => Some(self.configuration.clone()),
            _ => None,
        }
    }

    pub(super) fn map(&self, kind: u32) -> Headers {
        let stream = self.streams.get(&self.acting());
        match kind {
            0 => stream.map(|s| s.headers.clone()).unwrap_or_default(),
            1 => stream.map(|s| s.trailers.clone()).unwrap_or_default(),
            2 => stream
                .map(|s| s.response_headers.clone())
                .unwrap_or_default(),
            6 => self.answered_headers.clone(),
            _ => panic!("map {kind} is not expected to be read"),
        }
    }

    pub(super) fn set_map(&mut self, kind: u32, map: Headers) {
        match kind {
            0 => self.stream().headers = map,
            1 => self.stream().trailers = map,
            _ => panic!("map {kind} is not expected to be written"),
        }
    }

    pub(super) fn drop_body(&mut self, size: usize) {
        let body = &mut self.stream().body;
        body.drain(..size.min(body.len()));
    }

    pub(super) fn property(&self, path: &str) -> Option<Vec<u8>> {
        let stream = self.streams.get(&self.acting())?;
        match path {
            "response.code_details" => Some(stream.code_details.clone().into_bytes()),
            _ => None,
        }
    }

    pub(super) fn set_property(&mut self, path: String, value: String) {
        self.stream().properties.insert(path, value);
    }

    pub(super) fn register_queue(&mut self, name: String) -> u32 {
        self.queues.push((name, VecDeque::new()));
        self.queues.len() as u32
    }

    pub(super) fn enqueue(&mut self, queue: u32, value: Vec<u8>) -> Status {
        if self.queues_broken {
            return Status::NotFound;
        }
        match self.queues.get_mut(queue as usize - 1) {
            Some((_, waiting)) => {
                waiting.push_back(value);
                self.wake_ups.push_back(queue);
                Status::Ok
            }
            None => Status::NotFound,
        }
    }

    pub(super) fn dequeue(&mut self, queue: u32) -> Option<Vec<u8>> {
        self.queues.get_mut(queue as usize - 1)?.1.pop_front()
    }

    /// How many wake-ups nobody has taken out of a queue.
    pub(super) fn queued(&self) -> usize {
        self.queues.iter().map(|(_, waiting)| waiting.len()).sum()
    }

    pub(super) fn continue_stream(&mut self, kind: u32) -> Status {
        assert_eq!(kind, 0, "only requests are resumed");
        let stream = self.stream();
        assert!(!stream.done, "a stream that is over was resumed");
        assert!(!stream.resumed, "a stream was resumed twice");
        assert!(stream.reply.is_none(), "an answered stream was resumed");
        assert_eq!(
            stream
                .properties
                .get("keybrake_admitted")
                .map(String::as_str),
            Some("1"),
            "resumed without the mark"
        );
        stream.resumed = true;
        let headers = stream.headers.clone();
        self.guard.resumed(&headers);
        Status::Ok
    }

    pub(super) fn send_local_response(
        &mut self,
        status: u32,
        headers: Headers,
        body: Vec<u8>,
    ) -> Status {
        let stream = self.stream();
        assert!(!stream.done, "a stream that is over was answered");
        assert!(stream.reply.is_none(), "a stream was answered twice");
        assert!(!stream.resumed, "a resumed stream was answered");
        let reply = Reply {
            status,
            headers,
            body,
        };
        stream.reply = Some(reply.clone());
        self.guard.replied(&reply);
        Status::Ok
    }

    pub(super) fn http_call(
        &mut self,
        cluster: String,
        headers: Headers,
        body: Vec<u8>,
        timeout_ms: u32,
    ) -> Result<u32, Status> {
        assert_eq!(self.acting(), self.root, "only the root makes call-outs");
        assert_eq!(
            self.current, self.root,
            "the SDK would give the answer to a stream"
        );
        let call = Call {
            token: self.next_token + 1,
            cluster,
            headers,
            body,
            timeout_ms,
        };
        if call.cluster == self.commands_cluster {
            self.guard.batch_sent(&call);
        } else {
            self.guard.vendor_called(&call);
        }
        if self.refuses_calls.front() == Some(&call.cluster) {
            self.refuses_calls.pop_front();
            return Err(Status::InternalFailure);
        }
        self.next_token += 1;
        let token = call.token;
        self.calls.insert(token, call);
        Ok(token)
    }

    pub(super) fn define_metric(&mut self, name: String) -> u32 {
        self.metrics.push((name, 0));
        self.metrics.len() as u32 - 1
    }
}
