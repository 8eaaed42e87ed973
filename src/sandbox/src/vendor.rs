//! The vendor as one state machine: requests in, answers out, executions counted. No socket and no waiting here.
//!
//! A request is *opened* (read, checked, its key marked as in flight) and then *run*; a delay lies between the two. What a
//! run changes is written to the journal and applied in one step together with its idempotency record.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;

use crate::answer::{Answer, ApiError};
use crate::arrival::{Arrival, Entry};
use crate::auth;
use crate::book::{Book, Change};
use crate::counts::{Counts, RequestLog};
use crate::faults::{Act, Canned, Executes, Fault, Faults, Stored};
use crate::form::Params;
use crate::idempotency::{self, Fingerprint, Met, Record};
use crate::ids::Ids;
use crate::journal::Journal;
use crate::objects::draft::Cause;
use crate::objects::{Draft, Object, payment};
use crate::operations;
use crate::router::{self, Operation, Route};

/// The version that is answered when none is asked for.
pub const DEFAULT_VERSION: &str = "2025-09-30.clover";

/// The whole vendor.
#[derive(Debug)]
pub struct Vendor {
    books: HashMap<Arc<str>, Book>,
    ids: Ids,
    journal: Option<Journal>,
    /// What was counted.
    pub counts: Counts,
    /// The last requests.
    pub log: RequestLog,
    /// Faults in waiting.
    pub faults: Faults,
}

/// A request that was read and may run.
#[derive(Debug)]
pub struct Job {
    operation: Operation,
    params: Params,
    account: Arc<str>,
    key: Option<Arc<str>>,
    fingerprint: Option<Fingerprint>,
    version: String,
    arrived_ms: i64,
    request_id: String,
}

/// What opening a request gave.
#[derive(Debug)]
pub enum Opened {
    /// An answer without running anything.
    Answered(Answer),
    /// Something to run, then [`Vendor::run`].
    Runs(Box<Job>),
}

/// What was received and how it goes on.
#[derive(Debug)]
pub struct Received {
    /// The request's number in the log.
    pub number: u64,
    /// The request's id, for the answer's header.
    pub request_id: String,
    /// What opening it gave.
    pub opened: Opened,
    /// The fault it met.
    pub fault: Option<Fault>,
}

impl Vendor {
    /// A vendor with what the journal remembers.
    #[must_use]
    pub fn new(ids: Ids, journal: Option<(Journal, Vec<Change>)>) -> Self {
        let (journal, past) =
            journal.map_or((None, Vec::new()), |(journal, past)| (Some(journal), past));
        let mut vendor = Self {
            books: HashMap::new(),
            ids,
            journal,
            counts: Counts::default(),
            log: RequestLog::default(),
            faults: Faults::default(),
        };
        for change in past {
            vendor.apply(change);
        }
        vendor
    }

    /// Takes in one request: counts it, judges its credentials, lets it meet a fault and opens it.
    pub fn receive(&mut self, arrival: Arrival) -> Received {
        let request_id = self.ids.next("req");
        self.counts.request(&arrival);
        let refused = auth::refusal(&arrival.judged);
        let fault = if refused.is_none() {
            self.faults.pick(&arrival)
        } else {
            None
        };
        let opened = match (&refused, &fault) {
            (Some(error), _) => Opened::Answered(error.answer()),
            (None, Some(Fault { act: Act::Skip, .. })) => {
                Opened::Answered(ApiError::new(503, "api_error", "Skipped.").answer())
            }
            (
                None,
                Some(Fault {
                    act:
                        Act::Instead {
                            canned,
                            executes: Executes::No,
                            stored: Stored::No,
                        },
                    ..
                }),
            ) => Opened::Answered(canned_answer(canned)),
            (None, _) => self.open(&arrival, &request_id),
        };
        let number = self.log.push(|n| Entry::new(n, arrival));
        Received {
            number,
            request_id,
            opened,
            fault,
        }
    }

