//! One canary: a request that a gate must refuse, in each of the shapes that a gate may fail to see.

use std::fmt;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, TRAILER, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keybrake_contract::vault_key;
use tokio::net::TcpStream;

use crate::outbound::is_host_and_port;

/// For one canary as a whole.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 * 1024;
/// Says why a request was refused: only Keybrake writes it.
const REASON: &str = "keybrake-reason";
/// The trailer.
const AT_THE_END: &str = "keybrake-canary";

/// An endpoint of a vendor as callers reach it through a gate: `http://HOST[:PORT]/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    authority: String,
    address: String,
    path: String,
}

/// Not such a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be http://HOST[:PORT]/PATH, an endpoint of a vendor through the gate such as http://127.0.0.1:10000/stripe/v1/charges"
)]
pub struct InvalidTarget;

impl Target {
    /// Reads one.
    ///
    /// # Errors
    /// [`InvalidTarget`].
    pub fn parse(text: &str) -> Result<Self, InvalidTarget> {
        let uri: Uri = text.parse().map_err(|_| InvalidTarget)?;
        let authority = uri.authority().ok_or(InvalidTarget)?;
        let is_plain = uri.scheme_str() == Some("http")
            && is_host_and_port(authority)
            && uri.path() != "/"
            && uri.query().is_none();
        if !is_plain {
            return Err(InvalidTarget);
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self {
            authority: authority.to_string(),
            address: format!("{}:{port}", authority.host()),
            path: uri.path().to_owned(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}{}", self.authority, self.path)
    }
}

/// How it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A read: complete with its headers.
    Read,
    /// A write with a body.
    Write,
    /// A write whose body ends with trailers: the last byte is no longer the body's.
    WriteWithTrailers,
}

/// One canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Canary {
    pub protocol: Protocol,
    pub shape: Shape,
}

impl Canary {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::new(Protocol::Http1, Shape::Read),
        Self::new(Protocol::Http1, Shape::Write),
        Self::new(Protocol::Http1, Shape::WriteWithTrailers),
        Self::new(Protocol::Http2, Shape::Read),
        Self::new(Protocol::Http2, Shape::Write),
        Self::new(Protocol::Http2, Shape::WriteWithTrailers),
    ];

    const fn new(protocol: Protocol, shape: Shape) -> Self {
        Self { protocol, shape }
    }
}

impl fmt::Display for Canary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Http1 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        };
        let shape = match self.shape {
            Shape::Read => "GET",
            Shape::Write => "POST",
            Shape::WriteWithTrailers => "POST with trailers",
        };
        write!(formatter, "{protocol} {shape}")
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// An answer with a reason of ours.
    Refused {
        /// HTTP status.
        status: u16,
        /// The reason's code.
        reason: String,
    },
    /// An answer of somebody else.
    Foreign {
        /// HTTP status.
        status: u16,
    },
    /// Nothing in time.
    Silence,
    /// Nobody listens there.
    Unreachable(String),
    /// The connection ended without an answer.
    Broken(String),
}

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// Sends one canary to a target.
pub(super) async fn send(target: &Target, canary: Canary) -> Seen {
    let connected = tokio::time::timeout(TIMEOUT, TcpStream::connect(&target.address)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Seen::Unreachable(error.to_string()),
        Err(_) => return Seen::Unreachable("no connection in time".to_owned()),
    };
    let Some(request) = request(target, canary) else {
        return Seen::Broken("the request cannot be made".to_owned());
    };
    match tokio::time::timeout(TIMEOUT, exchange(stream, canary.protocol, request)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => Seen::Broken(error.to_string()),
        Err(_) => Seen::Silence,
    }
}

async fn exchange(
    stream: TcpStream,
    protocol: Protocol,
    request: Request<Body>,
) -> Result<Seen, hyper::Error> {
    let io = TokioIo::new(stream);
    // The connection's own task ends with the connection: the sender is dropped when this returns.
    match protocol {
        Protocol::Http1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            tokio::spawn(connection);
            Ok(seen(sender.send_request(request).await?).await)
        }
        Protocol::Http2 => {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Ok(seen(sender.send_request(request).await?).await)
        }
    }
}

