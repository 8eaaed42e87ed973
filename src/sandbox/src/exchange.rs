//! One HTTP exchange: reads the request, lets the vendor work (with the delays a fault asks for), writes the answer.
//!
//! The only place that knows how an answer looks on the wire. An execution that was started ends, also when the client
//! hangs up meanwhile.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response, StatusCode};

use crate::answer::{Advice, Answer, ApiError};
use crate::arrival::{Arrival, IDEMPOTENCY_KEY, Origin, STRIPE_ACCOUNT, STRIPE_VERSION};
use crate::auth::Secret;
use crate::clock::Clock;
use crate::faults::{Act, Fault, Twist, When};
use crate::vendor::{DEFAULT_VERSION, Job, Opened, Vendor};
use crate::wire::{End, Ender};

/// The largest request body.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// How long a cut answer's last bytes get to reach the client before the RST, which may overtake them.
const CUT_LINGER: Duration = Duration::from_millis(50);

/// What all exchanges share.
#[derive(Debug)]
pub struct Shop {
    vendor: Mutex<Vendor>,
    /// The moved clock.
    pub clock: Clock,
    secret: Secret,
}

impl Shop {
    /// A vendor open for business.
    #[must_use]
    pub fn new(vendor: Vendor, clock: Clock, secret: Secret) -> Self {
        Self {
            vendor: Mutex::new(vendor),
            clock,
            secret,
        }
    }

    /// The vendor, for as long as the guard lives. Never held over a wait.
    pub fn vendor(&self) -> MutexGuard<'_, Vendor> {
        self.vendor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Headers of the request that the answer repeats.
struct Echo {
    request_id: String,
    key: Option<HeaderValue>,
    account: Option<HeaderValue>,
    version: HeaderValue,
}

/// Answers one request.
///
/// # Errors
/// Never.
pub async fn exchange(
    shop: Arc<Shop>,
    origin: Origin,
    ender: Arc<Ender>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).cloned();
    let mut echo = Echo {
        request_id: String::new(),
        key: header(IDEMPOTENCY_KEY),
        account: header(STRIPE_ACCOUNT),
        version: header(STRIPE_VERSION).unwrap_or(HeaderValue::from_static(DEFAULT_VERSION)),
    };
    let (body, trailers) = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(whole) => {
            let trailers = whole.trailers().cloned();
            (whole.to_bytes(), trailers)
        }
        Err(error) => return Ok(unreadable(&echo, &*error)),
    };
    let arrival = Arrival::new(
        origin,
        shop.clock.now_ms(),
        parts,
        body,
        trailers,
        &shop.secret,
    );
    let (answer, fault) = {
        let mut vendor = shop.vendor();
        let received = vendor.receive(arrival);
        echo.request_id = received.request_id;
        match (&received.fault, received.opened) {
            (
                Some(Fault {
                    delay: Some((when, pause)),
                    ..
                }),
                opened,
            ) => {
                let (when, pause) = (*when, *pause);
                drop(vendor);
                let slow = Slow {
                    shop: Arc::clone(&shop),
                    number: received.number,
                    when,
                    pause,
                };
                (Err((slow, opened)), received.fault)
            }
            (fault, opened) => {
                let answer = run(&mut vendor, opened, fault.as_ref());
                note(&mut vendor, received.number, &answer, fault.as_ref());
                (Ok(answer), received.fault)
            }
        }
    };
    let answer = match answer {
        Ok(answer) => answer,
        // A task of its own: the client may hang up, the vendor still executes.
        Err((slow, opened)) => match tokio::spawn(slow.run(opened, fault.clone())).await {
            Ok(answer) => answer,
            Err(_) => ApiError::new(500, "api_error", "The sandbox is stopping.").answer(),
        },
    };
    let twist = fault.as_ref().map_or(&Twist::None, |fault| &fault.twist);
    let mut response = write(&echo, &answer);
    if answer.replay_of.is_none() {
        add_canned_headers(&mut response, fault.as_ref());
    }
    Ok(twisted(response, answer, twist, &ender).await)
}

fn run(vendor: &mut Vendor, opened: Opened, fault: Option<&Fault>) -> Answer {
    match opened {
        Opened::Answered(answer) => answer,
        Opened::Runs(job) => {
            let job: Job = *job;
            vendor.run(job, fault)
        }
    }
}

/// Notes the answer in the log, unless the fault keeps it from the client.
fn note(vendor: &mut Vendor, number: u64, answer: &Answer, fault: Option<&Fault>) {
    match fault.map(|fault| &fault.twist) {
        Some(Twist::Reset | Twist::Close | Twist::Hang) => {}
        _ => vendor.answered(number, answer),
    }
}

/// A request that waits before or after its execution.
struct Slow {
    shop: Arc<Shop>,
    number: u64,
    when: When,
    pause: Duration,
}

impl Slow {
    async fn run(self, opened: Opened, fault: Option<Fault>) -> Answer {
        if self.when == When::Before {
            tokio::time::sleep(self.pause).await;
        }
        let answer = {
            let mut vendor = self.shop.vendor();
            let answer = run(&mut vendor, opened, fault.as_ref());
            note(&mut vendor, self.number, &answer, fault.as_ref());
            answer
        };
        if self.when == When::After {
            tokio::time::sleep(self.pause).await;
        }
        answer
    }
}

