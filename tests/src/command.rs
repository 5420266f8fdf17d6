//! The commands of the `dlog` binary that talk to a broker, as a person or a script runs them.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;

use crate::server::binary;

/// Runs `dlog` against one broker.
#[derive(Clone, Copy, Debug)]
pub struct Cli {
    broker: SocketAddr,
}

impl Cli {
    /// Commands for the broker at this address.
    pub fn new(broker: SocketAddr) -> Self {
        Self { broker }
    }

    /// A command with these arguments, not started yet. It finds the broker in the environment.
    ///
    /// # Errors
    /// When there is no binary.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command
            .args(args)
            .env("DLOG_BOOTSTRAP", self.broker.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn output(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command(args)?.output()?)
    }

    /// Runs a command that must succeed; gives its standard output.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.run_with(args, b"")
    }

    /// As [`Cli::run`], with this standard input.
    ///
    /// # Errors
    /// As [`Cli::run`].
    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Result<String> {
        let mut child = self.command(args)?.stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("standard input is piped")?;
        let output = std::thread::scope(|scope| {
            // Beside reading: neither side may wait for the other. A command may end early.
            scope.spawn(move || stdin.write_all(input).and_then(|()| stdin.flush()));
            child.wait_with_output()
        })?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{args:?}: {}\n{stderr}",
            output.status
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// As [`Cli::run`], for a command that prints one JSON value a line.
    ///
    /// # Errors
    /// As [`Cli::run`], or when a line is no JSON.
    pub fn json(&self, args: &[&str]) -> Result<Vec<Value>> {
        json_lines(&self.run(args)?)
    }

    /// Number of records that a topic has now, over all partitions.
    ///
    /// # Errors
    /// When it cannot be described.
    pub fn records_of(&self, topic: &str) -> Result<u64> {
        let described = self.json(&["topic", "describe", topic, "--json"])?;
        let partitions = described
            .first()
            .and_then(|topic| topic["partitions"].as_array())
            .context("partitions")?;
        let count = |partition: &Value| {
            let next = partition["next_offset"].as_u64()?;
            Some(next - partition["first_offset"].as_u64()?)
        };
        partitions
            .iter()
            .map(|partition| count(partition).context("offsets"))
            .sum()
    }
}

/// The JSON values of lines.
///
/// # Errors
/// When a line is no JSON.
pub fn json_lines(text: &str) -> Result<Vec<Value>> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

/// Sends a signal to a process.
///
/// # Errors
/// The operating system's error.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(kill_process(pid.context("a process id")?, signal)?)
}
