//! The vendor's objects in Stripe's shape, and the operations on them.
//!
//! Each operation reads a [`Book`](crate::book::Book) and writes into a [`Draft`]; nothing here changes the book, knows
//! about idempotency or about transport.

pub mod balance;
pub mod charge;
pub mod currency;
pub mod customer;
pub mod draft;
pub mod event;
pub mod expand;
pub mod intent;
pub mod invoice;
pub mod list;
pub mod magic;
pub mod outbound_payment;
pub mod payment;
pub mod refund;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use charge::Charge;
pub use customer::Customer;
pub use draft::{Draft, Movement};
pub use event::Event;
pub use intent::PaymentIntent;
pub use invoice::{Invoice, InvoiceItem};
pub use outbound_payment::OutboundPayment;
pub use refund::Refund;

/// Any object, with its type in `object` as Stripe writes it. Objects never change; a change makes a new one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "object", rename_all = "snake_case")]
pub enum Object {
    /// `customer`
    Customer(Arc<Customer>),
    /// `charge`
    Charge(Arc<Charge>),
    /// `payment_intent`
    PaymentIntent(Arc<PaymentIntent>),
    /// `refund`
    Refund(Arc<Refund>),
    /// `event`
    Event(Arc<Event>),
    /// `invoice`
    Invoice(Arc<Invoice>),
    /// `invoiceitem`
    #[serde(rename = "invoiceitem")]
    InvoiceItem(Arc<InvoiceItem>),
    /// `v2.money_management.outbound_payment`
    #[serde(rename = "v2.money_management.outbound_payment")]
    OutboundPayment(Arc<OutboundPayment>),
}

impl Object {
    /// The object's id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Customer(object) => &object.id,
            Self::Charge(object) => &object.id,
            Self::PaymentIntent(object) => &object.id,
            Self::Refund(object) => &object.id,
            Self::Event(object) => &object.id,
            Self::Invoice(object) => &object.id,
            Self::InvoiceItem(object) => &object.id,
            Self::OutboundPayment(object) => &object.id,
        }
    }
}

/// What every kind of object has, for shelves and lists.
pub trait Listed: Sized {
    /// The object's id.
    fn id(&self) -> &str;
    /// Seconds since 1970 by the moved clock.
    fn created(&self) -> i64;
    /// As an object of any kind.
    fn wrap(this: Arc<Self>) -> Object;
}

macro_rules! listed {
    ($($kind:ident),*) => {$(
        impl Listed for $kind {
            fn id(&self) -> &str {
                &self.id
            }
            fn created(&self) -> i64 {
                self.created
            }
            fn wrap(this: Arc<Self>) -> Object {
                Object::$kind(this)
            }
        }
    )*};
}
listed!(
    Customer,
    Charge,
    PaymentIntent,
    Refund,
    Event,
    Invoice,
    InvoiceItem,
    OutboundPayment
);
