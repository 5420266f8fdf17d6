//! `dlog serve` with its default settings, on one folder and one port, killed and started again.

use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::compat::must;
use crate::dlog::{DlogOptions, DlogServer};
use crate::kafka::free_port;

/// A running server. Dropped, it is killed.
#[derive(Debug)]
pub struct Server {
    options: DlogOptions,
    /// None only while it is started again.
    running: Option<DlogServer>,
}

impl Server {
    /// Starts the server on an empty folder and a free port, which it keeps; with settings by Kafka's names
    /// that are not the defaults.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(program: &Path, data: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        for old in [data.to_owned(), data.with_extension("log")] {
            if old.is_dir() {
                fs::remove_dir_all(old)?;
            } else if old.exists() {
                fs::remove_file(old)?;
            }
        }
        let mut options = DlogOptions::new(program.to_owned(), data.to_owned());
        for (name, value) in settings {
            options = options.with(&name.to_uppercase().replace('.', "_"), value);
        }
        options.kafka = format!("127.0.0.1:{}", free_port()?);
        let running = Some(DlogServer::start(&options)?);
        Ok(Self { options, running })
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> String {
        self.options.kafka.clone()
    }

    /// The folder that it keeps its data in.
    pub fn data(&self) -> &Path {
        &self.options.data_dir
    }

    /// Kills the server with SIGKILL and starts it again on the same folder and port; the time from
    /// the one to the ready line of the other.
    ///
    /// # Errors
    /// When it had ended before, or does not come up again.
    pub fn kill_and_restart(&mut self) -> Result<Duration> {
        self.must_run()?;
        let killed = Instant::now();
        if let Some(running) = mem::take(&mut self.running) {
            running.kill()?;
        }
        self.running = Some(DlogServer::start(&self.options)?);
        Ok(killed.elapsed())
    }

    /// Fails when the server has ended by itself.
    ///
    /// # Errors
    /// With its exit status.
    pub fn must_run(&mut self) -> Result<()> {
        let running = self.running.as_mut();
        running
            .context("the server did not start again")?
            .must_run()
    }

    fn program(&self) -> &PathBuf {
        &self.options.program
    }

    /// Creates a topic with our own command.
    ///
    /// # Errors
    /// When the command fails.
    pub fn create_topic(&self, topic: &str, partitions: usize) -> Result<()> {
        must(
            Command::new(self.program())
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
        let running = mem::take(&mut self.running);
        running.context("the server did not start again")?.stop()?;
        let mut verify = Command::new(self.program());
        must(verify.args(["log", "verify"]).arg(self.data()))?;
        Ok(())
    }
}
