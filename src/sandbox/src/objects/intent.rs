//! Payment intents: create, retrieve, list, update. How they are paid is in `payment`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::list::{self, List, Window};
use super::payment::pay;
use super::{Draft, Object};
use crate::answer::ApiError;
use crate::book::Book;
use crate::form::Params;

const CREATE_PARAMS: &[&str] = &[
    "amount",
    "amount_details",
    "application_fee_amount",
    "automatic_payment_methods",
    "capture_method",
    "confirm",
    "confirmation_method",
    "currency",
    "customer",
    "description",
    "error_on_requires_action",
    "mandate",
    "mandate_data",
    "metadata",
    "off_session",
    "on_behalf_of",
    "payment_method",
    "payment_method_configuration",
    "payment_method_data",
    "payment_method_options",
    "payment_method_types",
    "radar_options",
    "receipt_email",
    "return_url",
    "setup_future_usage",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_data",
    "transfer_group",
    "use_stripe_sdk",
];
/// A payment intent in Stripe's shape.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct PaymentIntent {
    pub id: String,
    pub amount: i64,
    pub amount_capturable: i64,
    pub amount_received: i64,
    pub canceled_at: Option<i64>,
    pub cancellation_reason: Option<String>,
    pub capture_method: String,
    pub client_secret: String,
    pub confirmation_method: String,
    pub created: i64,
    pub currency: String,
    pub customer: Option<String>,
    pub description: Option<String>,
    pub last_payment_error: Option<Value>,
    pub latest_charge: Option<String>,
    pub livemode: bool,
    pub metadata: BTreeMap<String, String>,
    pub next_action: Option<Value>,
    pub payment_method: Option<String>,
    pub payment_method_types: Vec<String>,
    pub receipt_email: Option<String>,
    pub statement_descriptor: Option<String>,
    pub status: String,
    pub transfer_group: Option<String>,
}

/// `POST /v1/payment_intents`
///
/// # Errors
/// 400 for bad parameters, 402 for a declined card.
pub fn create(draft: &mut Draft<'_>, params: &Params) -> Result<Object, ApiError> {
    params.only(CREATE_PARAMS)?;
    let amount = params.required_amount("amount")?;
    let currency = params.required_currency()?;
    let confirm_now = params.boolean("confirm")? == Some(true);
    let capture_method = capture_method(params)?.unwrap_or_else(|| "automatic".to_owned());
    let mut kinds: Vec<String> = params.map("payment_method_types")?.into_values().collect();
    if kinds.is_empty() {
        kinds.push("card".to_owned());
    }
    let customer = draft.customer(params.text("customer")?)?;
    let id = draft.id("pi");
    let client_secret = format!("{id}_secret_sandbox");
    let mut intent = PaymentIntent {
        id,
        amount,
        amount_capturable: 0,
        amount_received: 0,
        canceled_at: None,
        cancellation_reason: None,
        capture_method,
        client_secret,
        confirmation_method: params
            .owned("confirmation_method")?
            .unwrap_or_else(|| "automatic".to_owned()),
        created: draft.cause.now_s,
        currency,
        customer,
        description: params.owned("description")?,
        last_payment_error: None,
        latest_charge: None,
        livemode: false,
        metadata: params.map("metadata")?,
        next_action: None,
        payment_method: None,
        payment_method_types: kinds,
        receipt_email: params.owned("receipt_email")?,
        statement_descriptor: params.owned("statement_descriptor")?,
        status: "requires_payment_method".to_owned(),
        transfer_group: params.owned("transfer_group")?,
    };
    set_method(&mut intent, params)?;
    if confirm_now && intent.payment_method.is_none() {
        return Err(no_method());
    }
    let object = draft.put_intent(intent.clone(), Some("payment_intent.created"));
    if confirm_now {
        pay(draft, intent)
    } else {
        Ok(object)
    }
}

