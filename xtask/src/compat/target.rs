//! The broker under test: started for the run on free ports with a fresh folder, or given.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, process};

use anyhow::Result;

use super::clients::Client;
use super::{Against, CompatOptions};
use crate::dlog::{self, DlogOptions, DlogServer};
use crate::kafka::{BrokerOptions, Distribution, KafkaBroker, Line};

/// A broker that clients can connect to.
pub struct Target {
    /// Name and version, for the report.
    pub name: String,
    /// HOST:PORT.
    pub bootstrap: String,
    /// Whether it makes topics that clients ask for; unknown for a broker that was given.
    auto_create: bool,
    /// Where the partitions' folders are, when this run started the broker.
    pub log_dir: Option<PathBuf>,
    running: Running,
}

enum Running {
    Dlog(DlogServer),
    Kafka(KafkaBroker),
    Elsewhere,
}

impl Target {
    /// Starts the broker that the options name.
    ///
    /// # Errors
    /// When it cannot be built, fetched or started.
    pub fn start(root: &Path, options: &CompatOptions) -> Result<Self> {
        if let Some(bootstrap) = &options.bootstrap {
            return Ok(Self {
                name: format!("the broker on {bootstrap}"),
                bootstrap: bootstrap.clone(),
                auto_create: true,
                log_dir: None,
                running: Running::Elsewhere,
            });
        }
        let data = root.join("target/compat/data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        match options.against {
            Against::Kafka => Self::start_kafka(root, data),
            Against::Dlog => {
                let program = match &options.dlog {
                    Some(program) => program.clone(),
                    None => dlog::build(root)?,
                };
                Self::start_dlog(program, data)
            }
        }
    }

    fn start_kafka(root: &Path, data: PathBuf) -> Result<Self> {
        let distribution = Distribution::fetch(root, Line::Newest)?;
        // As below: nobody waits three seconds for more members before a group's first rebalance.
        let options = BrokerOptions::new(data)
            .with("group.initial.rebalance.delay.ms", "0")
            .with("offsets.topic.num.partitions", "4")
            .with("auto.create.topics.enable", "false");
        let broker = KafkaBroker::start(&distribution, &options)?;
        Ok(Self {
            name: format!("Apache Kafka {}", distribution.version),
            bootstrap: broker.address.to_string(),
            auto_create: false,
            log_dir: Some(broker.log_dir.clone()),
            running: Running::Kafka(broker),
        })
    }

    fn start_dlog(program: PathBuf, data: PathBuf) -> Result<Self> {
        let version = super::must(Command::new(&program).arg("--version"))?;
        let options = DlogOptions::new(program, data.clone())
            .with("AUTO_CREATE_TOPICS_ENABLE", "false")
            .with("GROUP_INITIAL_REBALANCE_DELAY_MS", "0");
        let server = DlogServer::start(&options)?;
        Ok(Self {
            name: version,
            bootstrap: server.address.clone(),
            auto_create: false,
            log_dir: Some(data),
            running: Running::Dlog(server),
        })
    }

    /// What the topics and groups of a client begin with.
    pub fn prefix(&self, client: Client) -> String {
        let time = if client.sets_timestamps() {
            ""
        } else {
            "notime-"
        };
        format!("{}-{time}{}", client.name(), process::id())
    }

    /// What the programs are told about the broker.
    pub fn environment(&self) -> [(&'static str, &'static str); 1] {
        let auto_create = if self.auto_create { "1" } else { "0" };
        [("COMPAT_AUTO_CREATE", auto_create)]
    }

    /// Ends the broker if this run started it.
    ///
    /// # Errors
    /// When it does not end by itself after SIGTERM, or ended before.
    pub fn stop(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.running, Running::Elsewhere) {
            Running::Dlog(server) => server.stop(),
            Running::Kafka(broker) => broker.stop(),
            Running::Elsewhere => Ok(()),
        }
    }
}
