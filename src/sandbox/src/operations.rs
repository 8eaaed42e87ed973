//! Which function an operation is, and how its result becomes an answer.

use crate::answer::{Answer, ApiError};
use crate::form::Params;
use crate::objects::{
    Draft, balance, charge, customer, event, expand, intent, invoice, outbound_payment, payment,
    refund,
};
use crate::router::Operation;

/// Executes one operation into a draft.
///
/// # Errors
/// As the operation.
pub fn execute(
    draft: &mut Draft<'_>,
    operation: &Operation,
    params: &Params,
) -> Result<Answer, ApiError> {
    use Operation as O;
    let book = draft.book;
    let object = match operation {
        O::CustomerCreate => customer::create(draft, params),
        O::CustomerRetrieve(id) => customer::retrieve(book, id),
        O::ChargeCreate => charge::create(draft, params),
        O::ChargeRetrieve(id) => charge::retrieve(book, id),
        O::ChargeCapture(id) => charge::capture(draft, id, params),
        O::IntentCreate => intent::create(draft, params),
        O::IntentRetrieve(id) => intent::retrieve(book, id),
        O::IntentUpdate(id) => intent::update(draft, id, params),
        O::IntentConfirm(id) => payment::confirm(draft, id, params),
        O::IntentCapture(id) => payment::capture(draft, id, params),
        O::IntentCancel(id) => payment::cancel(draft, id, params),
        O::IntentIncrement(id) => payment::increment(draft, id, params),
        O::InvoiceCreate => invoice::create(draft, params),
        O::InvoiceItemCreate => invoice::add_item(draft, params),
        O::InvoiceFinalize(id) => invoice::finalize(draft, id, params),
        O::InvoicePay(id) => invoice::pay(draft, id, params),
        O::InvoiceVoid(id) => invoice::void(draft, id, params),
        O::OutboundPaymentCreate => outbound_payment::create(draft, params),
        O::OutboundPaymentCancel(id) => outbound_payment::cancel(draft, id),
        O::RefundCreate => refund::create(draft, params),
        O::RefundRetrieve(id) => refund::retrieve(book, id),
        O::EventRetrieve(id) => event::retrieve(book, id),
        O::CustomerList => return finish(draft, params, &customer::list(book, params)?),
        O::ChargeList => return finish(draft, params, &charge::list(book, params)?),
        O::IntentList => return finish(draft, params, &intent::list(book, params)?),
        O::RefundList => return finish(draft, params, &refund::list(book, params)?),
        O::EventList => return finish(draft, params, &event::list(book, params)?),
        O::BalanceRetrieve => return finish(draft, params, &balance::retrieve(book)),
    }?;
    finish(draft, params, &object)
}

/// Makes the answer, with what `expand` asks for.
fn finish<T: serde::Serialize>(
    draft: &Draft<'_>,
    params: &Params,
    body: &T,
) -> Result<Answer, ApiError> {
    if !params.has("expand") {
        return Ok(Answer::json(200, body));
    }
    let mut value = serde_json::to_value(body).unwrap_or_default();
    expand::expand(&|id: &str| draft.find(id), params, &mut value)?;
    Ok(Answer::json(200, &value))
}
