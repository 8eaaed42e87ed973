//! How a payment intent is paid: confirm, authenticate, capture, cancel.

use serde_json::json;

use super::charge::{self, Taking};
use super::intent::{PaymentIntent, capture_method, find, is_open, no_method, set_method};
use super::magic::Card;
use super::{Charge, Draft, Movement, Object};
use crate::answer::ApiError;
use crate::book::Book;
use crate::form::Params;

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

/// `POST /v1/payment_intents/{id}/increment_authorization`: reserves more; `amount` is the new total.
///
/// # Errors
/// 404 when there is none, 400 in a state or for an amount that does not allow it.
pub fn increment(draft: &mut Draft<'_>, id: &str, params: &Params) -> Result<Object, ApiError> {
    params.only(&[
        "amount",
        "application_fee_amount",
        "description",
        "metadata",
        "statement_descriptor",
        "transfer_data",
    ])?;
    let mut intent = PaymentIntent::clone(&*find(draft.book, id, "intent")?);
    let amount = params.required_amount("amount")?;
    if intent.status != "requires_capture" {
        return Err(ApiError::unexpected_state(format!(
            "This PaymentIntent's authorization could not be incremented because it has a status of {}.",
            intent.status
        )));
    }
    if amount <= intent.amount {
        return Err(ApiError::invalid("The new amount must be more than before.").param("amount"));
    }
    let mut charge = authorized_charge(draft.book, &intent)?;
    draft.moved(Movement::Authorized {
        currency: charge.currency.clone(),
        amount: amount.saturating_sub(intent.amount),
    });
    charge.amount = amount;
    draft.put_charge(charge, "charge.updated");
    intent.amount = amount;
    intent.amount_capturable = amount;
    Ok(draft.put_intent(intent, Some("payment_intent.amount_capturable_updated")))
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
pub(super) fn pay(draft: &mut Draft<'_>, mut intent: PaymentIntent) -> Result<Object, ApiError> {
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

fn authorized_charge(book: &Book, intent: &PaymentIntent) -> Result<Charge, ApiError> {
    let id = intent.latest_charge.as_deref().unwrap_or_default();
    charge::find(book, id, "latest_charge").map(|charge| Charge::clone(&charge))
}