/// `POST /v1/payment_intents/{id}`: other amount, method or texts, while no money is on its way.
///
/// # Errors
/// 404 when there is none, 400 in a state that does not allow it.
pub fn update(draft: &mut Draft<'_>, id: &str, params: &Params) -> Result<Object, ApiError> {
    params.only(&[
        "amount",
        "application_fee_amount",
        "capture_method",
        "currency",
        "customer",
        "description",
        "metadata",
        "payment_method",
        "payment_method_data",
        "payment_method_options",
        "payment_method_types",
        "receipt_email",
        "setup_future_usage",
        "shipping",
        "statement_descriptor",
        "statement_descriptor_suffix",
        "transfer_data",
        "transfer_group",
    ])?;
    let mut intent = PaymentIntent::clone(&*find(draft.book, id, "intent")?);
    let touches_money = [
        "amount",
        "currency",
        "payment_method",
        "payment_method_data",
        "capture_method",
    ];
    if touches_money.iter().any(|name| params.has(name)) && !is_open(&intent) {
        return Err(ApiError::unexpected_state(format!(
            "This PaymentIntent's amount could not be updated because it has a status of {}.",
            intent.status
        )));
    }
    if let Some(amount) = params.amount("amount")? {
        intent.amount = amount;
    }
    if params.has("currency") {
        intent.currency = params.required_currency()?;
    }
    if let Some(method) = capture_method(params)? {
        intent.capture_method = method;
    }
    if let Some(customer) = draft.customer(params.text("customer")?)? {
        intent.customer = Some(customer);
    }
    if let Some(description) = params.owned("description")? {
        intent.description = Some(description);
    }
    intent.metadata.extend(params.map("metadata")?);
    set_method(&mut intent, params)?;
    Ok(draft.put_intent(intent, None))
}

/// True while the intent has not been paid, authorised or canceled.
pub(super) fn is_open(intent: &PaymentIntent) -> bool {
    matches!(
        intent.status.as_str(),
        "requires_payment_method" | "requires_confirmation" | "requires_action"
    )
}

/// Takes over a payment method from the parameters, if there is one.
pub(super) fn set_method(intent: &mut PaymentIntent, params: &Params) -> Result<(), ApiError> {
    let method = match params.owned("payment_method")? {
        Some(method) => Some(method),
        None if params.has("payment_method_data") => {
            let token = params.deep(&["payment_method_data", "card", "token"]);
            Some(token.unwrap_or("pm_card_visa").to_owned())
        }
        None => None,
    };
    if method.is_some() {
        intent.payment_method = method;
        "requires_confirmation".clone_into(&mut intent.status);
        intent.next_action = None;
    }
    Ok(())
}

pub(super) fn capture_method(params: &Params) -> Result<Option<String>, ApiError> {
    match params.text("capture_method")? {
        None => Ok(None),
        Some(method @ ("automatic" | "automatic_async" | "manual")) => Ok(Some(method.to_owned())),
        Some(other) => Err(
            ApiError::invalid(format!("Invalid capture_method: {other}")).param("capture_method"),
        ),
    }
}

pub(super) fn no_method() -> ApiError {
    ApiError::unexpected_state(
        "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the \
         PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a payment method.",
    )
}

/// The intent with this id.
///
/// # Errors
/// 404 when there is none.
pub fn find(book: &Book, id: &str, param: &str) -> Result<Arc<PaymentIntent>, ApiError> {
    book.intents
        .get(id)
        .map(Arc::clone)
        .ok_or_else(|| ApiError::no_such("payment_intent", id, param))
}

/// `GET /v1/payment_intents/{id}`
///
/// # Errors
/// 404 when there is none.
pub fn retrieve(book: &Book, id: &str) -> Result<Object, ApiError> {
    find(book, id, "intent").map(Object::PaymentIntent)
}

/// `GET /v1/payment_intents`
///
/// # Errors
/// 400 for bad filters.
pub fn list(book: &Book, params: &Params) -> Result<List, ApiError> {
    params.only(&[list::WINDOW_PARAMS, &["customer"]].concat())?;
    let customer = params.text("customer")?;
    Window::read(params)?.page(
        &book.intents,
        "payment_intent",
        "/v1/payment_intents",
        |intent| customer.is_none() || intent.customer.as_deref() == customer,
    )
}
