//! The broker under test: started for the run on free ports with a fresh folder, or given.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use anyhow::{Context, Result, bail};

use super::clients::Client;
use super::{Against, CompatOptions};
use crate::kafka::{BrokerOptions, Distribution, KafkaBroker, Line, terminate};
use crate::steps::cargo;

const READY_BOUND: Duration = Duration::from_secs(30);

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
    Dlog(Child),
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
                    None => build(root)?,
                };
                Self::start_dlog(&program, data)
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

    fn start_dlog(program: &Path, data: PathBuf) -> Result<Self> {
        fs::create_dir_all(&data)?;
        let version = super::must(Command::new(program).arg("--version"))?;
        let log = fs::File::create(data.with_extension("log"))?;
        let mut child = Command::new(program)
            .args([
                "serve",
                "--kafka",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(&data)
            .env("DLOG_AUTO_CREATE_TOPICS_ENABLE", "false")
            .env("DLOG_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("the pipe was asked for")?;
        match ready_address(output) {
            Ok(bootstrap) => Ok(Self {
                name: version,
                bootstrap,
                auto_create: false,
                log_dir: Some(data),
                running: Running::Dlog(child),
            }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
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
            Running::Dlog(mut child) => {
                if let Some(status) = child.try_wait()? {
                    bail!("the server ended during the run ({status})");
                }
                terminate(&mut child)
            }
            Running::Kafka(broker) => broker.stop(),
            Running::Elsewhere => Ok(()),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Running::Dlog(child) = &mut self.running {
            // The run has failed already; nothing more can be done about an error here.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Has cargo build the server with optimisation; its path.
///
/// # Errors
/// When the build fails.
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
///
/// # Errors
/// When the server ends or takes too long before it says so.
pub fn ready_address(output: process::ChildStdout) -> Result<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
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
