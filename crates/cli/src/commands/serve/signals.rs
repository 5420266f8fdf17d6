//! The signals that stop the server: the first one in order, the second one at once.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that asks the server to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Stop {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// Waits for signals; while it exists they do not end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupt,
            _ = self.terminate.recv() => Stop::Terminate,
        }
    }
}

/// Stops without closing the logs: nothing acknowledged is lost, the next start recovers. The code is
/// that of a process that the signal ended.
pub fn end_at_once(signal: Stop) -> ExitCode {
    tracing::warn!(
        signal = signal.name(),
        "stopping at once; the next start recovers"
    );
    ExitCode::from(match signal {
        Stop::Interrupt => 130,
        Stop::Terminate => 143,
    })
}
