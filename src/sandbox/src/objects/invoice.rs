//! Invoices and their items: an invoice is a draft, gets items, is paid or voided.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::charge::{Charge, Taking};
use super::magic::Card;
use super::{Draft, Object};
use crate::answer::ApiError;
use crate::book::Book;
use crate::form::Params;

/// An invoice in Stripe's shape, as far as its money goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct Invoice {
    pub id: String,
    pub amount_due: i64,
    pub amount_paid: i64,
    pub amount_remaining: i64,
    pub auto_advance: bool,
    pub created: i64,
    pub currency: String,
    pub customer: Option<String>,
    pub livemode: bool,
    pub metadata: BTreeMap<String, String>,
    pub status: String,
    pub total: i64,
}

/// One line of an invoice.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct InvoiceItem {
    pub id: String,
    pub amount: i64,
    pub created: i64,
    pub currency: String,
    pub customer: Option<String>,
    pub invoice: String,
    pub livemode: bool,
}

/// `POST /v1/invoices`: an empty draft.
///
/// # Errors
/// 400 for bad parameters.
pub fn create(draft: &mut Draft<'_>, params: &Params) -> Result<Object, ApiError> {
    params.only(&["auto_advance", "currency", "customer", "metadata"])?;
    if !params.has("customer") {
        return Err(ApiError::missing("customer"));
    }
    let currency = match params.has("currency") {
        true => params.required_currency()?,
        false => "usd".to_owned(),
    };
    let invoice = Invoice {
        id: draft.id("in"),
        amount_due: 0,
        amount_paid: 0,
        amount_remaining: 0,
        auto_advance: params.boolean("auto_advance")? == Some(true),
        created: draft.cause.now_s,
        currency,
        customer: draft.customer(params.text("customer")?)?,
        livemode: false,
        metadata: params.map("metadata")?,
        status: "draft".to_owned(),
        total: 0,
    };
    Ok(put(draft, invoice, "invoice.created"))
}

/// `POST /v1/invoiceitems`: one more line of a draft.
///
/// # Errors
/// 404 without the invoice, 400 when it is no draft or the amount is none.
pub fn add_item(draft: &mut Draft<'_>, params: &Params) -> Result<Object, ApiError> {
    params.only(&["amount", "currency", "customer", "description", "invoice"])?;
    let id = params
        .text("invoice")?
        .ok_or_else(|| ApiError::missing("invoice"))?;
    let mut invoice = in_state(draft.book, id, "draft")?;
    let amount = params.required_amount("amount")?;
    let currency = params.required_currency()?;
    if currency != invoice.currency {
        return Err(
            ApiError::invalid("The item has another currency than the invoice.").param("currency"),
        );
    }
    invoice.total = invoice.total.saturating_add(amount);
    invoice.amount_due = invoice.total;
    invoice.amount_remaining = invoice.total;
    let item = InvoiceItem {
        id: draft.id("ii"),
        amount,
        created: draft.cause.now_s,
        currency,
        customer: invoice.customer.clone(),
        invoice: invoice.id.clone(),
        livemode: false,
    };
    put(draft, invoice, "invoice.updated");
    let object = Object::InvoiceItem(Arc::new(item));
    draft.put(object.clone());
    draft.event("invoiceitem.created", object.clone());
    Ok(object)
}

/// `POST /v1/invoices/{id}/finalize`
///
/// # Errors
/// 404 when there is none, 400 when it is no draft.
pub fn finalize(draft: &mut Draft<'_>, id: &str, params: &Params) -> Result<Object, ApiError> {
    params.only(&["auto_advance"])?;
    let mut invoice = in_state(draft.book, id, "draft")?;
    "open".clone_into(&mut invoice.status);
    Ok(put(draft, invoice, "invoice.finalized"))
}

/// `POST /v1/invoices/{id}/pay`: charges the card with what is due.
///
/// # Errors
/// 404 when there is none, 400 when it is not open, 402 for a declined card.
pub fn pay(draft: &mut Draft<'_>, id: &str, params: &Params) -> Result<Object, ApiError> {
    params.only(&["payment_method", "source"])?;
    let mut invoice = in_state(draft.book, id, "open")?;
    let method = params.owned("payment_method")?;
    let mut charge = Charge::blank(
        draft.id("ch"),
        invoice.amount_due,
        invoice.currency.clone(),
        draft.cause.now_s,
    );
    charge.customer.clone_from(&invoice.customer);
    let card = Card::of(method.as_deref());
    charge.payment_method = method.or_else(|| Some("card_sandbox_visa".to_owned()));
    match card {
        Card::Good => {
            charge.pay(draft, Taking::Now);
        }
        Card::Declined { code, decline_code } => {
            return Err(charge.decline(draft, code, decline_code));
        }
        Card::NeedsAuthentication => {
            return Err(charge.decline(draft, "card_declined", "authentication_required"));
        }
    }
    invoice.amount_paid = invoice.amount_due;
    invoice.amount_remaining = 0;
    "paid".clone_into(&mut invoice.status);
    Ok(put(draft, invoice, "invoice.paid"))
}

/// `POST /v1/invoices/{id}/void`
///
/// # Errors
/// 404 when there is none, 400 when it is not open.
pub fn void(draft: &mut Draft<'_>, id: &str, params: &Params) -> Result<Object, ApiError> {
    params.only(&[])?;
    let mut invoice = in_state(draft.book, id, "open")?;
    "void".clone_into(&mut invoice.status);
    Ok(put(draft, invoice, "invoice.voided"))
}

fn in_state(book: &Book, id: &str, wanted: &str) -> Result<Invoice, ApiError> {
    let invoice = book
        .invoices
        .get(id)
        .ok_or_else(|| ApiError::no_such("invoice", id, "invoice"))?;
    if invoice.status != wanted {
        return Err(ApiError::invalid(format!(
            "This invoice is {}, not {wanted}.",
            invoice.status
        )));
    }
    Ok(Invoice::clone(invoice))
}

fn put(draft: &mut Draft<'_>, invoice: Invoice, event: &str) -> Object {
    let object = Object::Invoice(Arc::new(invoice));
    draft.put(object.clone());
    draft.event(event, object.clone());
    object
}
