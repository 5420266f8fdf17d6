//! Structured logs on standard error: text for people, JSON for machines.

use std::io::IsTerminal as _;

use anyhow::anyhow;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, ServerConfig};

/// Starts logging for the process.
///
/// # Errors
/// When the level cannot be parsed, or something logs already.
pub fn start(config: &ServerConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&config.log_level)?;
    let is_terminal = std::io::stderr().is_terminal();
    let json = match config.log_format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if json {
        builder
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .try_init()
    } else {
        builder.with_ansi(is_terminal).try_init()
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}
