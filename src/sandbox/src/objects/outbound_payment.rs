//! Outbound payments of API v2: money that leaves a financial account. JSON in, JSON out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Draft, Movement, Object, currency};
use crate::answer::ApiError;
use crate::form::Params;

/// An outbound payment in Stripe's shape, as far as its money goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct OutboundPayment {
    pub id: String,
    pub amount: Amount,
    /// Seconds since 1970; v2 writes a date here.
    pub created: i64,
    pub description: Option<String>,
    pub livemode: bool,
    pub status: String,
}

/// An amount of API v2.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct Amount {
    pub value: i64,
    pub currency: String,
}

/// `POST /v2/money_management/outbound_payments`: stays in processing, where it can be cancelled.
///
/// # Errors
/// 400 for bad parameters.
pub fn create(draft: &mut Draft<'_>, params: &Params) -> Result<Object, ApiError> {
    params.only(&["amount", "description", "from", "metadata", "to"])?;
    let text = |name: &str| {
        params
            .deep(&["amount", name])
            .ok_or_else(|| ApiError::missing(name))
    };
    let value: i64 = text("value")?
        .parse()
        .ok()
        .filter(|value| *value > 0)
        .ok_or_else(|| ApiError::invalid("The amount must be positive.").param("amount.value"))?;
    let currency = currency::parse(text("currency")?)
        .ok_or_else(|| ApiError::invalid("Invalid currency.").param("amount.currency"))?;
    draft.moved(Movement::PaidOut {
        currency: currency.clone(),
        amount: value,
    });
    let payment = OutboundPayment {
        id: draft.id("obp"),
        amount: Amount { value, currency },
        created: draft.cause.now_s,
        description: params.owned("description")?,
        livemode: false,
        status: "processing".to_owned(),
    };
    Ok(put(draft, payment))
}

/// `POST /v2/money_management/outbound_payments/{id}/cancel`
///
/// # Errors
/// 404 when there is none, 400 when it has been cancelled.
pub fn cancel(draft: &mut Draft<'_>, id: &str) -> Result<Object, ApiError> {
    let known = draft
        .book
        .outbound_payments
        .get(id)
        .ok_or_else(|| ApiError::no_such("outbound payment", id, "id"))?;
    let mut payment = OutboundPayment::clone(known);
    if payment.status != "processing" {
        return Err(ApiError::invalid("It cannot be cancelled any more."));
    }
    draft.moved(Movement::Recalled {
        currency: payment.amount.currency.clone(),
        amount: payment.amount.value,
    });
    "canceled".clone_into(&mut payment.status);
    Ok(put(draft, payment))
}

fn put(draft: &mut Draft<'_>, payment: OutboundPayment) -> Object {
    let object = Object::OutboundPayment(Arc::new(payment));
    draft.put(object.clone());
    object
}