async fn seen(answer: Response<Incoming>) -> Seen {
    let status = answer.status().as_u16();
    let reason = answer
        .headers()
        .get(REASON)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    // Read to its end, so that a gate that answers and passes the request on as well is given the time to.
    drop(Limited::new(answer.into_body(), MAX_ANSWER).collect().await);
    match reason {
        Some(reason) => Seen::Refused { status, reason },
        None => Seen::Foreign { status },
    }
}

fn request(target: &Target, canary: Canary) -> Option<Request<Body>> {
    let mut random = [0; vault_key::RANDOM_BYTES];
    getrandom::fill(&mut random).ok()?;
    let key = vault_key::compose(random);
    let mut bearer = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
    bearer.set_sensitive(true);
    let method = match canary.shape {
        Shape::Read => Method::GET,
        Shape::Write | Shape::WriteWithTrailers => Method::POST,
    };
    let builder = Request::builder()
        .method(method)
        .header(AUTHORIZATION, bearer);
    let builder = match canary.protocol {
        Protocol::Http1 => builder.uri(&target.path).header(HOST, &target.authority),
        Protocol::Http2 => builder.uri(target.to_string()),
    };
    let builder = match canary.shape {
        Shape::Read => builder,
        Shape::Write | Shape::WriteWithTrailers => builder
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(
                "idempotency-key",
                format!("canary-{}", hex::encode(random.get(..8)?)),
            ),
    };
    // Over HTTP/1.1 only a body in chunks ends with trailers, and only those that were announced.
    let builder = match (canary.protocol, canary.shape) {
        (Protocol::Http1, Shape::WriteWithTrailers) => builder
            .header(TRANSFER_ENCODING, "chunked")
            .header(TRAILER, AT_THE_END),
        _ => builder,
    };
    let form = Full::new(Bytes::from_static(b"amount=100&currency=usd"));
    builder
        .body(match canary.shape {
            Shape::Read => Empty::new().boxed(),
            Shape::Write => form.boxed(),
            Shape::WriteWithTrailers => form.with_trailers(trailers()).boxed(),
        })
        .ok()
}

async fn trailers() -> Option<Result<HeaderMap, std::convert::Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert(AT_THE_END, HeaderValue::from_static("1"));
    Some(Ok(trailers))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_target_is_an_endpoint_behind_a_listener() {
        let target = Target::parse("http://127.0.0.1:10000/stripe/v1/charges").unwrap();
        assert_eq!(target.address, "127.0.0.1:10000");
        assert_eq!(
            target.to_string(),
            "http://127.0.0.1:10000/stripe/v1/charges"
        );
        assert_eq!(
            Target::parse("http://egress/v1/x").unwrap().address,
            "egress:80"
        );
        for wrong in [
            "127.0.0.1:10000/v1",
            "https://127.0.0.1/v1",
            "http://127.0.0.1:10000",
            "http://127.0.0.1:10000/",
            "http://u@127.0.0.1/v1",
            "http://127.0.0.1:99999/v1",
            "http://127.0.0.1/v1?x=1",
            "",
        ] {
            assert_eq!(Target::parse(wrong), Err(InvalidTarget), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn each_shape_is_on_the_wire_what_it_says() {
        for (shape, end, chunked) in [
            (Shape::Read, "\r\n\r\n", false),
            (Shape::Write, "amount=100&currency=usd", false),
            (
                Shape::WriteWithTrailers,
                "\r\nkeybrake-canary: 1\r\n\r\n",
                true,
            ),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/v1/x", listener.local_addr().unwrap());
            let target = Target::parse(&url).unwrap();
            let sending =
                tokio::spawn(
                    async move { send(&target, Canary::new(Protocol::Http1, shape)).await },
                );
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(end.as_bytes()) {
                let text = String::from_utf8_lossy(&seen).into_owned();
                let read = tokio::time::timeout(TIMEOUT, stream.read_buf(&mut seen)).await;
                assert_ne!(read.expect(&text).unwrap(), 0, "{text}");
            }
            let text = String::from_utf8(seen).unwrap();
            assert_eq!(
                text.contains("transfer-encoding: chunked"),
                chunked,
                "{text}"
            );
            let answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            assert_eq!(sending.await.unwrap(), Seen::Foreign { status: 401 });
        }
    }
}
