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
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use dlog_broker::Broker;
use dlog_console::{Console, ConsoleState, Health, Limits};

use super::remote::DEFAULT_BROKER;
use crate::config::ServerConfig;
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
    logging::start(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("dlog-worker")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let code = runtime.block_on(serve(config))?;
    // Tasks that the shutdown cut off must not hold up the end of the process.
    runtime.shutdown_background();
    Ok(code)
}

async fn serve(config: ServerConfig) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let state = ConsoleState::new();
    let console = match config.http {
        Some(address) => {
            let started = Console::start(address, state.clone(), Limits::default()).await;
            Some(started.map_err(|error| anyhow!("{error}"))?)
        }
        None => None,
    };
    let pid_file = config.pid_file.clone();
    let starting = Broker::start(config.broker);
    let broker = tokio::select! {
        started = starting => started.map_err(|error| anyhow!("{error}"))?,
        // Nothing has been acknowledged yet; recovery begins anew with the next start.
        signal = signals.next() => return Ok(signals::end_at_once(signal)),
    };
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
