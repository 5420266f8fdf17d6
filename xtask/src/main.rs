//! `cargo xtask`: everything that is automated, in Rust.
//!
//! One module per command. [`steps`] runs what a command consists of, says what it does, and ends
//! with a summary; a command fails when one of its steps does, but runs the others first.

mod bench;
mod compat;
mod dataset;
mod deny;
mod dlog;
mod docs;
mod eos;
mod kafka;
mod lint;
mod share;
mod steps;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::steps::Steps;

/// Automation of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Installs what the tests need into the target folder, then runs all of them.
    Test(test::TestOptions),
    /// Checks format, lints, documentation and dependencies.
    Lint,
    /// Brings the parts of the documents that are made from the code up to date.
    Docs,
    /// Runs real Kafka clients against the server, or against a real Kafka.
    Compat(compat::CompatOptions),
    /// Measures the server and a real Kafka in the same run, with the same clients.
    Bench(bench::BenchOptions),
    /// Sends a real data set through real clients while the server is killed, and reads it back.
    Dataset(dataset::DatasetOptions),
    /// Runs transactions of real clients while the server and the clients are killed, and judges the outcome.
    Eos(eos::EosOptions),
    /// Runs the Java share consumer, and kills it and the server meanwhile (KIP-932).
    Share(share::ShareOptions),
    /// Runs a real Kafka in the foreground.
    Kafka(kafka::KafkaOptions),
    /// Checks licences, banned and duplicate crates and their sources against deny.toml.
    Deny,
    /// Everything that must pass before a change is merged: test --all, then lint.
    Ci,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = match steps::workspace_root() {
        Ok(root) => root,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut steps = Steps::new(root);
    match arguments.command {
        Command::Test(options) => test::run(&mut steps, &options),
        Command::Lint => lint::run(&mut steps),
        Command::Docs => steps.step("documents", docs::write),
        Command::Compat(options) => compat::run(&mut steps, &options),
        Command::Bench(options) => steps.step("bench", |root| bench::run(root, &options)),
        Command::Dataset(options) => dataset::run(&mut steps, &options),
        Command::Eos(options) => eos::run(&mut steps, &options),
        Command::Share(options) => share::run(&mut steps, &options),
        Command::Kafka(options) => steps.step("kafka", |root| kafka::run(root, &options)),
        Command::Deny => deny::run(&mut steps),
        Command::Ci => {
            test::run(&mut steps, &test::TestOptions { all: true });
            lint::run(&mut steps);
        }
    }
    steps.finish()
}
