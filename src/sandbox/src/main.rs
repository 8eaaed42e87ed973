//! The binary: reads the command line, runs, turns an error into one line and an exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use keybrake_sandbox::config::Args;
use keybrake_sandbox::run::run;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter =
        EnvFilter::try_from_env("KEYBRAKE_SANDBOX_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
    let outcome = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(&args));
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keybrake-sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}
