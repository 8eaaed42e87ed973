//! Refunds: create, retrieve, list.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::list::{self, List, Window};
use super::{Charge, Draft, Movement, Object, charge};
use crate::answer::ApiError;
use crate::book::Book;
use crate::form::Params;

/// A refund in Stripe's shape.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct Refund {
    pub id: String,
    pub amount: i64,
    pub balance_transaction: Option<String>,
    pub charge: String,
    pub created: i64,
    pub currency: String,
    pub metadata: BTreeMap<String, String>,
    pub payment_intent: Option<String>,
    pub reason: Option<String>,
    pub status: String,
}

/// `POST /v1/refunds`
///
/// # Errors
/// 404 for an unknown charge or intent, 400 for more than what is left.
pub fn create(draft: &mut Draft<'_>, params: &Params) -> Result<Object, ApiError> {
    params.only(&[
        "amount",
        "charge",
        "instructions_email",
        "metadata",
        "origin",
        "payment_intent",
        "reason",
        "refund_application_fee",
        "reverse_transfer",
    ])?;
    let paid = target(draft.book, params)?;
    let asked = params.amount("amount")?;
    let left = paid.refundable();
    if paid.status != "succeeded" {
        return Err(ApiError::invalid(format!(
            "Charge {} did not succeed and cannot be refunded.",
            paid.id
        ))
        .param("charge"));
    }
    if left == 0 {
        return Err(
            ApiError::invalid(format!("Charge {} has already been refunded.", paid.id))
                .code("charge_already_refunded"),
        );
    }
    let amount = asked.unwrap_or(left);
    if amount > left {
        return Err(ApiError::invalid(format!(
            "Refund amount ({amount}) is greater than unrefunded amount on charge ({left}), in minor units."
        ))
        .code("amount_too_large")
        .param("amount"));
    }
    if !paid.captured && amount != paid.amount {
        return Err(
            ApiError::invalid("An uncaptured charge can only be refunded in full.").param("amount"),
        );
    }
    let metadata = params.map("metadata")?;
    let reason = params.owned("reason")?;
    Ok(give_back(draft, &paid, amount, metadata, reason))
}

fn give_back(
    draft: &mut Draft<'_>,
    paid: &Charge,
    amount: i64,
    metadata: BTreeMap<String, String>,
    reason: Option<String>,
) -> Object {
    let currency = paid.currency.clone();
    draft.moved(if paid.captured {
        Movement::Refunded {
            currency: currency.clone(),
            amount,
        }
    } else {
        Movement::Voided {
            currency: currency.clone(),
            amount,
        }
    });
    let mut after = paid.clone();
    after.amount_refunded = after.amount_refunded.saturating_add(amount);
    after.refunded = after.amount_refunded == after.amount;
    draft.put_charge(after, "charge.refunded");
    let refund = Refund {
        id: draft.id("re"),
        amount,
        balance_transaction: paid.captured.then(|| draft.id("txn")),
        charge: paid.id.clone(),
        created: draft.cause.now_s,
        currency,
        metadata,
        payment_intent: paid.payment_intent.clone(),
        reason,
        status: "succeeded".to_owned(),
    };
    let object = Object::Refund(Arc::new(refund));
    draft.put(object.clone());
    draft.event("refund.created", object.clone());
    object
}

fn target(book: &Book, params: &Params) -> Result<Arc<Charge>, ApiError> {
    match (params.text("charge")?, params.text("payment_intent")?) {
        (Some(_), Some(_)) => Err(ApiError::invalid("You may only specify one of these parameters: charge, payment_intent.")),
        (Some(id), None) => charge::find(book, id, "charge"),
        (None, Some(id)) => {
            let intent = super::intent::find(book, id, "payment_intent")?;
            match (&intent.latest_charge, intent.status.as_str()) {
                (Some(charge_id), "succeeded") => charge::find(book, charge_id, "payment_intent"),
                _ => Err(ApiError::invalid(format!("This PaymentIntent ({id}) does not have a successful charge to refund."))
                    .param("payment_intent")),
            }
        }
        (None, None) => Err(ApiError::invalid("One of the following params should be provided for this request: payment_intent or charge.")
            .code("parameter_missing")
            .param("charge")),
    }
}

/// `GET /v1/refunds/{id}`
///
/// # Errors
/// 404 when there is none.
pub fn retrieve(book: &Book, id: &str) -> Result<Object, ApiError> {
    book.refunds
        .get(id)
        .map(|r| Object::Refund(Arc::clone(r)))
        .ok_or_else(|| ApiError::no_such("refund", id, "id"))
}

