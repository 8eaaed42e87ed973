//! What the tests of this crate share.

pub mod dice;
pub mod fake_host;
