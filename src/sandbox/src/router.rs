//! Method and path → operation.

use crate::answer::ApiError;

/// An operation of the API, with the object it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    CustomerCreate,
    CustomerRetrieve(String),
    CustomerList,
    ChargeCreate,
    ChargeRetrieve(String),
    ChargeList,
    ChargeCapture(String),
    IntentCreate,
    IntentRetrieve(String),
    IntentList,
    IntentUpdate(String),
    IntentConfirm(String),
    IntentCapture(String),
    IntentCancel(String),
    IntentIncrement(String),
    InvoiceCreate,
    InvoiceItemCreate,
    InvoiceFinalize(String),
    InvoicePay(String),
    InvoiceVoid(String),
    OutboundPaymentCreate,
    OutboundPaymentCancel(String),
    RefundCreate,
    RefundRetrieve(String),
    RefundList,
    EventRetrieve(String),
    EventList,
    BalanceRetrieve,
}

/// An operation and the name it is counted under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What to do.
    pub operation: Operation,
    /// `POST /v1/charges/{id}/capture`
    pub endpoint: &'static str,
}

/// The name under which requests to no endpoint are counted.
pub const UNKNOWN_ENDPOINT: &str = "unknown";

/// Finds the operation of a request.
///
/// # Errors
/// 404 in Stripe's words.
pub fn route(method: &str, path: &str) -> Result<Route, ApiError> {
    use Operation as O;
    let decoded = decode_unreserved(path);
    let segments: Vec<&str> = decoded.split('/').skip(1).collect();
    let (operation, endpoint) = match (method, segments.as_slice()) {
        ("POST", ["v1", "customers"]) => (O::CustomerCreate, "POST /v1/customers"),
        ("GET", ["v1", "customers"]) => (O::CustomerList, "GET /v1/customers"),
        ("GET", ["v1", "customers", id]) => (
            O::CustomerRetrieve((*id).to_owned()),
            "GET /v1/customers/{id}",
        ),
        ("POST", ["v1", "charges"]) => (O::ChargeCreate, "POST /v1/charges"),
        ("GET", ["v1", "charges"]) => (O::ChargeList, "GET /v1/charges"),
        ("GET", ["v1", "charges", id]) => {
            (O::ChargeRetrieve((*id).to_owned()), "GET /v1/charges/{id}")
        }
        ("POST", ["v1", "charges", id, "capture"]) => (
            O::ChargeCapture((*id).to_owned()),
            "POST /v1/charges/{id}/capture",
        ),
        ("POST", ["v1", "payment_intents"]) => (O::IntentCreate, "POST /v1/payment_intents"),
        ("GET", ["v1", "payment_intents"]) => (O::IntentList, "GET /v1/payment_intents"),
        ("GET", ["v1", "payment_intents", id]) => (
            O::IntentRetrieve((*id).to_owned()),
            "GET /v1/payment_intents/{id}",
        ),
        ("POST", ["v1", "payment_intents", id]) => (
            O::IntentUpdate((*id).to_owned()),
            "POST /v1/payment_intents/{id}",
        ),
        ("POST", ["v1", "payment_intents", id, "confirm"]) => (
            O::IntentConfirm((*id).to_owned()),
            "POST /v1/payment_intents/{id}/confirm",
        ),
        ("POST", ["v1", "payment_intents", id, "capture"]) => (
            O::IntentCapture((*id).to_owned()),
            "POST /v1/payment_intents/{id}/capture",
        ),
        ("POST", ["v1", "payment_intents", id, "cancel"]) => (
            O::IntentCancel((*id).to_owned()),
            "POST /v1/payment_intents/{id}/cancel",
        ),
        ("POST", ["v1", "payment_intents", id, "increment_authorization"]) => (
            O::IntentIncrement((*id).to_owned()),
            "POST /v1/payment_intents/{id}/increment_authorization",
        ),
        ("POST", ["v1", "invoiceitems"]) => (O::InvoiceItemCreate, "POST /v1/invoiceitems"),
        ("POST", ["v1", "invoices"]) => (O::InvoiceCreate, "POST /v1/invoices"),
        ("POST", ["v1", "invoices", id, "finalize"]) => (
            O::InvoiceFinalize((*id).to_owned()),
            "POST /v1/invoices/{id}/finalize",
        ),
        ("POST", ["v1", "invoices", id, "pay"]) => (
            O::InvoicePay((*id).to_owned()),
            "POST /v1/invoices/{id}/pay",
        ),
        ("POST", ["v1", "invoices", id, "void"]) => (
            O::InvoiceVoid((*id).to_owned()),
            "POST /v1/invoices/{id}/void",
        ),
        ("POST", ["v2", "money_management", "outbound_payments"]) => (
            O::OutboundPaymentCreate,
            "POST /v2/money_management/outbound_payments",
        ),
        ("POST", ["v2", "money_management", "outbound_payments", id, "cancel"]) => (
            O::OutboundPaymentCancel((*id).to_owned()),
            "POST /v2/money_management/outbound_payments/{id}/cancel",
        ),
        ("POST", ["v1", "refunds"]) => (O::RefundCreate, "POST /v1/refunds"),
        ("GET", ["v1", "refunds"]) => (O::RefundList, "GET /v1/refunds"),
        ("GET", ["v1", "refunds", id]) => {
            (O::RefundRetrieve((*id).to_owned()), "GET /v1/refunds/{id}")
        }
        ("GET", ["v1", "events"]) => (O::EventList, "GET /v1/events"),
        ("GET", ["v1", "events", id]) => {
            (O::EventRetrieve((*id).to_owned()), "GET /v1/events/{id}")
        }
        ("GET", ["v1", "balance"]) => (O::BalanceRetrieve, "GET /v1/balance"),
        _ => {
            let message = format!(
                "Unrecognized request URL ({method}: {path}). Please see https://docs.stripe.com/api for the API reference."
            );
            return Err(ApiError::new(404, "invalid_request_error", message));
        }
    };
    Ok(Route {
        operation,
        endpoint,
    })
}

/// Decodes `%63` and the like, as the vendor does before routing; what would change the path's shape stays encoded.
fn decode_unreserved(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let mut byte = [0_u8; 1];
        let pair = after
            .get(..2)
            .filter(|pair| hex::decode_to_slice(pair, &mut byte).is_ok());
        let [value] = byte;
        match pair {
            Some(_) if value.is_ascii_alphanumeric() || b"-._~".contains(&value) => {
                decoded.push(char::from(value));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_operations() {
        let table = [
            ("POST", "/v1/charges", Some("POST /v1/charges")),
            ("POST", "/v1/%63harges", Some("POST /v1/charges")),
            (
                "POST",
                "/v1/charges/ch_1/capture",
                Some("POST /v1/charges/{id}/capture"),
            ),
            (
                "GET",
                "/v1/payment_intents/pi_1",
                Some("GET /v1/payment_intents/{id}"),
            ),
            ("POST", "/v1/charges/", None),
            ("POST", "//v1/charges", None),
            ("POST", "/v1/charges%2fch_1", None),
            ("PUT", "/v1/charges", None),
            ("POST", "/v2/charges", None),
        ];
        for (method, path, endpoint) in table {
            assert_eq!(
                route(method, path).ok().map(|r| r.endpoint),
                endpoint,
                "{method} {path}"
            );
        }
    }
}
