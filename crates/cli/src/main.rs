//! `dlog`: the server and its tools in one program.
//!
//! Exit codes: 0 done; 1 failed, with one line on standard error that says why; 2 wrong usage; the
//! commands that talk to a broker have more. Whoever closes our output has enough of it: that is no
//! failure.

mod commands;
mod config;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use commands::remote;
use commands::serve::ServeArgs;

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed, with one line on standard error that says why; 2 wrong \
usage. Commands that talk to a broker have more: see their --help.";

/// A distributed commit log that Kafka clients use.
///
/// Without a command: `dlog serve`.
#[derive(Debug, Parser)]
#[command(name = "dlog", version, max_term_width = 100, after_help = EXIT_CODES)]
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
    /// List, describe and delete groups, and move their offsets.
    Group(commands::group::GroupArgs),
    /// List, describe and abort transactions.
    Transaction(commands::transaction::TransactionArgs),
    /// Measure a broker: throughput and latency.
    Bench(commands::bench::BenchArgs),
    /// Look into, check and mend the segments of a log, offline.
    Log(commands::log::LogArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print a manual page: of dlog, or of one of its commands.
    Man {
        /// The command, for example: topic create.
        command: Vec<String>,
        /// Write the pages of all commands into this folder instead.
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "dlog", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}

fn man(command: &[String], dir: Option<&Path>) -> anyhow::Result<()> {
    let mut all = Arguments::command();
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        return clap_mangen::generate_to(all, dir)
            .with_context(|| format!("cannot write to {}", dir.display()));
    }
    // Names the commands as one types them.
    all.build();
    let mut found = &all;
    for word in command {
        let Some(next) = found.find_subcommand(word) else {
            let message = format!("there is no command {}", command.join(" "));
            Arguments::command()
                .error(ErrorKind::InvalidSubcommand, message)
                .exit();
        };
        found = next;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(found.clone()).render(&mut page)?;
    std::io::stdout().write_all(&page)?;
    Ok(())
}

fn run(command: Option<Command>) -> anyhow::Result<ExitCode> {
    match command {
        None => return commands::serve::run(&ServeArgs::default()),
        Some(Command::Serve(arguments)) => return commands::serve::run(&arguments),
        Some(Command::Config(arguments)) => commands::config::run(arguments)?,
        Some(Command::Produce(arguments)) => return commands::produce::run(*arguments),
        Some(Command::Consume(arguments)) => return commands::consume::run(*arguments),
        Some(Command::Topic(arguments)) => return commands::topic::run(arguments),
        Some(Command::Group(arguments)) => return commands::group::run(arguments),
        Some(Command::Transaction(arguments)) => return commands::transaction::run(arguments),
        Some(Command::Bench(arguments)) => return commands::bench::run(arguments),
        Some(Command::Log(arguments)) => return commands::log::run(&arguments),
        Some(Command::Completions { shell }) => completions(shell)?,
        Some(Command::Man { command, dir }) => man(&command, dir.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The command line. A setting without `serve` before it is the mistake that is easily made, because
/// `dlog` alone serves: the message says where it belongs.
fn parse() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|mut error| {
        let first = std::env::args().nth(1).unwrap_or_default();
        let flag = first.split('=').next().unwrap_or_default();
        if error.kind() == ErrorKind::UnknownArgument && is_setting(flag) {
            let tip = format!("settings of the server come after `serve`: dlog serve {flag} …");
            error.insert(
                ContextKind::Suggested,
                ContextValue::StyledStrs(vec![tip.into()]),
            );
        }
        error.exit()
    })
}

fn is_setting(flag: &str) -> bool {
    let name = flag.strip_prefix("--");
    name.is_some_and(|name| {
        name == "config" || config::table::SETTINGS.iter().any(|one| one.flag == name)
    })
}

fn main() -> ExitCode {
    match run(parse().command) {
        Ok(code) => code,
        Err(error) if remote::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            remote::complain(&error);
            ExitCode::FAILURE
        }
    }
}