    fn open(&mut self, arrival: &Arrival, request_id: &str) -> Opened {
        let routed = router::route(&arrival.method, &arrival.path);
        self.counts.endpoint(
            routed
                .as_ref()
                .map_or(router::UNKNOWN_ENDPOINT, |route| route.endpoint),
        );
        match routed.and_then(|route| self.read(arrival, route, request_id)) {
            Err(error) => Opened::Answered(error.answer()),
            Ok(opened) => opened,
        }
    }

    fn read(
        &mut self,
        arrival: &Arrival,
        route: Route,
        request_id: &str,
    ) -> Result<Opened, ApiError> {
        let mut params = Params::default();
        params.read(arrival.query.as_deref().unwrap_or_default().as_bytes())?;
        if !arrival.body.is_empty() {
            let kind = BodyKind::of(&arrival.path);
            kind.check(&arrival.headers)?;
            match kind {
                BodyKind::Form => params.read(&arrival.body)?,
                BodyKind::Json => params.read_json(&arrival.body)?,
            }
        }
        let mut job = Job {
            operation: route.operation,
            params,
            account: Arc::clone(&arrival.account),
            key: None,
            fingerprint: None,
            version: arrival.version().unwrap_or(DEFAULT_VERSION).to_owned(),
            arrived_ms: arrival.time_ms,
            request_id: request_id.to_owned(),
        };
        if arrival.method != "POST" {
            return Ok(Opened::Runs(Box::new(job)));
        }
        let Some(key) = arrival.key.clone().filter(|key| !key.is_empty()) else {
            return Ok(Opened::Runs(Box::new(job)));
        };
        idempotency::check_key(&key)?;
        let endpoint = format!("{} {}", arrival.method, arrival.path);
        let asked = Fingerprint {
            endpoint,
            params: job.params.digest(),
        };
        let records = &mut self
            .books
            .entry(Arc::clone(&job.account))
            .or_default()
            .records;
        match records.meet(&key, &asked, arrival.time_ms) {
            Met::Refused(error) => Err(error),
            Met::Replay(answer) => {
                self.counts.replay();
                Ok(Opened::Answered(answer))
            }
            Met::Fresh => {
                records.start(Arc::clone(&key), asked.clone());
                job.key = Some(key);
                job.fingerprint = Some(asked);
                Ok(Opened::Runs(Box::new(job)))
            }
        }
    }

    /// Runs an opened request. The execution, its events and its idempotency record become true together or not at all.
    pub fn run(&mut self, job: Job, fault: Option<&Fault>) -> Answer {
        let instead = match fault.map(|fault| &fault.act) {
            Some(Act::Instead {
                canned,
                executes,
                stored,
            }) => Some((canned, *executes, *stored)),
            _ => None,
        };
        let book = self.books.entry(Arc::clone(&job.account)).or_default();
        let cause = Cause {
            request_id: &job.request_id,
            idempotency_key: job.key.as_deref(),
            now_s: job.arrived_ms.div_euclid(1_000),
            version: &job.version,
        };
        let mut draft = Draft::new(book, &mut self.ids, cause);
        let done = match instead {
            Some((_, Executes::No, _)) => Ok(Answer::json(200, &())),
            _ => operations::execute(&mut draft, &job.operation, &job.params),
        };
        let own = match done {
            Ok(answer) => answer,
            Err(error) if error.status == 402 => error.answer(),
            // Nothing began to execute: nothing is kept, the key is free again.
            Err(error) => {
                free(book, job.key.as_deref());
                return error.answer();
            }
        };
        let (objects, movements) = draft.into_parts();
        let sent = instead.map_or_else(|| own.clone(), |(canned, _, _)| canned_answer(canned));
        let kept = match instead {
            Some((_, _, Stored::Yes)) => Some(&sent),
            Some((_, Executes::No, Stored::No)) => None,
            _ => Some(&own),
        };
        let record = job.fingerprint.zip(kept).map(|(fingerprint, kept)| Record {
            fingerprint,
            created_ms: job.arrived_ms,
            request_id: job.request_id,
            status: kept.status,
            body: String::from_utf8_lossy(&kept.body).into_owned(),
        });
        let change = Change {
            account: job.account,
            key: job.key,
            objects,
            movements,
            record,
        };
        match self.commit(change) {
            Ok(()) => sent,
            Err(answer) => answer,
        }
    }

