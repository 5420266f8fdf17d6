//! `dlog config`: shows the server's settings without starting it.

use std::io::Write as _;

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::serve::ServeArgs;
use crate::config::print;

/// `dlog config …`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Shows every setting: name, type, default, what it does, and the value that `dlog serve` would
    /// have with the same flags, environment and file.
    Print(Box<PrintArgs>),
}

#[derive(Debug, Args)]
struct PrintArgs {
    /// Show the defaults only: file, environment and flags are not looked at.
    #[arg(long, conflicts_with = "effective")]
    defaults: bool,
    /// Show the values that hold, and where each comes from (this is what happens without --defaults).
    #[arg(long)]
    effective: bool,
    /// One JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Runs the command.
///
/// # Errors
/// When a setting is wrong, or standard output is closed.
pub fn run(arguments: ConfigArgs) -> anyhow::Result<()> {
    let ConfigCommand::Print(print) = arguments.command;
    let resolved = match print.defaults {
        true => None,
        false => Some(print.serve.resolve().map_err(|error| anyhow!("{error}"))?),
    };
    let text = if print.json {
        serde_json::to_string_pretty(&print::rows(resolved.as_ref()))? + "\n"
    } else {
        print::toml(resolved.as_ref())
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
