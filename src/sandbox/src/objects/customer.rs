//! Customers: create, retrieve, list.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::list::{self, List, Window};
use super::{Draft, Object};
use crate::answer::ApiError;
use crate::book::Book;
use crate::form::Params;

/// A customer in Stripe's shape.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct Customer {
    pub id: String,
    pub balance: i64,
    pub created: i64,
    pub currency: Option<String>,
    pub delinquent: bool,
    pub description: Option<String>,
    pub email: Option<String>,
    pub livemode: bool,
    pub metadata: BTreeMap<String, String>,
    pub name: Option<String>,
    pub phone: Option<String>,
}

impl Customer {
    /// A customer with nothing but an id.
    #[must_use]
    pub fn bare(id: String, created: i64, metadata: BTreeMap<String, String>) -> Self {
        Self {
            id,
            balance: 0,
            created,
            currency: None,
            delinquent: false,
            description: None,
            email: None,
            livemode: false,
            metadata,
            name: None,
            phone: None,
        }
    }
}

/// `POST /v1/customers`
///
/// # Errors
/// 400 for bad parameters.
pub fn create(draft: &mut Draft<'_>, params: &Params) -> Result<Object, ApiError> {
    params.only(&[
        "address",
        "description",
        "email",
        "metadata",
        "name",
        "payment_method",
        "phone",
        "shipping",
        "source",
    ])?;
    let metadata = params.map("metadata")?;
    let mut customer = Customer::bare(draft.id("cus"), draft.cause.now_s, metadata);
    customer.description = params.owned("description")?;
    customer.email = params.owned("email")?;
    customer.name = params.owned("name")?;
    customer.phone = params.owned("phone")?;
    let object = Object::Customer(Arc::new(customer));
    draft.put(object.clone());
    draft.event("customer.created", object.clone());
    Ok(object)
}

/// `GET /v1/customers/{id}`
///
/// # Errors
/// 404 when there is none.
pub fn retrieve(book: &Book, id: &str) -> Result<Object, ApiError> {
    book.customers
        .get(id)
        .map(|c| Object::Customer(Arc::clone(c)))
        .ok_or_else(|| ApiError::no_such("customer", id, "id"))
}

/// `GET /v1/customers`
///
/// # Errors
/// 400 for bad filters.
pub fn list(book: &Book, params: &Params) -> Result<List, ApiError> {
    params.only(&[list::WINDOW_PARAMS, &["email"]].concat())?;
    let email = params.text("email")?;
    Window::read(params)?.page(&book.customers, "customer", "/v1/customers", |c| {
        email.is_none() || c.email.as_deref() == email
    })
}
