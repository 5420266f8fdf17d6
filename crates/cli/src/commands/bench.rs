//! `dlog bench`: what a broker takes, gives and how long it needs, measured from outside. Works
//! against any Kafka broker, so that two can be compared by the same client.

mod e2e;
mod fetch;
mod load;
mod pace;
mod produce;
mod report;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::remote::{self, EXIT_CODES, RemoteArgs};
use fetch::FetchArgs;
use load::LoadArgs;

/// Options of `dlog bench`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct BenchArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Send ready-made batches and time their acknowledgements.
    Produce(LoadArgs),
    /// Fetch what a topic has now, without looking at the records.
    Fetch(FetchArgs),
    /// Send at a fixed rate and time until a consumer has each batch.
    E2e(LoadArgs),
}

/// Runs `dlog bench`.
pub fn run(arguments: BenchArgs) -> Result<ExitCode> {
    let BenchArgs { remote, command } = arguments;
    remote::run(async move {
        let report = match command {
            BenchCommand::Produce(load) => produce::run(&remote, load).await?,
            BenchCommand::Fetch(fetch) => fetch::run(&remote, fetch).await?,
            BenchCommand::E2e(load) => e2e::run(&remote, load).await?,
        };
        report.print(&remote)?;
        Ok(ExitCode::SUCCESS)
    })
}
