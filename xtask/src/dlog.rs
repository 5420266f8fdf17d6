//! This repository's server as a process: built, started on a free port, stopped.
//!
//! A server ends with the value that owns it.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::kafka::terminate;
use crate::steps::cargo;

/// How long a server may take from its start to its ready line; recovery is part of it.
const READY_BOUND: Duration = Duration::from_secs(120);

/// How to start a server.
#[derive(Clone, Debug)]
pub struct DlogOptions {
    /// The program.
    pub program: PathBuf,
    /// The data folder; it is created. The server's log goes beside it.
    pub data_dir: PathBuf,
    /// Where clients connect, HOST:PORT; port 0 takes a free one.
    pub kafka: String,
    /// Settings, as environment variables without their prefix `DLOG_`.
    pub settings: Vec<(String, String)>,
}

impl DlogOptions {
    /// A server with default settings on a free port.
    pub fn new(program: PathBuf, data_dir: PathBuf) -> Self {
        Self {
            program,
            data_dir,
            kafka: "127.0.0.1:0".to_owned(),
            settings: Vec::new(),
        }
    }

    /// Sets an environment variable, `DLOG_` and this name.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub struct DlogServer {
    child: Child,
    log: PathBuf,
    /// Where clients connect.
    pub address: String,
    /// From the start of the process to its ready line.
    pub start_up: Duration,
}

impl DlogServer {
    /// Starts a server and waits for its ready line.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not become ready in time.
    pub fn start(options: &DlogOptions) -> Result<Self> {
        fs::create_dir_all(&options.data_dir)?;
        // A server that is started again on its folder goes on with its log.
        let log = options.data_dir.with_extension("log");
        let output = OpenOptions::new().create(true).append(true).open(&log)?;
        let settings = options.settings.iter();
        let started = Instant::now();
        let mut child = Command::new(&options.program)
            .args(["serve", "--http", "127.0.0.1:0", "--kafka"])
            .args([&options.kafka, "--data-dir"])
            .arg(&options.data_dir)
            .envs(settings.map(|(name, value)| (format!("DLOG_{name}"), value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", options.program.display()))?;
        let output = child.stdout.take().context("the pipe was asked for")?;
        let mut server = Self {
            child,
            log,
            address: String::new(),
            start_up: Duration::ZERO,
        };
        server.address = ready_address(output)?;
        server.start_up = started.elapsed();
        Ok(server)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails when the server has ended by itself.
    ///
    /// # Errors
    /// With its exit status.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(
                "the server ended by itself ({status}), see {}",
                self.log.display()
            ),
        }
    }

    /// Stops the server as an operator would.
    ///
    /// # Errors
    /// When it has ended before, or does not end in time.
    pub fn stop(mut self) -> Result<()> {
        self.must_run()?;
        terminate(&mut self.child)
    }

    /// SIGKILL, and waits until the process is gone.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for DlogServer {
    fn drop(&mut self) {
        // Already ended, or to be ended now: in both cases nothing more can be done about an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the program with optimisation.
///
/// # Errors
/// When cargo fails.
pub fn build(root: &Path) -> Result<PathBuf> {
    cargo(
        root,
        &["build", "--release", "--locked", "--package", "dlog"],
        &[],
    )?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    Ok(target.join("release/dlog"))
}

/// Waits for the line `ready kafka=HOST:PORT …`; a thread keeps the pipe empty afterwards.
fn ready_address(output: ChildStdout) -> Result<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Nobody listens any more once the line has come.
            let _ = sender.send(line);
        }
    });
    let started = Instant::now();
    while let Some(left) = READY_BOUND.checked_sub(started.elapsed()) {
        let line = receiver
            .recv_timeout(left)
            .context("the server said no ready line")?;
        let address = line.strip_prefix("ready ").and_then(|fields| {
            fields
                .split(' ')
                .find_map(|field| field.strip_prefix("kafka="))
        });
        if let Some(address) = address {
            return Ok(address.to_owned());
        }
    }
    bail!("the server said no ready line within {READY_BOUND:?}")
}
