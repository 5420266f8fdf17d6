//! `dlog serve`: starts the server, says on standard output where it listens, stops on a signal.
//!
//! The HTTP port opens first, so that health can be asked while logs recover. Everything that stops the
//! start is one line on standard error. Logs go to standard error, the ready line alone to standard
//! output.

mod arguments;
mod logging;
mod pid_file;
mod signals;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use dlog_broker::{Broker, BrokerError};
use dlog_console::{Console, ConsoleState, Health, Limits};

use super::remote::DEFAULT_BROKER;
use crate::config::ServerConfig;
use logging::Loggers;
use pid_file::PidFile;
use signals::Signals;

pub use arguments::ServeArgs;

/// Runs the server until a signal stops it.
///
/// # Errors
/// What keeps it from starting, or from stopping cleanly, in one line.
pub fn run(arguments: &ServeArgs) -> anyhow::Result<ExitCode> {
    let resolved = arguments.resolve().map_err(|error| anyhow!("{error}"))?;
    let config = resolved.server;
    let loggers = logging::start(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("dlog-worker")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let code = runtime.block_on(serve(config, loggers))?;
    // Tasks that the shutdown cut off must not hold up the end of the process.
    runtime.shutdown_background();
    Ok(code)
}

async fn serve(config: ServerConfig, loggers: Arc<Loggers>) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let state = ConsoleState::new();
    let console =
        match config.http {
            Some(address) => {
                let started = Console::start(address, state.clone(), Limits::default()).await;
                Some(started.map_err(|error| {
                    anyhow!("{error}{}", another_address(&error.source, "http"))
                })?)
            }
            None => None,
        };
    let pid_file = config.pid_file.clone();
    let data_dir = config.broker.data_dir.clone();
    let starting = Broker::start(config.broker);
    let broker = tokio::select! {
        started = starting => started.map_err(|error| anyhow!("{error}{}", way_out(&error, &data_dir)))?,
        // Nothing has been acknowledged yet; recovery begins anew with the next start.
        signal = signals.next() => return Ok(signals::end_at_once(signal)),
    };
    // The server is new: nobody set them before.
    drop(broker.state().loggers.set(loggers));
    state.set_registry(broker.registry());
    let pid_file = pid_file.map(PidFile::write).transpose()?;
    state.set_health(Health::Ready);
    announce(&broker, console.as_ref())?;

    let signal = signals.next().await;
    tracing::info!(signal = signal.name(), "stopping");
    state.set_health(Health::Stopping);
    let stopped = tokio::select! {
        stopped = broker.shutdown() => stopped,
        signal = signals.next() => return Ok(signals::end_at_once(signal)),
    };
    if let Some(console) = console {
        console.shutdown().await;
    }
    drop(pid_file);
    stopped.map_err(|error| anyhow!("the server did not stop cleanly: {error}"))?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// What to do about an error of the start, as the end of its sentence: the broker does not know how its
/// settings are given.
fn way_out(error: &BrokerError, data_dir: &Path) -> &'static str {
    match error {
        BrokerError::Listen { source, .. } => another_address(source, "kafka"),
        BrokerError::Io { path, .. } if path == data_dir => {
            "; make that folder usable for this user, or choose another one with --data-dir"
        }
        _ => "",
    }
}

fn another_address(error: &std::io::Error, setting: &str) -> &'static str {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    match (error.kind(), setting) {
        (AddrInUse, "http") => {
            "; stop what runs there, or choose another address with --http (or off)"
        }
        (AddrInUse, _) => "; stop what runs there, or choose another address with --kafka",
        (AddrNotAvailable, _) => "; it is no address of this machine: 0.0.0.0 takes all of them",
        (PermissionDenied, _) => "; ports below 1024 may need more rights: choose a higher one",
        _ => "",
    }
}

/// The ready line; on a terminal also what to type next.
fn announce(broker: &Broker, console: Option<&Console>) -> anyhow::Result<()> {
    let kafka: Vec<String> = broker
        .kafka_addrs()
        .iter()
        .map(|(_, at)| at.to_string())
        .collect();
    let mut line = format!("ready kafka={}", kafka.join(","));
    if let Some(console) = console {
        line += &format!(" http={}", console.address());
    }
    let data_dir = &broker.state().config.data_dir;
    let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.clone());
    line += &format!(" data={}\n", data_dir.display());
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        // As it was called: `cargo run` puts nothing on the path.
        let dlog = std::env::args().next().unwrap_or_else(|| "dlog".to_owned());
        let broker = match kafka.first().map(String::as_str) {
            None | Some(DEFAULT_BROKER) => String::new(),
            Some(first) => format!(" -b {first}"),
        };
        line += &format!(
            "\nIn another terminal:\n  \
             echo hello | {dlog} produce greetings{broker}\n  \
             {dlog} consume greetings --from beginning{broker}\n\
             kcat and every other Kafka client do as well. Stop with Ctrl-C.\n"
        );
    }
    // Whoever waits for this line must get it now, through a pipe as well.
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the ready line")
        }
        _ => Ok(()),
    }
}
