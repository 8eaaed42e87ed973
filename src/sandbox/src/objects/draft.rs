//! What one operation wants to change: collected first, applied in one step by the book.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::{Event, EventData, EventRequest};
use super::{Charge, Object, PaymentIntent};
use crate::answer::ApiError;
use crate::book::Book;
use crate::ids::Ids;

/// Money that one operation moved, in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Movement {
    /// Money was reserved on a card, not taken.
    Authorized {
        /// Currency.
        currency: String,
        /// The reserved amount.
        amount: i64,
    },
    /// Money was taken; `authorized` of it or more had been reserved before (0 for a direct charge).
    Captured {
        /// Currency.
        currency: String,
        /// The taken amount.
        amount: i64,
        /// What had been reserved and no longer is.
        authorized: i64,
    },
    /// A reservation was given up. Not an execution.
    Voided {
        /// Currency.
        currency: String,
        /// What had been reserved.
        amount: i64,
    },
    /// Money was given back.
    Refunded {
        /// Currency.
        currency: String,
        /// The amount.
        amount: i64,
    },
    /// Money left the account.
    PaidOut {
        /// Currency.
        currency: String,
        /// The amount.
        amount: i64,
    },
    /// It came back before it had arrived. Not an execution.
    Recalled {
        /// Currency.
        currency: String,
        /// The amount.
        amount: i64,
    },
}

impl Movement {
    /// True for what counts as an execution.
    #[must_use]
    pub fn is_execution(&self) -> bool {
        !matches!(self, Self::Voided { .. } | Self::Recalled { .. })
    }
}

/// Who asked for the change.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    /// This request's id; empty when no API request caused it.
    pub request_id: &'a str,
    /// Its idempotency key.
    pub idempotency_key: Option<&'a str>,
    /// Seconds since 1970 by the moved clock.
    pub now_s: i64,
    /// The API version asked for.
    pub version: &'a str,
}

/// The collected changes of one operation on one book.
pub struct Draft<'a> {
    /// The book as it was before.
    pub book: &'a Book,
    /// Who asked.
    pub cause: Cause<'a>,
    ids: &'a mut Ids,
    objects: Vec<Object>,
    movements: Vec<Movement>,
}

impl<'a> Draft<'a> {
    /// An empty draft.
    pub fn new(book: &'a Book, ids: &'a mut Ids, cause: Cause<'a>) -> Self {
        Self {
            book,
            cause,
            ids,
            objects: Vec::new(),
            movements: Vec::new(),
        }
    }

    /// A new id with this prefix.
    pub fn id(&mut self, prefix: &str) -> String {
        self.ids.next(prefix)
    }

    /// Adds or replaces an object.
    pub fn put(&mut self, object: Object) {
        self.objects.push(object);
    }

    /// Notes money that moved.
    pub fn moved(&mut self, movement: Movement) {
        self.movements.push(movement);
    }

    /// Adds an event about this object.
    pub fn event(&mut self, kind: &str, object: Object) {
        let event = Event {
            id: self.id("evt"),
            api_version: self.cause.version.to_owned(),
            created: self.cause.now_s,
            data: EventData { object },
            livemode: false,
            pending_webhooks: 0,
            request: EventRequest {
                id: Some(self.cause.request_id.to_owned()).filter(|id| !id.is_empty()),
                idempotency_key: self.cause.idempotency_key.map(str::to_owned),
            },
            kind: kind.to_owned(),
        };
        self.objects.push(Object::Event(Arc::new(event)));
    }

    /// Puts a charge and its event.
    pub fn put_charge(&mut self, charge: Charge, event: &str) -> Object {
        let object = Object::Charge(Arc::new(charge));
        self.put(object.clone());
        self.event(event, object.clone());
        object
    }

    /// Puts an intent, with an event when its state changed.
    pub fn put_intent(&mut self, intent: PaymentIntent, event: Option<&str>) -> Object {
        let object = Object::PaymentIntent(Arc::new(intent));
        self.put(object.clone());
        if let Some(event) = event {
            self.event(event, object.clone());
        }
        object
    }

    /// The customer's id, made up on the spot when it is not known, so that demos can name any.
    ///
    /// # Errors
    /// 400 when the text is no customer id at all.
    pub fn customer(&mut self, id: Option<&str>) -> Result<Option<String>, ApiError> {
        let Some(id) = id else { return Ok(None) };
        let suffix = id.strip_prefix("cus_").unwrap_or_default();
        if suffix.is_empty()
            || !suffix
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return Err(ApiError::no_such("customer", id, "customer").status(400));
        }
        if self.book.customers.get(id).is_none() {
            let customer = super::Customer::bare(id.to_owned(), self.cause.now_s, BTreeMap::new());
            self.put(Object::Customer(Arc::new(customer)));
        }
        Ok(Some(id.to_owned()))
    }

    /// An object as it is now, collected ones before those in the book.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Object> {
        self.objects
            .iter()
            .rev()
            .find(|object| object.id() == id)
            .cloned()
            .or_else(|| self.book.find(id))
    }

    /// What was collected.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Object>, Vec<Movement>) {
        (self.objects, self.movements)
    }
}
