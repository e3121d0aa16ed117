//! The command line: arguments in, exit code out.

mod answer;
mod args;
mod cache;
mod commands;
mod init;
mod signals;
mod sweep;
mod terminal;
mod threads;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("SINTER_LOG").unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .init();
    signals::outlive_file_limits();
    sinter_model::set_memory_limit(args.memory);
    if args.command.computes() {
        threads::stop_spinning();
        threads::share();
    }
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A reader that is gone does not change what happened.
            let _gone = writeln!(std::io::stderr(), "{}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}