    /// A waiting intent's customer has authenticated.
    ///
    /// # Errors
    /// As the vendor would say it.
    pub fn authenticate(
        &mut self,
        account: &str,
        id: &str,
        now_ms: i64,
    ) -> Result<Object, ApiError> {
        let account: Arc<str> = account.into();
        let book = self.books.entry(Arc::clone(&account)).or_default();
        let cause = Cause {
            request_id: "",
            idempotency_key: None,
            now_s: now_ms.div_euclid(1_000),
            version: DEFAULT_VERSION,
        };
        let mut draft = Draft::new(book, &mut self.ids, cause);
        let object = payment::authenticate(&mut draft, id)?;
        let (objects, movements) = draft.into_parts();
        let change = Change {
            account,
            key: None,
            objects,
            movements,
            record: None,
        };
        self.commit(change)
            .map_err(|_| ApiError::new(500, "api_error", "The journal cannot be written."))?;
        Ok(object)
    }

    /// Journals and applies a change; without the line in the journal nothing happened.
    fn commit(&mut self, change: Change) -> Result<(), Answer> {
        let is_nothing =
            change.objects.is_empty() && change.movements.is_empty() && change.record.is_none();
        if is_nothing {
            return Ok(());
        }
        if let Some(Err(error)) = self.journal.as_mut().map(|journal| journal.append(&change)) {
            tracing::error!(%error, "the journal cannot be written; nothing was executed");
            if let Some(book) = self.books.get_mut(&change.account) {
                free(book, change.key.as_deref());
            }
            return Err(
                ApiError::new(500, "api_error", "The sandbox cannot write its journal.").answer(),
            );
        }
        self.apply(change);
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        self.counts
            .executed(change.key.as_ref(), change.executions());
        self.books
            .entry(Arc::clone(&change.account))
            .or_default()
            .apply(change);
    }

    /// Notes what was answered to a request.
    pub fn answered(&mut self, number: u64, answer: &Answer) {
        self.log
            .answered(number, answer.status, answer.replay_of.is_some());
    }

    /// All books, by account.
    #[must_use]
    pub fn books(&self) -> &HashMap<Arc<str>, Book> {
        &self.books
    }

    /// Forgets everything: objects, records, counts, log, faults and the journal.
    ///
    /// # Errors
    /// When the journal cannot be emptied; then nothing is forgotten.
    pub fn reset(&mut self) -> std::io::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.empty()?;
        }
        self.books.clear();
        self.counts = Counts::default();
        self.log.clear();
        self.faults.clear();
        Ok(())
    }
}

fn free(book: &mut Book, key: Option<&str>) {
    if let Some(key) = key {
        book.records.free(key);
    }
}

fn canned_answer(canned: &Canned) -> Answer {
    Answer {
        status: canned.status,
        body: canned.body.clone().into(),
        should_retry: None,
        replay_of: None,
    }
}

/// How a body is encoded: API v2 takes JSON, v1 a form.
#[derive(Clone, Copy)]
enum BodyKind {
    Form,
    Json,
}

impl BodyKind {
    fn of(path: &str) -> Self {
        if path.starts_with("/v2/") {
            Self::Json
        } else {
            Self::Form
        }
    }

    fn check(self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(value) = headers.get(CONTENT_TYPE) else {
            return Ok(());
        };
        let wanted = match self {
            Self::Form => "application/x-www-form-urlencoded",
            Self::Json => "application/json",
        };
        let text = value.to_str().unwrap_or_default();
        let kind = text.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case(wanted) {
            return Ok(());
        }
        Err(ApiError::invalid(format!(
            "Invalid request (check that your POST content type is {wanted}, not '{kind}')."
        )))
    }
}
