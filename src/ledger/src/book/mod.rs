//! The rules of money: pure functions from typed present values to movements.
//!
//! Here: the four parts of a cap and how they move, windows of time, what a request costs, what an
//! execution settles, what evidence decides. Not here:
//! which state follows which (`contract::lifecycle`), where balances are kept (`store`), a clock.

mod evidence;
mod parts;
mod price;
mod rate;
pub mod rolling;
mod settle;
mod window;
mod zone;

pub use evidence::{Evidence, Finding, Undecided, decide, verdict_of};
pub use parts::{Movement, Parts};
pub use price::{Capped, KnownObject, PriceTerms, PricedBy, Pricing, price};
pub use rate::{QuotedRate, Rate, Rated, Rates};
pub use settle::{MAX_COST, OpenPart, Settlement, beyond_settled, executed_cost, settle};
pub use window::{Window, WindowKind};
pub use zone::{canonical as canonical_zone, zone};

#[cfg(test)]
mod history_tests;
