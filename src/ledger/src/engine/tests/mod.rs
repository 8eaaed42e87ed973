//! The engine through its own handle, on a real store: a file in a folder of the test's own, and once more (`on_postgres`) a
//! schema of its own in a real PostgreSQL.

mod audit_tests;
mod backup_tests;
mod bench;
mod budgets_tests;
mod chain_tests;
mod commands_tests;
mod dice;
mod duplicates_tests;
mod durability_tests;
mod endings_tests;
mod evidence_tests;
mod gathered_tests;
mod histories_tests;
mod keys_tests;
mod lifecycle_tests;
mod model;
mod model_tests;
mod money_tests;
mod objects_tests;
mod on_postgres;
mod place;
mod rates_tests;
mod rolling_tests;
mod signed_tests;
mod statement_tests;
mod tamper_tests;
