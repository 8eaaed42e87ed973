//! The binary `keybrake`: the service and the command line. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    keybrake_ledger::cli::main()
}