/// `GET /v1/refunds`
///
/// # Errors
/// 400 for bad filters.
pub fn list(book: &Book, params: &Params) -> Result<List, ApiError> {
    params.only(&[list::WINDOW_PARAMS, &["charge", "payment_intent"]].concat())?;
    let charge = params.text("charge")?;
    let intent = params.text("payment_intent")?;
    Window::read(params)?.page(&book.refunds, "refund", "/v1/refunds", |refund| {
        (charge.is_none() || Some(refund.charge.as_str()) == charge)
            && (intent.is_none() || refund.payment_intent.as_deref() == intent)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Change;
    use crate::ids::Ids;
    use crate::objects::draft::Cause;

    type Act = fn(&mut Draft<'_>, &Params) -> Result<Object, ApiError>;

    /// Runs one operation on the book: the new object's id, or the error's code.
    fn run(book: &mut Book, act: Act, text: &str) -> Result<String, String> {
        let mut params = Params::default();
        params.read(text.as_bytes()).unwrap();
        let mut ids = Ids::draw().unwrap();
        let cause = Cause {
            request_id: "req_1",
            idempotency_key: None,
            now_s: 1,
            version: "v",
        };
        let mut draft = Draft::new(book, &mut ids, cause);
        let done = act(&mut draft, &params).map_err(|error| error.code.clone().unwrap_or_default());
        let (objects, movements) = draft.into_parts();
        if done.is_ok() {
            book.apply(Change {
                account: "".into(),
                key: None,
                objects,
                movements,
                record: None,
            });
        }
        done.map(|object| object.id().to_owned())
    }

    #[test]
    fn refunds_never_pass_what_is_left() {
        let mut book = Book::default();
        let charge = run(&mut book, charge::create, "amount=1000&currency=usd").unwrap();
        // amount, error, refunded so far
        let table = [
            ("amount=1001", Err("amount_too_large"), 0),
            ("amount=400", Ok(()), 400),
            ("amount=601", Err("amount_too_large"), 400),
            ("amount=600", Ok(()), 1000),
            ("amount=1", Err("charge_already_refunded"), 1000),
            ("", Err("charge_already_refunded"), 1000),
        ];
        for (n, (text, expected, refunded)) in table.into_iter().enumerate() {
            let done = run(&mut book, create, &format!("charge={charge}&{text}"));
            assert_eq!(
                done.map(|_| ()),
                expected.map_err(str::to_owned),
                "line {n}"
            );
            assert_eq!(
                book.totals
                    .refunded_minor
                    .get("usd")
                    .copied()
                    .unwrap_or_default(),
                refunded,
                "line {n}"
            );
            assert_eq!(
                book.charges.get(&charge).unwrap().amount_refunded,
                refunded,
                "line {n}"
            );
        }
    }

    #[test]
    fn a_refund_of_what_was_not_captured_gives_up_the_reservation() {
        let mut book = Book::default();
        let charge = run(
            &mut book,
            charge::create,
            "amount=1000&currency=usd&capture=false",
        )
        .unwrap();
        assert_eq!(book.totals.authorized_minor["usd"], 1000);
        assert!(run(&mut book, create, &format!("charge={charge}&amount=1")).is_err());
        run(&mut book, create, &format!("charge={charge}")).unwrap();
        assert_eq!(
            (
                book.totals.authorized_minor["usd"],
                book.totals.refunded_minor.len()
            ),
            (0, 0)
        );
    }

    #[test]
    fn a_part_capture_leaves_only_the_captured_part_to_refund() {
        let mut book = Book::default();
        let body = "amount=1000&currency=usd&capture_method=manual&confirm=true&payment_method=pm_card_visa";
        let intent = run(&mut book, super::super::intent::create, body).unwrap();
        assert_eq!(
            run(&mut book, create, &format!("payment_intent={intent}")),
            Err(String::new())
        );
        let id = intent.clone();
        let mut params = Params::default();
        params.read(b"amount_to_capture=700").unwrap();
        let mut ids = Ids::draw().unwrap();
        let cause = Cause {
            request_id: "req_1",
            idempotency_key: None,
            now_s: 1,
            version: "v",
        };
        let mut draft = Draft::new(&book, &mut ids, cause);
        super::super::payment::capture(&mut draft, &id, &params).unwrap();
        let (objects, movements) = draft.into_parts();
        book.apply(Change {
            account: "".into(),
            key: None,
            objects,
            movements,
            record: None,
        });
        assert_eq!(
            (
                book.totals.executed_minor["usd"],
                book.totals.authorized_minor["usd"]
            ),
            (700, 0)
        );
        assert!(
            run(
                &mut book,
                create,
                &format!("payment_intent={intent}&amount=701")
            )
            .is_err()
        );
        run(&mut book, create, &format!("payment_intent={intent}")).unwrap();
        assert_eq!(book.totals.refunded_minor["usd"], 700);
    }
}
