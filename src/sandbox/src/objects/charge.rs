//! Charges: create, retrieve, list, capture.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::list::{self, List, Window};
use super::magic::{self, Card};
use super::{Draft, Movement, Object};
use crate::answer::ApiError;
use crate::book::Book;
use crate::form::Params;

const CREATE_PARAMS: &[&str] = &[
    "amount",
    "application_fee_amount",
    "capture",
    "currency",
    "customer",
    "description",
    "destination",
    "metadata",
    "on_behalf_of",
    "radar_options",
    "receipt_email",
    "shipping",
    "source",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_data",
    "transfer_group",
];

/// A charge in Stripe's shape.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct Charge {
    pub id: String,
    pub amount: i64,
    pub amount_captured: i64,
    pub amount_refunded: i64,
    pub balance_transaction: Option<String>,
    pub captured: bool,
    pub created: i64,
    pub currency: String,
    pub customer: Option<String>,
    pub description: Option<String>,
    pub disputed: bool,
    pub failure_code: Option<String>,
    pub failure_message: Option<String>,
    pub livemode: bool,
    pub metadata: BTreeMap<String, String>,
    pub paid: bool,
    pub payment_intent: Option<String>,
    pub payment_method: Option<String>,
    pub receipt_email: Option<String>,
    pub refunded: bool,
    pub statement_descriptor: Option<String>,
    pub status: String,
    pub transfer_group: Option<String>,
}

impl Charge {
    /// What can still be given back.
    #[must_use]
    pub fn refundable(&self) -> i64 {
        self.amount.saturating_sub(self.amount_refunded)
    }

    /// A charge of this amount that neither succeeded nor failed yet.
    #[must_use]
    pub fn blank(id: String, amount: i64, currency: String, created: i64) -> Self {
        Self {
            id,
            amount,
            amount_captured: 0,
            amount_refunded: 0,
            balance_transaction: None,
            captured: false,
            created,
            currency,
            customer: None,
            description: None,
            disputed: false,
            failure_code: None,
            failure_message: None,
            livemode: false,
            metadata: BTreeMap::new(),
            paid: false,
            payment_intent: None,
            payment_method: None,
            receipt_email: None,
            refunded: false,
            statement_descriptor: None,
            status: "pending".to_owned(),
            transfer_group: None,
        }
    }

    /// Charges the card now: takes the money or only reserves it.
    pub fn pay(mut self, draft: &mut Draft<'_>, taking: Taking) -> Object {
        "succeeded".clone_into(&mut self.status);
        self.paid = true;
        self.captured = taking == Taking::Now;
        draft.moved(match taking {
            Taking::Now => Movement::Captured {
                currency: self.currency.clone(),
                amount: self.amount,
                authorized: 0,
            },
            Taking::Later => Movement::Authorized {
                currency: self.currency.clone(),
                amount: self.amount,
            },
        });
        if self.captured {
            self.amount_captured = self.amount;
            self.balance_transaction = Some(draft.id("txn"));
        }
        draft.put_charge(self, "charge.succeeded")
    }

    /// Notes that the card was declined, and gives the error that says so.
    pub fn decline(mut self, draft: &mut Draft<'_>, code: &str, decline_code: &str) -> ApiError {
        let error = magic::card_error(code, decline_code, &self.id);
        "failed".clone_into(&mut self.status);
        self.failure_code = Some(code.to_owned());
        self.failure_message = Some(error.message.clone());
        draft.put_charge(self, "charge.failed");
        error
    }

    /// Takes reserved money, all of it or less; what is left over is given up.
    pub fn take(mut self, draft: &mut Draft<'_>, amount: i64) -> Object {
        self.captured = true;
        self.amount_captured = amount;
        self.amount_refunded = self.amount.saturating_sub(amount);
        self.balance_transaction = Some(draft.id("txn"));
        draft.moved(Movement::Captured {
            currency: self.currency.clone(),
            amount,
            authorized: self.amount,
        });
        draft.put_charge(self, "charge.captured")
    }
}

