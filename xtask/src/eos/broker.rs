//! The one broker of a run, killed and started again on its folder and port: ours, or the real Kafka, which
//! proves the clients and the judge.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::programs::Programs;

/// The consumer protocol's members do not wait 45 seconds for one that was killed, as the classic ones choose
/// for themselves.
const QUICK_SESSIONS: [(&str, &str); 4] = [
    ("group.consumer.min.session.timeout.ms", "6000"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
];
use crate::compat::{Against, must};
use crate::dataset::server::Server;
use crate::kafka::{BrokerOptions, Distribution, KafkaBroker, free_port};

/// A running broker. Dropped, it is killed.
pub enum Broker {
    /// `dlog serve`, with its default settings under the classic protocol.
    Dlog(Server),
    /// Apache Kafka; none only while it is started again.
    Kafka(Box<BrokerOptions>, Box<Distribution>, Option<KafkaBroker>),
}

impl Broker {
    /// Starts a broker on an empty folder.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(
        against: Against,
        programs: &Programs,
        data: &Path,
        protocol: &str,
    ) -> Result<Self> {
        let settings = match protocol {
            "consumer" => &QUICK_SESSIONS[..],
            _ => &[],
        };
        if against == Against::Dlog {
            return Server::start(&programs.dlog, data, settings).map(Self::Dlog);
        }
        if data.exists() {
            fs::remove_dir_all(data)?;
        }
        let mut options = BrokerOptions::new(data.to_owned())
            .with("offsets.topic.num.partitions", "4")
            .with("transaction.state.log.num.partitions", "4")
            .with("auto.create.topics.enable", "false");
        for (name, value) in settings {
            options = options.with(name, value);
        }
        options.heap_mib = 512;
        options.port = free_port()?;
        let distribution = programs.distribution.clone();
        let running = KafkaBroker::start(&distribution, &options)?;
        Ok(Self::Kafka(
            Box::new(options),
            Box::new(distribution),
            Some(running),
        ))
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Dlog(server) => server.bootstrap(),
            Self::Kafka(options, ..) => format!("127.0.0.1:{}", options.port),
        }
    }

    /// SIGKILL, and a start on the same folder; the time until it is ready again.
    ///
    /// # Errors
    /// When it had ended before, or does not come up again.
    pub fn kill_and_restart(&mut self) -> Result<Duration> {
        match self {
            Self::Dlog(server) => server.kill_and_restart(),
            Self::Kafka(options, distribution, running) => {
                let killed = Instant::now();
                // Dropped, it is killed.
                drop(running.take());
                *running = Some(KafkaBroker::start(distribution, options)?);
                Ok(killed.elapsed())
            }
        }
    }

    /// Fails when the broker has ended by itself.
    ///
    /// # Errors
    /// With its exit status.
    pub fn must_run(&mut self) -> Result<()> {
        match self {
            Self::Dlog(server) => server.must_run(),
            Self::Kafka(..) => Ok(()),
        }
    }

    /// Creates a topic with our own command.
    ///
    /// # Errors
    /// When the command fails.
    pub fn create_topic(&self, programs: &Programs, topic: &str, partitions: usize) -> Result<()> {
        must(
            Command::new(&programs.dlog)
                .args(["topic", "create", topic, "--partitions"])
                .arg(partitions.to_string())
                .args(["--bootstrap", &self.bootstrap()]),
        )?;
        Ok(())
    }

    /// Stops the broker in order; ours has its folder checked.
    ///
    /// # Errors
    /// When it ended before, does not end, or the check finds something.
    pub fn stop(self) -> Result<()> {
        match self {
            Self::Dlog(server) => server.stop(),
            Self::Kafka(_, _, running) => running.context("Kafka did not start again")?.stop(),
        }
    }
}
