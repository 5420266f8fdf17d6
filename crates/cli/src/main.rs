//! `dlog`: the server and its tools in one program.
//!
//! Exit codes: 0 done; 1 failed, with one line on standard error that says why; 2 wrong usage.

mod commands;
mod config;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::serve::ServeArgs;

/// A distributed commit log that Kafka clients use.
///
/// Without a command: `dlog serve`.
#[derive(Debug, Parser)]
#[command(name = "dlog", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(Box<ServeArgs>),
    /// Show the server's settings.
    Config(commands::config::ConfigArgs),
    /// Look into, check and mend the segments of a log, offline.
    Log(commands::log::LogArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        None => commands::serve::run(&ServeArgs::default()),
        Some(Command::Serve(arguments)) => commands::serve::run(&arguments),
        Some(Command::Config(arguments)) => {
            commands::config::run(arguments).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Log(arguments)) => commands::log::run(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("dlog: {error:#}");
        ExitCode::FAILURE
    })
}
