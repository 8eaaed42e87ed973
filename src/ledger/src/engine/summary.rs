//! What is left of a stored answer when it has been retired: `{id, object, amount, currency, status}`.

use keybrake_contract::wire::StoredAnswer;
use serde_json::{Map, Value};

use crate::store::HoldRow;

/// The members of an answer that stay.
const KEPT: [&str; 5] = ["id", "object", "amount", "currency", "status"];

/// The summary of an answer.
#[must_use]
pub fn of_answer(answer: &StoredAnswer) -> StoredAnswer {
    let whole: Map<String, Value> = serde_json::from_str(&answer.body).unwrap_or_default();
    let kept = whole.into_iter().filter(|(name, value)| {
        KEPT.contains(&name.as_str()) && !value.is_object() && !value.is_array()
    });
    of_members(kept.collect())
}

/// The summary of a request whose answer was never kept.
#[must_use]
pub fn of_row(row: &HoldRow) -> StoredAnswer {
    let mut members = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        members.insert(name.to_owned(), value.unwrap_or(Value::Null));
    };
    put("id", row.object.clone().map(Value::from));
    put("object", None);
    put("amount", row.amount.map(|minor| Value::from(minor.amount)));
    put(
        "currency",
        row.amount.map(|minor| Value::from(minor.currency.as_str())),
    );
    put("status", None);
    of_members(members)
}

fn of_members(members: Map<String, Value>) -> StoredAnswer {
    StoredAnswer {
        status: 200,
        content_type: "application/json".to_owned(),
        body: Value::Object(members).to_string(),
        vendor_request_id: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_keeps_five_members_and_nothing_personal() {
        let answer = StoredAnswer {
            status: 200,
            content_type: "application/json".to_owned(),
            body: r#"{"id":"ch_1","object":"charge","amount":999,"currency":"usd","status":"succeeded","customer":"cus_1",
                      "billing_details":{"name":"Somebody"},"client_secret":"s"}"#
                .to_owned(),
            vendor_request_id: Some("req_1".to_owned()),
        };
        let summary = of_answer(&answer);
        assert_eq!(
            summary.body,
            r#"{"amount":999,"currency":"usd","id":"ch_1","object":"charge","status":"succeeded"}"#
        );
        let strange = StoredAnswer {
            body: "<html>".to_owned(),
            ..answer
        };
        assert_eq!(of_answer(&strange).body, "{}");
    }
}
