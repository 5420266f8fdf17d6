//! The two brokers of a run, and what is measured of either: both are processes that clients reach
//! by an address, with the durability chosen topic by topic.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::dlog::{DlogOptions, DlogServer};
use crate::kafka::{BrokerOptions, Distribution, KafkaBroker};

/// How long a broker may take to answer after its start; recovery is part of it.
const ANSWER_BOUND: Duration = Duration::from_secs(300);

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// This repository's server.
    Dlog,
    /// Apache Kafka.
    Kafka,
}

/// When a produce is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After the flush that covers it: our default.
    Fsync,
    /// In the page cache: Kafka's default.
    Os,
}

/// A broker with a durability: what the columns of the tables are.
pub type Variant = (Kind, Durability);

/// All of them, in the order of the columns.
pub const VARIANTS: [Variant; 4] = [
    (Kind::Dlog, Durability::Fsync),
    (Kind::Dlog, Durability::Os),
    (Kind::Kafka, Durability::Fsync),
    (Kind::Kafka, Durability::Os),
];

/// The topic setting that gives a broker's topic this durability.
pub fn topic_setting((kind, durability): Variant) -> Option<&'static str> {
    match (kind, durability) {
        (Kind::Dlog, Durability::Os) => Some("dlog.flush=os"),
        (Kind::Kafka, Durability::Fsync) => Some("flush.messages=1"),
        (Kind::Dlog, Durability::Fsync) | (Kind::Kafka, Durability::Os) => None,
    }
}

enum Process {
    Dlog(DlogServer),
    Kafka(KafkaBroker),
}

/// A running broker.
pub struct Broker {
    /// Which.
    pub kind: Kind,
    /// HOST:PORT.
    pub address: String,
    /// From the start of the process until a request was answered.
    pub start_up: Duration,
    process: Process,
}

impl Broker {
    /// The process id.
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Dlog(server) => server.pid(),
            Process::Kafka(broker) => broker.pid(),
        }
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn kill(self) -> Result<()> {
        match self.process {
            Process::Dlog(server) => server.kill(),
            // Dropping it kills the process and waits for its end.
            Process::Kafka(broker) => {
                drop(broker);
                Ok(())
            }
        }
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(self) -> Result<()> {
        match self.process {
            Process::Dlog(server) => server.stop(),
            Process::Kafka(broker) => broker.stop(),
        }
    }
}

/// How to start either broker, always on the same data.
pub struct Brokers {
    /// Our program.
    pub program: PathBuf,
    /// Kafka's jars.
    pub distribution: Distribution,
    folder: PathBuf,
    /// Settings by Kafka's names, of both; none but those are other than the defaults.
    settings: Vec<(&'static str, &'static str)>,
}

impl Brokers {
    /// Both begin without data.
    ///
    /// # Errors
    /// An I/O error.
    pub fn new(folder: &Path, program: PathBuf, distribution: Distribution) -> Result<Self> {
        for name in ["dlog", "kafka"] {
            let data = folder.join(name);
            if data.exists() {
                fs::remove_dir_all(&data)?;
            }
        }
        Ok(Self {
            program,
            distribution,
            folder: folder.to_path_buf(),
            settings: Vec::new(),
        })
    }

    /// The same with these settings for both.
    #[must_use]
    pub fn with(mut self, settings: &[(&'static str, &'static str)]) -> Self {
        self.settings.extend_from_slice(settings);
        self
    }

    /// Where a broker's partitions have their folders.
    pub fn folder_of(&self, kind: Kind) -> PathBuf {
        match kind {
            Kind::Dlog => self.folder.join("dlog"),
            Kind::Kafka => self.folder.join("kafka/logs"),
        }
    }

