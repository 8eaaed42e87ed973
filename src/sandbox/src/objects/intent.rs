//! Payment intents: create, retrieve, list, update, confirm, capture, cancel.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::charge::{self, Taking};
use super::list::{self, List, Window};
use super::magic::Card;
use super::{Charge, Draft, Movement, Object};
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
const CONFIRM_PARAMS: &[&str] = &[
    "amount_to_confirm",
    "capture_method",
    "error_on_requires_action",
    "mandate",
    "mandate_data",
    "off_session",
    "payment_method",
    "payment_method_data",
    "payment_method_options",
    "payment_method_types",
    "radar_options",
    "receipt_email",
    "return_url",
    "setup_future_usage",
    "shipping",
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

/// `POST /v1/payment_intents/{id}/confirm`
///
/// # Errors
/// 404 when there is none, 400 in a state that does not allow it, 402 for a declined card.
pub fn confirm(draft: &mut Draft<'_>, id: &str, params: &Params) -> Result<Object, ApiError> {
    params.only(CONFIRM_PARAMS)?;
    let mut intent = PaymentIntent::clone(&*find(draft.book, id, "intent")?);
    if !is_open(&intent) {
        return Err(ApiError::unexpected_state(format!(
            "You cannot confirm this PaymentIntent because it has a status of {}.",
            intent.status
        )));
    }
    if let Some(amount) = params.amount("amount_to_confirm")?
        && amount != intent.amount
    {
        return Err(
            ApiError::invalid("The amount to confirm is not the PaymentIntent's amount.")
                .param("amount_to_confirm"),
        );
    }
    if let Some(method) = capture_method(params)? {
        intent.capture_method = method;
    }
    set_method(&mut intent, params)?;
    if intent.payment_method.is_none() {
        return Err(no_method());
    }
    pay(draft, intent)
}

/// `POST /v1/payment_intents/{id}/capture`
///
/// # Errors
/// 404 when there is none, 400 in a state or for an amount that does not allow it.
pub fn capture(draft: &mut Draft<'_>, id: &str, params: &Params) -> Result<Object, ApiError> {
    params.only(&[
        "amount_to_capture",
        "application_fee_amount",
        "final_capture",
        "metadata",
        "statement_descriptor",
        "statement_descriptor_suffix",
        "transfer_data",
    ])?;
    let mut intent = PaymentIntent::clone(&*find(draft.book, id, "intent")?);
    let amount = params
        .amount("amount_to_capture")?
        .unwrap_or(intent.amount_capturable);
    if intent.status != "requires_capture" {
        return Err(ApiError::unexpected_state(format!(
            "This PaymentIntent could not be captured because it has a status of {}.",
            intent.status
        )));
    }
    if amount > intent.amount_capturable {
        return Err(ApiError::invalid(
            "The amount to capture is greater than the capturable amount.",
        )
        .code("amount_too_large")
        .param("amount_to_capture"));
    }
    let charge = authorized_charge(draft.book, &intent)?;
    charge.take(draft, amount);
    intent.amount_capturable = 0;
    intent.amount_received = amount;
    "succeeded".clone_into(&mut intent.status);
    Ok(draft.put_intent(intent, Some("payment_intent.succeeded")))
}

/// `POST /v1/payment_intents/{id}/cancel`
///
/// # Errors
/// 404 when there is none, 400 in a state that does not allow it.
pub fn cancel(draft: &mut Draft<'_>, id: &str, params: &Params) -> Result<Object, ApiError> {
    params.only(&["cancellation_reason"])?;
    let mut intent = PaymentIntent::clone(&*find(draft.book, id, "intent")?);
    if !is_open(&intent) && intent.status != "requires_capture" {
        return Err(ApiError::unexpected_state(format!(
            "You cannot cancel this PaymentIntent because it has a status of {}.",
            intent.status
        )));
    }
    if intent.status == "requires_capture" {
        let mut charge = authorized_charge(draft.book, &intent)?;
        draft.moved(Movement::Voided {
            currency: charge.currency.clone(),
            amount: charge.amount,
        });
        charge.amount_refunded = charge.amount;
        charge.refunded = true;
        draft.put_charge(charge, "charge.refunded");
    }
    intent.amount_capturable = 0;
    intent.next_action = None;
    intent.canceled_at = Some(draft.cause.now_s);
    intent.cancellation_reason = params.owned("cancellation_reason")?;
    "canceled".clone_into(&mut intent.status);
    Ok(draft.put_intent(intent, Some("payment_intent.canceled")))
}

/// The customer has authenticated (asked for over the control API): the waiting intent pays.
///
/// # Errors
/// 404 when there is none, 400 when it waits for nothing.
pub fn authenticate(draft: &mut Draft<'_>, id: &str) -> Result<Object, ApiError> {
    let mut intent = PaymentIntent::clone(&*find(draft.book, id, "intent")?);
    if intent.status != "requires_action" {
        return Err(ApiError::unexpected_state(format!(
            "This PaymentIntent has a status of {}.",
            intent.status
        )));
    }
    intent.payment_method = Some("pm_card_visa".to_owned());
    pay(draft, intent)
}

/// Charges the intent's card and brings the intent into the state that follows.
fn pay(draft: &mut Draft<'_>, mut intent: PaymentIntent) -> Result<Object, ApiError> {
    intent.next_action = None;
    intent.last_payment_error = None;
    let card = Card::of(intent.payment_method.as_deref());
    if card == Card::NeedsAuthentication {
        "requires_action".clone_into(&mut intent.status);
        intent.next_action = Some(
            json!({"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}),
        );
        return Ok(draft.put_intent(intent, Some("payment_intent.requires_action")));
    }
    let mut charge = Charge::blank(
        draft.id("ch"),
        intent.amount,
        intent.currency.clone(),
        draft.cause.now_s,
    );
    charge.customer.clone_from(&intent.customer);
    charge.description.clone_from(&intent.description);
    charge.metadata.clone_from(&intent.metadata);
    charge.payment_intent = Some(intent.id.clone());
    charge.payment_method.clone_from(&intent.payment_method);
    charge.receipt_email.clone_from(&intent.receipt_email);
    charge.transfer_group.clone_from(&intent.transfer_group);
    intent.latest_charge = Some(charge.id.clone());
    if let Card::Declined { code, decline_code } = card {
        let mut error = charge.decline(draft, code, decline_code);
        "requires_payment_method".clone_into(&mut intent.status);
        intent.payment_method = None;
        intent.last_payment_error = serde_json::to_value(&error).ok();
        error.payment_intent =
            Some(draft.put_intent(intent, Some("payment_intent.payment_failed")));
        return Err(error);
    }
    if intent.capture_method == "manual" {
        charge.pay(draft, Taking::Later);
        intent.amount_capturable = intent.amount;
        "requires_capture".clone_into(&mut intent.status);
        return Ok(draft.put_intent(intent, Some("payment_intent.amount_capturable_updated")));
    }
    charge.pay(draft, Taking::Now);
    intent.amount_received = intent.amount;
    "succeeded".clone_into(&mut intent.status);
    Ok(draft.put_intent(intent, Some("payment_intent.succeeded")))
}

/// True while the intent has not been paid, authorised or canceled.
fn is_open(intent: &PaymentIntent) -> bool {
    matches!(
        intent.status.as_str(),
        "requires_payment_method" | "requires_confirmation" | "requires_action"
    )
}

/// Takes over a payment method from the parameters, if there is one.
fn set_method(intent: &mut PaymentIntent, params: &Params) -> Result<(), ApiError> {
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

fn capture_method(params: &Params) -> Result<Option<String>, ApiError> {
    match params.text("capture_method")? {
        None => Ok(None),
        Some(method @ ("automatic" | "automatic_async" | "manual")) => Ok(Some(method.to_owned())),
        Some(other) => Err(
            ApiError::invalid(format!("Invalid capture_method: {other}")).param("capture_method"),
        ),
    }
}

fn no_method() -> ApiError {
    ApiError::unexpected_state(
        "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the \
         PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a payment method.",
    )
}

fn authorized_charge(book: &Book, intent: &PaymentIntent) -> Result<Charge, ApiError> {
    let id = intent.latest_charge.as_deref().unwrap_or_default();
    charge::find(book, id, "latest_charge").map(|charge| Charge::clone(&charge))
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
