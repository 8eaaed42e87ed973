//! `GET /v1/balance`

use serde_json::{Value, json};

use crate::book::Book;

/// What was captured less what was given back, per currency.
#[must_use]
pub fn retrieve(book: &Book) -> Value {
    let mut available: Vec<Value> = book
        .totals
        .executed_minor
        .iter()
        .map(|(currency, executed)| {
            let refunded = book
                .totals
                .refunded_minor
                .get(currency)
                .copied()
                .unwrap_or_default();
            let amount = executed.saturating_sub(refunded);
            json!({"amount": amount, "currency": currency, "source_types": {"card": amount}})
        })
        .collect();
    if available.is_empty() {
        available.push(json!({"amount": 0, "currency": "usd", "source_types": {"card": 0}}));
    }
    json!({"object": "balance", "available": available, "livemode": false, "pending": []})
}