/// When the money is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// With the charge.
    Now,
    /// With a later capture.
    Later,
}

/// `POST /v1/charges`
///
/// # Errors
/// 400 for bad parameters, 402 for a declined card.
pub fn create(draft: &mut Draft<'_>, params: &Params) -> Result<Object, ApiError> {
    params.only(CREATE_PARAMS)?;
    let amount = params.required_amount("amount")?;
    let currency = params.required_currency()?;
    let capture = params.boolean("capture")?;
    let metadata = params.map("metadata")?;
    let source = params.owned("source")?;
    let customer = draft.customer(params.text("customer")?)?;
    let mut charge = Charge::blank(draft.id("ch"), amount, currency, draft.cause.now_s);
    charge.customer = customer;
    charge.metadata = metadata;
    charge.description = params.owned("description")?;
    charge.receipt_email = params.owned("receipt_email")?;
    charge.statement_descriptor = params.owned("statement_descriptor")?;
    charge.transfer_group = params.owned("transfer_group")?;
    let card = Card::of(source.as_deref());
    charge.payment_method = source.or_else(|| Some("card_sandbox_visa".to_owned()));
    match card {
        Card::Good => Ok(charge.pay(
            draft,
            if capture == Some(false) {
                Taking::Later
            } else {
                Taking::Now
            },
        )),
        Card::Declined { code, decline_code } => Err(charge.decline(draft, code, decline_code)),
        // A bare charge has no step in which the customer could authenticate.
        Card::NeedsAuthentication => {
            Err(charge.decline(draft, "card_declined", "authentication_required"))
        }
    }
}

/// `POST /v1/charges/{id}/capture`
///
/// # Errors
/// 404 when there is none, 400 when it cannot be captured.
pub fn capture(draft: &mut Draft<'_>, id: &str, params: &Params) -> Result<Object, ApiError> {
    params.only(&[
        "amount",
        "application_fee_amount",
        "receipt_email",
        "statement_descriptor",
        "transfer_data",
    ])?;
    let charge = find(draft.book, id, "charge")?;
    let amount = params.amount("amount")?.unwrap_or(charge.amount);
    if charge.payment_intent.is_some() {
        return Err(ApiError::invalid(format!(
            "Charge {id} belongs to a PaymentIntent; capture the PaymentIntent instead."
        )));
    }
    if charge.captured || charge.refunded || charge.status != "succeeded" {
        return Err(
            ApiError::invalid(format!("Charge {id} has already been captured."))
                .code("charge_already_captured"),
        );
    }
    if amount > charge.amount {
        return Err(
            ApiError::invalid("You cannot capture more than the charge's amount.")
                .code("amount_too_large")
                .param("amount"),
        );
    }
    Ok(Charge::clone(&charge).take(draft, amount))
}

/// `GET /v1/charges/{id}`
///
/// # Errors
/// 404 when there is none.
pub fn retrieve(book: &Book, id: &str) -> Result<Object, ApiError> {
    find(book, id, "id").map(Object::Charge)
}

/// `GET /v1/charges`
///
/// # Errors
/// 400 for bad filters.
pub fn list(book: &Book, params: &Params) -> Result<List, ApiError> {
    params.only(
        &[
            list::WINDOW_PARAMS,
            &["customer", "payment_intent", "transfer_group"],
        ]
        .concat(),
    )?;
    let customer = params.text("customer")?;
    let intent = params.text("payment_intent")?;
    let group = params.text("transfer_group")?;
    Window::read(params)?.page(&book.charges, "charge", "/v1/charges", |charge| {
        (customer.is_none() || charge.customer.as_deref() == customer)
            && (intent.is_none() || charge.payment_intent.as_deref() == intent)
            && (group.is_none() || charge.transfer_group.as_deref() == group)
    })
}

/// The charge with this id.
///
/// # Errors
/// 404 when there is none.
pub fn find(book: &Book, id: &str, param: &str) -> Result<Arc<Charge>, ApiError> {
    book.charges
        .get(id)
        .map(Arc::clone)
        .ok_or_else(|| ApiError::no_such("charge", id, param))
}
