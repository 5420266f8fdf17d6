//! What the commands that talk to a broker share: options, the runtime, exit codes, JSON.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use dlog_client::{Client, ClientConfig, ClientError};
use dlog_storage::record::Compression;
use kafka_protocol::ResponseError;
use serde::Serialize;

/// Exit codes of the commands that talk to a broker, shown by their `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 there is no such topic, \
partition or id; 4 the topic exists already; 5 the broker cannot be reached or does not answer; 130 interrupted before the end.";

/// Where a broker is when nobody says so.
pub const DEFAULT_BROKER: &str = "127.0.0.1:9092";

const NOT_FOUND: u8 = 3;
const EXISTS: u8 = 4;
const UNREACHABLE: u8 = 5;
/// As shells have it for a program that SIGINT ended.
pub const INTERRUPTED: u8 = 130;

/// How to reach the cluster.
#[derive(Args, Clone, Debug)]
pub struct RemoteArgs {
    /// Brokers to begin with, HOST:PORT, separated by commas.
    #[arg(
        short,
        long,
        env = "DLOG_BOOTSTRAP",
        default_value = DEFAULT_BROKER,
        global = true
    )]
    pub bootstrap: String,
    /// How long an answer is waited for, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400), global = true)]
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
pub fn run(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(command);
    // A broker that never answers must not hold the program up.
    runtime.shutdown_background();
    match done {
        Err(error) if !is_broken_pipe(&error) => {
            let code = error.downcast_ref::<ClientError>().map_or(1, exit_code);
            complain(&error);
            Ok(ExitCode::from(code))
        }
        done => done,
    }
}

/// One line on standard error, if there is one.
pub fn complain(error: &anyhow::Error) {
    note(&format!("{error:#}"));
}

/// As [`complain`], of what is no error.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "dlog: {text}");
}

/// Whether whoever read our output has enough of it.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |error: &(dyn std::error::Error + 'static)| {
        let json = error.downcast_ref::<serde_json::Error>();
        let io = error.downcast_ref::<io::Error>();
        io.map(io::Error::kind)
            .or_else(|| json.and_then(serde_json::Error::io_error_kind))
    };
    error
        .chain()
        .any(|error| kind(error) == Some(io::ErrorKind::BrokenPipe))
}

/// Resolves at Ctrl-C or SIGTERM.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => {
            if interrupted.is_err() {
                std::future::pending::<()>().await;
            }
        }
        _ = terminate.recv() => {}
    }
}

fn exit_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::Disconnected { .. }
        | ClientError::Timeout { .. } => UNREACHABLE,
        ClientError::Uncertain { source, .. } => exit_code(source),
        other => match other.response_error() {
            Some(
                ResponseError::UnknownTopicOrPartition
                | ResponseError::UnknownTopicId
                | ResponseError::GroupIdNotFound
                | ResponseError::TransactionalIdNotFound,
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

/// A codec, for clap.
pub fn parse_compression(text: &str) -> Result<Compression, String> {
    text.parse::<Compression>()
        .map_err(|error| error.to_string())
}

/// `all`, `1` or `0`, for clap.
pub fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "0" => Ok(0),
        "1" => Ok(1),
        other => Err(format!("{other:?} is none of 0, 1 and all")),
    }
}

/// Now in Unix ms.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
