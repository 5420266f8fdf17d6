//! `dlog bench`: what a broker takes, gives and how long it needs, measured from outside. Works
//! against any Kafka broker, so that two can be compared by the same client.

mod e2e;
mod fetch;
mod group;
mod group_member;
mod load;
mod pace;
mod produce;
mod producers;
mod report;
mod transactions;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::remote::{self, EXIT_CODES, RemoteArgs};
use fetch::FetchArgs;
use group::GroupArgs;
use load::LoadArgs;
use producers::ProducersArgs;
use transactions::TransactionsArgs;

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
    /// Send in transactions that are committed at a fixed interval; each connection is a producer.
    Transactions(TransactionsArgs),
    /// Time how long a group takes to agree when a member leaves and another joins.
    Group(GroupArgs),
    /// Have many idempotent producers write once each: what a broker remembers of idle ones.
    Producers(ProducersArgs),
}

/// Runs `dlog bench`.
pub fn run(arguments: BenchArgs) -> Result<ExitCode> {
    let BenchArgs { remote, command } = arguments;
    remote::run(async move {
        let report = match command {
            BenchCommand::Produce(load) => produce::run(&remote, load).await?,
            BenchCommand::Fetch(fetch) => fetch::run(&remote, fetch).await?,
            BenchCommand::E2e(load) => e2e::run(&remote, load).await?,
            BenchCommand::Transactions(load) => transactions::run(&remote, load).await?,
            BenchCommand::Producers(load) => producers::run(&remote, load).await?,
            BenchCommand::Group(load) => {
                group::run(&remote, load).await?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        report.print(&remote)?;
        Ok(ExitCode::SUCCESS)
    })
}
