//! The engine through its own handle, on a real store in a folder of its own.

mod audit_tests;
mod backup_tests;
mod bench;
mod budgets_tests;
mod commands_tests;
mod dice;
mod duplicates_tests;
mod durability_tests;
mod endings_tests;
mod evidence_tests;
mod gathered_tests;
mod keys_tests;
mod lifecycle_tests;
mod money_tests;
mod objects_tests;
mod rolling_tests;
mod signed_tests;
mod statement_tests;
mod tamper_tests;
