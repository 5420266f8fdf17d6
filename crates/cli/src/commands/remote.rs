//! What the commands that talk to a broker share: options, the runtime, exit codes, JSON.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use dlog_client::{Client, ClientConfig, ClientError};
use kafka_protocol::ResponseError;
use serde::Serialize;

/// Exit codes of the commands that talk to a broker, shown by their `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 there is no such topic, partition or \
group; 4 it exists already; 5 the broker cannot be reached or does not answer.";

const NOT_FOUND: u8 = 3;
const EXISTS: u8 = 4;
const UNREACHABLE: u8 = 5;

/// How to reach the cluster.
#[derive(Args, Clone, Debug)]
pub struct RemoteArgs {
    /// Brokers to begin with, HOST:PORT, separated by commas.
    #[arg(
        short,
        long,
        env = "DLOG_BOOTSTRAP",
        default_value = "127.0.0.1:9092",
        global = true
    )]
    pub bootstrap: String,
    /// How long an answer is waited for, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..), global = true)]
    pub timeout: u64,
    /// Print JSON, one object or line at a time.
    #[arg(long, global = true)]
    pub json: bool,
}

impl RemoteArgs {
    /// Connects.
    pub async fn connect(&self) -> Result<Client, ClientError> {
        let mut config = ClientConfig::new(&self.bootstrap);
        config.timeout = Duration::from_secs(self.timeout);
        Client::connect(config).await
    }
}

/// Runs a command's future; errors become one line and an exit code.
pub fn run(command: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(command);
    // A broker that never answers must not hold the program up.
    runtime.shutdown_background();
    let Err(error) = done else {
        return Ok(ExitCode::SUCCESS);
    };
    if is_broken_pipe(&error) {
        return Ok(ExitCode::SUCCESS);
    }
    let code = error.downcast_ref::<ClientError>().map_or(1, exit_code);
    eprintln!("dlog: {error:#}");
    Ok(ExitCode::from(code))
}

/// Whoever read our output has enough of it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn exit_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::Disconnected { .. }
        | ClientError::Timeout { .. } => UNREACHABLE,
        other => match other.response_error() {
            Some(
                ResponseError::UnknownTopicOrPartition
                | ResponseError::UnknownTopicId
                | ResponseError::GroupIdNotFound,
            ) => NOT_FOUND,
            Some(ResponseError::TopicAlreadyExists) => EXISTS,
            _ => 1,
        },
    }
}

/// Prints a value as one line of JSON.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// `KEY=VALUE`, for clap.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form name=value")),
    }
}
