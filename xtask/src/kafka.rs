//! The real Apache Kafka: fetches it with Maven, starts one broker, stops it.
//!
//! The versions stand in `tests/compat/java/pom.xml`. Maven resolves them once; the class path is
//! kept in the target folder for as long as that file does not change. A broker runs in KRaft mode,
//! both roles in one process, on the loopback address, and ends with the value that owns it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::steps::is_installed;

/// How long a broker may take from its start to an open port.
const START_BOUND: Duration = Duration::from_secs(90);
/// How long a broker may take to end after SIGTERM.
const STOP_BOUND: Duration = Duration::from_secs(30);

/// A line of Kafka versions, by the profile of the POM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The newest release.
    Newest,
    /// The last of the 3.x releases.
    Three,
}

impl Line {
    fn profile(self) -> &'static str {
        match self {
            Self::Newest => "kafka4",
            Self::Three => "kafka3",
        }
    }
}

/// Kafka's jars: the broker, the console tools and the Java client of one version.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// For example "4.4.0".
    pub version: String,
    /// All jars, as `java -cp` takes them.
    pub class_path: String,
}

impl Distribution {
    /// Has Maven download the jars, or takes what it downloaded before.
    ///
    /// # Errors
    /// When Maven is missing or fails.
    pub fn fetch(root: &Path, line: Line) -> Result<Self> {
        let pom = root.join("tests/compat/java/pom.xml");
        let folder = root.join("target/compat/kafka");
        fs::create_dir_all(&folder)?;
        let kept = folder.join(format!("{}.classpath", line.profile()));
        let class_path = match usable_class_path(&kept, &pom) {
            Some(class_path) => class_path,
            None => resolve(&pom, line, &kept)?,
        };
        let version = class_path
            .split(['/', ':'])
            .find_map(|part| part.strip_prefix("kafka-clients-")?.strip_suffix(".jar"))
            .context("the class path has no kafka-clients")?
            .to_owned();
        Ok(Self {
            version,
            class_path,
        })
    }

    /// `java` with the jars on its class path and logs limited to errors.
    pub fn java(&self, extra_class_path: Option<&Path>) -> Command {
        let mut java = Command::new("java");
        let class_path = match extra_class_path {
            Some(extra) => format!("{}:{}", extra.display(), self.class_path),
            None => self.class_path.clone(),
        };
        java.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
            .args(["-cp", &class_path]);
        java
    }
}

/// The class path of an earlier run: newer than the POM, and all its files still there.
fn usable_class_path(kept: &Path, pom: &Path) -> Option<String> {
    let made = fs::metadata(kept).ok()?.modified().ok()?;
    let changed = fs::metadata(pom).ok()?.modified().ok()?;
    let text = fs::read_to_string(kept).ok()?;
    let complete = text.trim().split(':').all(|jar| Path::new(jar).is_file());
    (made > changed && complete).then(|| text.trim().to_owned())
}

fn resolve(pom: &Path, line: Line, kept: &Path) -> Result<String> {
    if !is_installed("mvn", "--version") {
        bail!("Maven (mvn) is not installed");
    }
    let output = Command::new("mvn")
        .args(["-B", "-q", "-f"])
        .arg(pom)
        .args(["-P", line.profile(), "dependency:build-classpath"])
        .arg(format!("-Dmdep.outputFile={}", kept.display()))
        .output()
        .context("cannot start mvn")?;
    if !output.status.success() {
        bail!(
            "mvn cannot resolve {}: {}",
            line.profile(),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(fs::read_to_string(kept)?.trim().to_owned())
}

/// What a broker is started with.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Logs, configuration and output go here; it is created.
    pub data_dir: PathBuf,
    /// The clients' port; 0 takes a free one.
    pub port: u16,
    /// Both the smallest and the largest heap.
    pub heap_mib: u32,
    /// Lines of server.properties that come after (and win over) the usual ones.
    pub properties: Vec<(String, String)>,
    /// More arguments of the virtual machine.
    pub jvm_arguments: Vec<String>,
}

impl BrokerOptions {
    /// A broker with Kafka's defaults where one node allows them.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            port: 0,
            heap_mib: 1024,
            properties: Vec::new(),
            jvm_arguments: Vec::new(),
        }
    }

    /// Adds a property.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running broker. Dropping it kills the process.
#[derive(Debug)]
pub struct KafkaBroker {
    child: Child,
    /// Where clients connect.
    pub address: SocketAddr,
    /// From the start of the process to the first accepted connection.
    pub start_up: Duration,
    /// The folder that its logs are in.
    pub log_dir: PathBuf,
    output: PathBuf,
}

