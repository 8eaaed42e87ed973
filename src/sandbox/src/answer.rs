//! What the vendor answers: a stored or fresh answer, and errors in Stripe's shape.
//!
//! No transport here (see `exchange`) and no rule that decides which error it is.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use serde::Serialize;

use crate::objects::Object;

/// An answer before it is written to the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: Bytes,
    /// `stripe-should-retry`, where Stripe says it.
    pub should_retry: Option<Advice>,
    /// The first request's id, when this is a replay.
    pub replay_of: Option<String>,
}

/// What `stripe-should-retry` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The same request may succeed later.
    Retry,
    /// The same request will not succeed.
    DoNotRetry,
}

impl Answer {
    /// A success with this object as its body.
    #[must_use]
    pub fn json<T: Serialize>(status: u16, value: &T) -> Self {
        // Our own types always serialize: they hold no map with keys that are not text.
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self {
            status,
            body: body.into(),
            should_retry: None,
            replay_of: None,
        }
    }
}

/// An error in Stripe's shape. Boxed, since it travels in many results.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct ApiError(Box<ErrorFields>);

/// The fields of an error.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ErrorFields {
    /// HTTP status.
    #[serde(skip)]
    pub status: u16,
    #[serde(skip)]
    /// `stripe-should-retry`.
    pub should_retry: Option<Advice>,
    /// The failed charge of a decline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charge: Option<String>,
    /// Stripe's stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The bank's reason for a decline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decline_code: Option<String>,
    /// Text for humans.
    pub message: String,
    /// The parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// The intent as it stands after a decline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_intent: Option<Object>,
    /// Stripe's error type.
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: &'a ApiError,
}

impl Deref for ApiError {
    type Target = ErrorFields;

    fn deref(&self) -> &ErrorFields {
        &self.0
    }
}

impl DerefMut for ApiError {
    fn deref_mut(&mut self) -> &mut ErrorFields {
        &mut self.0
    }
}

impl ApiError {
    /// An error of any type.
    #[must_use]
    pub fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        let fields = ErrorFields {
            status,
            kind: kind.to_owned(),
            message: message.into(),
            ..ErrorFields::default()
        };
        Self(Box::new(fields))
    }

    /// 400 `invalid_request_error`.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// 400 for a parameter that must be there.
    #[must_use]
    pub fn missing(param: &str) -> Self {
        Self::invalid(format!("Missing required param: {param}."))
            .code("parameter_missing")
            .param(param)
    }

    /// 404 for an object that does not exist.
    #[must_use]
    pub fn no_such(what: &str, id: &str, param: &str) -> Self {
        let message = format!("No such {what}: '{id}'");
        Self::new(404, "invalid_request_error", message)
            .code("resource_missing")
            .param(param)
    }

    /// 400 for an intent in a state that does not allow this call.
    #[must_use]
    pub fn unexpected_state(message: impl Into<String>) -> Self {
        Self::invalid(message).code("payment_intent_unexpected_state")
    }

    /// With this HTTP status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With this code.
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// With this parameter named.
    #[must_use]
    pub fn param(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// With this advice.
    #[must_use]
    pub fn advise(mut self, advice: Advice) -> Self {
        self.should_retry = Some(advice);
        self
    }

    /// As an answer.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let mut answer = Answer::json(self.status, &Envelope { error: self });
        answer.should_retry = self.should_retry;
        answer
    }
}
