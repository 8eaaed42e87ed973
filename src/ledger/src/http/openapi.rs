//! The description of the public API. Written by hand; tests compare it with the routes and fields in the code.

/// The OpenAPI 3.1 document.
pub const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
