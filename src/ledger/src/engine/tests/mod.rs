//! The engine through its own handle, on a real store in a folder of its own.

mod bench;
mod keys_tests;
mod lifecycle_tests;