    /// Starts a broker with its default settings and waits until it answers a request.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&self, kind: Kind) -> Result<Broker> {
        let started = Instant::now();
        let (address, process) = match kind {
            Kind::Dlog => {
                let mut options = DlogOptions::new(self.program.clone(), self.folder.join("dlog"));
                for (name, value) in &self.settings {
                    options = options.with(&name.replace('.', "_").to_uppercase(), value);
                }
                let server = DlogServer::start(&options)?;
                (server.address.clone(), Process::Dlog(server))
            }
            Kind::Kafka => {
                // Deleted topics give their space back soon; nothing else differs from the defaults.
                let mut options = BrokerOptions::new(self.folder.join("kafka"))
                    .with("file.delete.delay.ms", "1000")
                    .with("log.segment.delete.delay.ms", "1000");
                for (name, value) in &self.settings {
                    options = options.with(name, value);
                }
                let broker = KafkaBroker::start(&self.distribution, &options)?;
                (broker.address.to_string(), Process::Kafka(broker))
            }
        };
        // What comes before the process of Kafka (formatting its folder) does not count.
        let before = match &process {
            Process::Dlog(_) => Duration::ZERO,
            Process::Kafka(broker) => started.elapsed().saturating_sub(broker.start_up),
        };
        wait_for_answer(&address)?;
        Ok(Broker {
            kind,
            address,
            start_up: started.elapsed().saturating_sub(before),
            process,
        })
    }

    /// Runs one of our commands and gives its output.
    ///
    /// # Errors
    /// When it fails.
    pub fn dlog(&self, broker: &Broker, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .args(["--bootstrap", &broker.address])
            .output()
            .context("cannot start dlog")?;
        if !output.status.success() {
            bail!(
                "dlog {} failed: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Creates a topic with six partitions.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn create_topic(&self, broker: &Broker, name: &str, durability: Durability) -> Result<()> {
        let setting = topic_setting((broker.kind, durability));
        self.create_topic_with(broker, name, 6, setting)
    }

    /// Creates a topic with settings.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn create_topic_with<'a>(
        &self,
        broker: &Broker,
        name: &str,
        partitions: u32,
        settings: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        let partitions = partitions.to_string();
        let mut arguments = vec!["topic", "create", name, "--partitions", &partitions];
        for setting in settings {
            arguments.extend(["--config", setting]);
        }
        self.dlog(broker, &arguments)?;
        self.wait_until_served(broker, name)
    }

    /// Gives a topic that exists this durability.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn set_durability(
        &self,
        broker: &Broker,
        topic: &str,
        durability: Durability,
    ) -> Result<()> {
        let setting = |durability| topic_setting((broker.kind, durability));
        // One of the two is the default, which has no setting of its own.
        let other = match durability {
            Durability::Fsync => Durability::Os,
            Durability::Os => Durability::Fsync,
        };
        let change = match (setting(durability), setting(other)) {
            (Some(wanted), _) => ["--config", wanted],
            (None, Some(other)) => ["--reset", other.split('=').next().unwrap_or(other)],
            (None, None) => return Ok(()),
        };
        self.dlog(broker, &["topic", "alter", topic, change[0], change[1]])?;
        Ok(())
    }

    /// Waits until every partition of a topic answers. Kafka says who leads before the leader itself
    /// knows; describing asks each for its offsets.
    ///
    /// # Errors
    /// When they do not.
    pub fn wait_until_served(&self, broker: &Broker, topic: &str) -> Result<()> {
        let started = Instant::now();
        while let Err(error) = self.dlog(broker, &["topic", "describe", topic]) {
            if started.elapsed() > ANSWER_BOUND {
                return Err(error.context("the topic is not served"));
            }
        }
        Ok(())
    }

    /// Deletes a topic and waits until its files are gone.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn delete_topic(&self, broker: &Broker, name: &str) -> Result<()> {
        self.dlog(broker, &["topic", "delete", name])?;
        let folder = self.folder_of(broker.kind);
        let started = Instant::now();
        let prefix = format!("{name}-");
        while fs::read_dir(&folder)?
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        {
            if started.elapsed() > ANSWER_BOUND {
                bail!("the files of {name} are still there");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Waits until a broker answers ApiVersions.
fn wait_for_answer(address: &str) -> Result<()> {
    let started = Instant::now();
    while ask_versions(address).is_err() {
        if started.elapsed() > ANSWER_BOUND {
            bail!("{address} does not answer");
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// ApiVersions, version 0: key 18, a correlation id, no client id.
fn ask_versions(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])?;
    let mut head = [0; 8];
    stream.read_exact(&mut head)?;
    if head[4..] != [0, 0, 0, 7] {
        bail!("an answer to something else");
    }
    Ok(())
}
