//! The vendor's books of one account: all objects, totals and idempotency records. The only place where they change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::idempotency::{Record, Records};
use crate::objects::{
    Charge, Customer, Event, Invoice, InvoiceItem, Listed, Movement, Object, OutboundPayment,
    PaymentIntent, Refund,
};

/// Objects of one kind in the order of their making.
#[derive(Debug)]
pub struct Shelf<T> {
    rows: Vec<Arc<T>>,
    places: HashMap<String, usize>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            places: HashMap::new(),
        }
    }
}

impl<T: Listed> Shelf<T> {
    /// The object with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<T>> {
        self.rows.get(*self.places.get(id)?)
    }

    /// Where the object stands, oldest first.
    #[must_use]
    pub fn place(&self, id: &str) -> Option<usize> {
        self.places.get(id).copied()
    }

    /// All objects, oldest first.
    #[must_use]
    pub fn rows(&self) -> &[Arc<T>] {
        &self.rows
    }

    /// Adds an object, or replaces it in its place.
    pub fn put(&mut self, object: Arc<T>) {
        match self
            .place(object.id())
            .and_then(|place| self.rows.get_mut(place))
        {
            Some(row) => *row = object,
            None => {
                self.places.insert(object.id().to_owned(), self.rows.len());
                self.rows.push(object);
            }
        }
    }

    fn objects(&self) -> Vec<Object> {
        self.rows
            .iter()
            .map(|row| T::wrap(Arc::clone(row)))
            .collect()
    }
}

/// Money by currency, in minor units.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    /// Taken.
    pub executed_minor: BTreeMap<String, i64>,
    /// Reserved on cards and neither taken nor given up.
    pub authorized_minor: BTreeMap<String, i64>,
    /// Given back.
    pub refunded_minor: BTreeMap<String, i64>,
    /// Paid out and not called back.
    pub paid_out_minor: BTreeMap<String, i64>,
}

impl Totals {
    /// Adds the totals of another account.
    pub fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.executed_minor, &other.executed_minor),
            (&mut self.authorized_minor, &other.authorized_minor),
            (&mut self.refunded_minor, &other.refunded_minor),
            (&mut self.paid_out_minor, &other.paid_out_minor),
        ];
        for (mine, others) in pairs {
            for (currency, amount) in others {
                add(mine, currency, *amount);
            }
        }
    }

    /// Adds one movement.
    pub fn add(&mut self, movement: &Movement) {
        match movement {
            Movement::Authorized { currency, amount } => {
                add(&mut self.authorized_minor, currency, *amount)
            }
            Movement::Captured {
                currency,
                amount,
                authorized,
            } => {
                add(&mut self.executed_minor, currency, *amount);
                if *authorized > 0 {
                    add(
                        &mut self.authorized_minor,
                        currency,
                        authorized.saturating_neg(),
                    );
                }
            }
            Movement::Voided { currency, amount } => add(
                &mut self.authorized_minor,
                currency,
                amount.saturating_neg(),
            ),
            Movement::Refunded { currency, amount } => {
                add(&mut self.refunded_minor, currency, *amount)
            }
            Movement::PaidOut { currency, amount } => {
                add(&mut self.paid_out_minor, currency, *amount)
            }
            Movement::Recalled { currency, amount } => {
                add(&mut self.paid_out_minor, currency, amount.saturating_neg())
            }
        }
    }
}

fn add(map: &mut BTreeMap<String, i64>, currency: &str, amount: i64) {
    match map.get_mut(currency) {
        Some(sum) => *sum = sum.saturating_add(amount),
        None => {
            map.insert(currency.to_owned(), amount);
        }
    }
}

/// One step of one account: applied as a whole, journaled as one line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Change {
    /// The account; empty for the secret's own.
    pub account: Arc<str>,
    /// The request's idempotency key.
    pub key: Option<Arc<str>>,
    /// New and replaced objects, with their events.
    pub objects: Vec<Object>,
    /// Money moved.
    pub movements: Vec<Movement>,
    /// The idempotency record, when the request had a key.
    pub record: Option<Record>,
}

impl Change {
    /// How many executions this is.
    #[must_use]
    pub fn executions(&self) -> u64 {
        u64::try_from(self.movements.iter().filter(|m| m.is_execution()).count())
            .unwrap_or(u64::MAX)
    }
}

/// All books of one account.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Book {
    pub customers: Shelf<Customer>,
    pub charges: Shelf<Charge>,
    pub intents: Shelf<PaymentIntent>,
    pub refunds: Shelf<Refund>,
    pub invoices: Shelf<Invoice>,
    pub invoice_items: Shelf<InvoiceItem>,
    pub outbound_payments: Shelf<OutboundPayment>,
    pub events: Shelf<Event>,
    pub totals: Totals,
    pub records: Records,
}

impl Book {
    /// Applies one step.
    pub fn apply(&mut self, change: Change) {
        for object in change.objects {
            match object {
                Object::Customer(customer) => self.customers.put(customer),
                Object::Charge(charge) => self.charges.put(charge),
                Object::PaymentIntent(intent) => self.intents.put(intent),
                Object::Refund(refund) => self.refunds.put(refund),
                Object::Event(event) => self.events.put(event),
                Object::Invoice(invoice) => self.invoices.put(invoice),
                Object::InvoiceItem(item) => self.invoice_items.put(item),
                Object::OutboundPayment(payment) => self.outbound_payments.put(payment),
            }
        }
        for movement in &change.movements {
            self.totals.add(movement);
        }
        if let (Some(key), Some(record)) = (change.key, change.record) {
            self.records.store(key, record);
        }
    }

    /// Any object by its id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Object> {
        match id.split_once('_')?.0 {
            "cus" => self
                .customers
                .get(id)
                .map(|o| Object::Customer(Arc::clone(o))),
            "ch" => self.charges.get(id).map(|o| Object::Charge(Arc::clone(o))),
            "pi" => self
                .intents
                .get(id)
                .map(|o| Object::PaymentIntent(Arc::clone(o))),
            "re" => self.refunds.get(id).map(|o| Object::Refund(Arc::clone(o))),
            "evt" => self.events.get(id).map(|o| Object::Event(Arc::clone(o))),
            _ => None,
        }
    }

    /// All objects of a kind, by its name in paths.
    #[must_use]
    pub fn objects(&self, kind: &str) -> Option<Vec<Object>> {
        match kind {
            "customers" => Some(self.customers.objects()),
            "charges" => Some(self.charges.objects()),
            "payment_intents" => Some(self.intents.objects()),
            "refunds" => Some(self.refunds.objects()),
            "invoices" => Some(self.invoices.objects()),
            "outbound_payments" => Some(self.outbound_payments.objects()),
            "events" => Some(self.events.objects()),
            _ => None,
        }
    }
}
