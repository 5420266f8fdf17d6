//! `dlog serve` with its default settings, on one folder and one port, killed and started again.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::compat::must;
use crate::compat::target::ready_address;
use crate::kafka::{free_port, terminate};

/// A running server. Dropped, it is killed.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    data: PathBuf,
    log: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    /// Starts the server on an empty folder and a free port.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(program: &Path, data: &Path) -> Result<Self> {
        let log = data.with_extension("log");
        if data.exists() {
            fs::remove_dir_all(data)?;
        }
        fs::create_dir_all(data)?;
        fs::write(&log, "")?;
        let port = free_port()?;
        let child = spawn(program, data, &log, port)?;
        Ok(Self {
            program: program.to_owned(),
            data: data.to_owned(),
            log,
            port,
            child,
        })
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder that it keeps its data in.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Kills the server with SIGKILL and starts it again on the same folder and port; the time from
    /// the one to the ready line of the other.
    ///
    /// # Errors
    /// When it had ended before, or does not come up again.
    pub fn kill_and_restart(&mut self) -> Result<Duration> {
        self.must_run()?;
        let killed = Instant::now();
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.program, &self.data, &self.log, self.port)?;
        Ok(killed.elapsed())
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

    /// Creates a topic with our own command.
    ///
    /// # Errors
    /// When the command fails.
    pub fn create_topic(&self, topic: &str, partitions: usize) -> Result<()> {
        must(
            Command::new(&self.program)
                .args(["topic", "create", topic, "--partitions"])
                .arg(partitions.to_string())
                .args(["--bootstrap", &self.bootstrap()]),
        )?;
        Ok(())
    }

    /// Stops the server in order, checks every checksum in its folder with our own command.
    ///
    /// # Errors
    /// When it ended before, does not end, or the check finds something.
    pub fn stop(mut self) -> Result<()> {
        self.must_run()?;
        terminate(&mut self.child)?;
        let mut verify = Command::new(&self.program);
        must(verify.args(["log", "verify"]).arg(&self.data))?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, or the run has failed: nothing more can be done about an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the program and waits for its ready line. Only what must differ from the defaults does: the
/// addresses and the folder.
fn spawn(program: &Path, data: &Path, log: &Path, port: u16) -> Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut child = Command::new(program)
        .args(["serve", "--http", "127.0.0.1:0", "--kafka"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("--data-dir")
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let output = child.stdout.take().context("the pipe was asked for")?;
    match ready_address(output) {
        Ok(_) => Ok(child),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}
