//! Texts: the loops over the bytes of headers, forms and JSON, and the strict reading of JSON documents.
//!
//! Here: what every byte of a request and of an answer passes through, and what a record of a document may look like. Not here: what
//! any of it means.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod bytes;
pub mod document;
pub mod json;
