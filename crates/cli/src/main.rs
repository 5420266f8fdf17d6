//! `dlog`: the server and its tools in one program.
//!
//! Exit codes: 0 done; 1 failed, with one line on standard error that says why; 2 wrong usage.

mod commands;
mod config;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
    /// Send lines as records.
    Produce(Box<commands::produce::ProduceArgs>),
    /// Print records.
    Consume(Box<commands::consume::ConsumeArgs>),
    /// Create, list, describe, alter and delete topics.
    Topic(commands::topic::TopicArgs),
    /// Measure a broker: throughput and latency.
    Bench(commands::bench::BenchArgs),
    /// Look into, check and mend the segments of a log, offline.
    Log(commands::log::LogArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

fn man() -> anyhow::Result<ExitCode> {
    clap_mangen::Man::new(Arguments::command()).render(&mut std::io::stdout())?;
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        None => commands::serve::run(&ServeArgs::default()),
        Some(Command::Serve(arguments)) => commands::serve::run(&arguments),
        Some(Command::Config(arguments)) => {
            commands::config::run(arguments).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Produce(arguments)) => commands::produce::run(*arguments),
        Some(Command::Consume(arguments)) => commands::consume::run(*arguments),
        Some(Command::Topic(arguments)) => commands::topic::run(arguments),
        Some(Command::Bench(arguments)) => commands::bench::run(arguments),
        Some(Command::Completions { shell }) => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "dlog",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Man) => man(),
        Some(Command::Log(arguments)) => commands::log::run(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("dlog: {error:#}");
        ExitCode::FAILURE
    })
}
