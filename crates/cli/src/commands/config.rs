//! `dlog config`: shows the server's settings without starting it.

use std::io::Write as _;

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
    #[command(flatten)]
    serve: ServeArgs,
}

/// Runs the command; `json` asks for one JSON array instead of TOML.
///
/// # Errors
/// When a setting is wrong, or standard output is closed.
pub fn run(arguments: ConfigArgs, json: bool) -> anyhow::Result<()> {
    let ConfigCommand::Print(print) = arguments.command;
    let resolved = if print.defaults {
        None
    } else {
        Some(print.serve.resolve()?)
    };
    let text = if json {
        serde_json::to_string_pretty(&print::rows(resolved.as_ref()))? + "\n"
    } else {
        print::toml(resolved.as_ref())
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
