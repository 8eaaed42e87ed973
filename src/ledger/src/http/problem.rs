//! Problem documents (RFC 9457): how the public API says no.
//!
//! Here: the closed set of problems, their status and JSON. Not here: refusals on the vendor path (`policy`) and the
//! command route, which answers the filter and nobody else.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Media type of a problem document.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// What went wrong, as a stable word. The document's `type` is `urn:keybrake:problem:<word>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be read, or says something that is not allowed. Names the fields.
    InvalidRequest,
    /// No credential, or one that nobody knows.
    Unauthenticated,
    /// A known credential of another role.
    Forbidden,
    /// No such path or key.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The state of the thing does not allow it.
    Conflict,
    /// Body over the limit.
    TooLarge,
    /// Body of another type than JSON.
    UnsupportedMediaType,
    /// The body did not arrive, or the answer was not ready, in time.
    TimedOut,
    /// The ledger or its store is not available; nothing was done.
    Unavailable,
    /// The store failed in the middle: whether it was done must be looked up.
    Internal,
}

impl Kind {
    /// Every kind, for documentation and its test.
    pub const ALL: [Self; 11] = [
        Self::InvalidRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::TimedOut,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The word, the HTTP status and the title.
    const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::InvalidRequest => (
                "invalid_request",
                StatusCode::BAD_REQUEST,
                "The request is not valid",
            ),
            Self::Unauthenticated => (
                "unauthenticated",
                StatusCode::UNAUTHORIZED,
                "Credentials are needed",
            ),
            Self::Forbidden => (
                "forbidden",
                StatusCode::FORBIDDEN,
                "These credentials may not do this",
            ),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND, "Not found"),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "Method not allowed",
            ),
            Self::Conflict => (
                "conflict",
                StatusCode::CONFLICT,
                "Not possible in the present state",
            ),
            Self::TooLarge => (
                "too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large",
            ),
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body must be JSON",
            ),
            Self::TimedOut => ("timed_out", StatusCode::REQUEST_TIMEOUT, "It took too long"),
            Self::Unavailable => (
                "unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The ledger is not available",
            ),
            Self::Internal => (
                "internal",
                StatusCode::INTERNAL_SERVER_ERROR,
                "The ledger failed",
            ),
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.parts().1
    }

    /// The stable word at the end of `type`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        self.parts().0
    }
}

/// One field that was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where: `daily_usd_cap`, `keys[3].label`, `constraints.amount`; empty for the body as a whole.
    pub field: String,
    /// What was wrong and what is allowed.
    pub message: String,
}

impl FieldError {
    /// A fault of this field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// A no, with what the caller needs to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which.
    pub kind: Kind,
    /// For people. Never holds a credential.
    pub detail: String,
    /// The fields that were wrong, for [`Kind::InvalidRequest`].
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// A problem without fields.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// The request is wrong in these fields. The detail is made of them.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let mut detail = String::new();
        for FieldError { field, message } in errors.iter().take(5) {
            if !detail.is_empty() {
                detail.push_str("; ");
            }
            if !field.is_empty() {
                detail.push_str(field);
                detail.push_str(": ");
            }
            detail.push_str(message);
        }
        if errors.len() > 5 {
            detail.push_str("; and more");
        }
        Self {
            kind: Kind::InvalidRequest,
            detail,
            errors,
        }
    }

    /// One field is wrong.
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(field, message)])
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (word, status, title) = self.kind.parts();
        let document = Document {
            r#type: format!("urn:keybrake:problem:{word}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.kind {
            Kind::Unauthenticated => {
                headers.insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"keybrake\""),
                );
            }
            Kind::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