impl KafkaBroker {
    /// Formats the folder when it is new, starts the broker, waits until it accepts connections.
    ///
    /// # Errors
    /// When the tools fail, or the broker ends or does not answer in time.
    pub fn start(distribution: &Distribution, options: &BrokerOptions) -> Result<Self> {
        let port = if options.port == 0 {
            free_port()?
        } else {
            options.port
        };
        let controller_port = free_port()?;
        fs::create_dir_all(&options.data_dir)?;
        let data_dir = options.data_dir.canonicalize()?;
        let log_dir = data_dir.join("logs");
        let configuration = data_dir.join("server.properties");
        let text = server_properties(&log_dir, port, controller_port, &options.properties);
        fs::write(&configuration, text)?;
        if !log_dir.join("meta.properties").exists() {
            format_storage(distribution, &configuration)?;
        }
        let output = data_dir.join("kafka.out");
        let file = File::create(&output)?;
        let started = Instant::now();
        let child = Command::new("java")
            .arg(format!("-Xms{0}m", options.heap_mib))
            .arg(format!("-Xmx{0}m", options.heap_mib))
            .args([
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35",
            ])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .args(&options.jvm_arguments)
            .args(["-cp", &distribution.class_path, "kafka.Kafka"])
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("cannot start java")?;
        let mut broker = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            start_up: Duration::ZERO,
            log_dir,
            output,
        };
        broker.wait_until_ready(started)?;
        broker.start_up = started.elapsed();
        Ok(broker)
    }

    fn wait_until_ready(&mut self, started: Instant) -> Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("Kafka ended ({status}), see {}", self.output.display());
            }
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if started.elapsed() > START_BOUND {
                bail!("Kafka does not answer, see {}", self.output.display());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Shuts the broker down as an operator would, and waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(mut self) -> Result<()> {
        terminate(&mut self.child)
    }

    /// Waits until the broker ends by itself.
    ///
    /// # Errors
    /// When its status cannot be had.
    pub fn wait(mut self) -> Result<()> {
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for KafkaBroker {
    fn drop(&mut self) {
        // Already ended, or to be ended now: in both cases nothing more can be done about an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends SIGTERM and waits for the end of a process; kills it when it takes too long.
///
/// # Errors
/// When it had to be killed.
pub fn terminate(child: &mut Child) -> Result<()> {
    let pid = child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status()?;
    let asked = Instant::now();
    while child.try_wait()?.is_none() {
        if asked.elapsed() > STOP_BOUND {
            child.kill()?;
            child.wait()?;
            bail!("the process did not end within {STOP_BOUND:?} after SIGTERM");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A port that nobody listens on at the moment.
///
/// # Errors
/// When the system has none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}

fn server_properties(
    log_dir: &Path,
    port: u16,
    controller_port: u16,
    extra: &[(String, String)],
) -> String {
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n",
        log_dir.display()
    );
    for (name, value) in extra {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

/// A new cluster id in the form that Kafka wants: 16 bytes in URL-safe base64, never random here.
fn format_storage(distribution: &Distribution, configuration: &Path) -> Result<()> {
    let output = distribution
        .java(None)
        .args(["kafka.tools.StorageTool", "format", "-t"])
        .arg("ZGxvZy14dGFzay1rYWZrYQ")
        .arg("-c")
        .arg(configuration)
        .output()
        .context("cannot start java")?;
    if !output.status.success() {
        bail!(
            "kafka-storage format failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Options of `cargo xtask kafka`.
#[derive(Clone, Debug, Args)]
pub struct KafkaOptions {
    /// The clients' port.
    #[arg(long, default_value_t = 9092)]
    pub port: u16,
    /// The folder that the broker keeps its data in; by default one in the target folder.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// The heap in MiB.
    #[arg(long, default_value_t = 1024)]
    pub heap_mib: u32,
    /// A line of server.properties, NAME=VALUE; may be repeated.
    #[arg(long = "property")]
    pub properties: Vec<String>,
}

/// Runs a real Kafka until it is interrupted.
///
/// # Errors
/// When it cannot be fetched or started.
pub fn run(root: &Path, options: &KafkaOptions) -> Result<()> {
    let distribution = Distribution::fetch(root, Line::Newest)?;
    let data_dir = options.data_dir.clone();
    let mut broker = BrokerOptions::new(data_dir.unwrap_or(root.join("target/compat/kafka/data")));
    broker.port = options.port;
    broker.heap_mib = options.heap_mib;
    for property in &options.properties {
        let (name, value) = property
            .split_once('=')
            .with_context(|| format!("{property}: NAME=VALUE is expected"))?;
        broker = broker.with(name, value);
    }
    let running = KafkaBroker::start(&distribution, &broker)?;
    println!(
        "Kafka {} on {} (pid {}, data in {}). Ctrl-C ends it.",
        distribution.version,
        running.address,
        running.pid(),
        running.log_dir.display()
    );
    running.wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_properties_win() {
        let extra = [("log.dirs".to_owned(), "/elsewhere".to_owned())];
        let text = server_properties(Path::new("/data"), 1, 2, &extra);
        let last = text.lines().rfind(|line| line.starts_with("log.dirs="));
        assert_eq!(last, Some("log.dirs=/elsewhere"));
    }
}
