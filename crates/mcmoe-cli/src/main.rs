//! The `mcmoe` command: compress, evaluate and run Mixtral.
//!
//! Arguments are parsed in `args`, each subcommand lives in a file of `commands`, `output` prints and
//! `progress` reports. Everything else is in the libraries.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod output;
mod progress;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use mcmoe_mixtral::Backend;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use args::{Cli, Command};
use commands::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log(cli.verbose);
    match check_environment().and_then(|()| run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(Failure::Usage(reason)) => {
            output::note(&format!("error: {reason}"));
            ExitCode::from(2)
        }
        Err(failure) => {
            output::note(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Kernels are picked once, early: what `MCMOE_CPU` asks for may not be there.
fn check_environment() -> Result<(), Failure> {
    let backend =
        Backend::current().map_err(|error| Failure::Usage(format!("{}: {error}", Backend::VARIABLE)))?;
    tracing::debug!(%backend, "kernels");
    Ok(())
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Compress(args) => commands::compress::run(args),
        Command::Factors(args) => commands::factors::run(args),
        Command::Allocate(args) => commands::allocate::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Generate(args) => commands::generate::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Synthesize(args) => commands::synthesize::run(&args),
    }
}

/// Logs go to stderr; `RUST_LOG` decides over `-v`.
fn log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .log_internal_errors(false)
        .init();
}