fn unreadable(echo: &Echo, error: &(dyn std::error::Error + 'static)) -> Response<AnswerBody> {
    let answer = if error.is::<LengthLimitError>() {
        ApiError::new(413, "invalid_request_error", "The request is too large.").answer()
    } else {
        ApiError::invalid("The request could not be read.").answer()
    };
    write(echo, &answer)
}

fn write(echo: &Echo, answer: &Answer) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(answer.body.clone()));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("stripe-version", echo.version.clone());
    put_text(headers, "request-id", &echo.request_id);
    if let Some(key) = &echo.key {
        headers.insert(IDEMPOTENCY_KEY, key.clone());
        put_text(
            headers,
            "original-request",
            answer.replay_of.as_ref().unwrap_or(&echo.request_id),
        );
    }
    if let Some(account) = &echo.account {
        headers.insert(STRIPE_ACCOUNT, account.clone());
    }
    if answer.replay_of.is_some() {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    if let Some(advice) = answer.should_retry {
        let text = if advice == Advice::Retry {
            "true"
        } else {
            "false"
        };
        headers.insert("stripe-should-retry", HeaderValue::from_static(text));
    }
    response
}

fn put_text(headers: &mut HeaderMap, name: &'static str, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text)
        && !text.is_empty()
    {
        headers.insert(name, value);
    }
}

fn put_all(headers: &mut HeaderMap, extra: &[(String, Vec<u8>)]) {
    for (name, value) in extra {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value),
        ) {
            headers.insert(name, value);
        }
    }
}

fn add_canned_headers(response: &mut Response<AnswerBody>, fault: Option<&Fault>) {
    if let Some(Fault {
        act: Act::Instead { canned, .. },
        ..
    }) = fault
    {
        put_all(response.headers_mut(), &canned.headers);
    }
}

async fn twisted(
    mut response: Response<AnswerBody>,
    answer: Answer,
    twist: &Twist,
    ender: &Arc<Ender>,
) -> Response<AnswerBody> {
    let headers = response.headers_mut();
    match twist {
        Twist::None => {}
        Twist::Reset | Twist::Close | Twist::Hang => {
            match twist {
                Twist::Reset => ender.end(End::Reset),
                Twist::Close => ender.end(End::Close),
                _ => {}
            }
            std::future::pending::<()>().await;
        }
        Twist::Cut(bytes) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
            let length = (*bytes).min(answer.body.len().saturating_sub(1));
            *response.body_mut() = AnswerBody::cut(answer.body.slice(..length), Arc::clone(ender));
        }
        Twist::Headers(extra) => put_all(headers, extra),
        Twist::HugeHeader(bytes) => put_text(headers, "x-sandbox-huge", &"h".repeat(*bytes)),
        Twist::HugeBody(bytes) => {
            let mut body = answer.body.to_vec();
            body.resize((*bytes).max(body.len()), b' ');
            *response.body_mut() = AnswerBody::whole(body.into());
        }
        Twist::Gzip => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Twist::NotJson => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
            *response.status_mut() = StatusCode::OK;
            *response.body_mut() =
                AnswerBody::whole(Bytes::from_static(b"<html><body>It works!</body></html>"));
        }
        Twist::RawBefore(bytes) => ender.write_before(bytes.clone()),
    }
    response
}

/// An answer's body: whole, or cut short by an RST.
#[derive(Debug)]
pub struct AnswerBody {
    left: Option<Bytes>,
    ending: Ending,
}

#[derive(Debug)]
enum Ending {
    /// The body ends.
    Proper,
    /// The connection is to be reset.
    Cut(Arc<Ender>),
    /// The reset is on its way.
    CutSoon,
}

impl AnswerBody {
    fn whole(bytes: Bytes) -> Self {
        Self {
            left: Some(bytes).filter(|bytes| !bytes.is_empty()),
            ending: Ending::Proper,
        }
    }

    fn cut(bytes: Bytes, ender: Arc<Ender>) -> Self {
        Self {
            left: Some(bytes).filter(|bytes| !bytes.is_empty()),
            ending: Ending::Cut(ender),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(bytes) = self.left.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        // A cut body never ends by itself: what was given so far is flushed, then the connection is reset.
        match std::mem::replace(&mut self.ending, Ending::CutSoon) {
            Ending::Proper => {
                self.ending = Ending::Proper;
                Poll::Ready(None)
            }
            Ending::CutSoon => Poll::Pending,
            Ending::Cut(ender) => {
                tokio::spawn(async move {
                    tokio::time::sleep(CUT_LINGER).await;
                    ender.end(End::Reset);
                });
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_none() && matches!(self.ending, Ending::Proper)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.left, &self.ending) {
            (left, Ending::Proper) => SizeHint::with_exact(
                left.as_ref()
                    .map_or(0, |b| u64::try_from(b.len()).unwrap_or(u64::MAX)),
            ),
            _ => SizeHint::default(),
        }
    }
}
