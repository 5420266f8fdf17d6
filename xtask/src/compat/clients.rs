//! The clients: what each needs, how it is installed into the target folder, how it is run.
//!
//! Versions are pinned in the files of `tests/compat`. What was installed stays in the target folder
//! until the file that pins it changes.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result};

use super::must;
use super::report::StepResult;
use crate::kafka::{Distribution, Line};
use crate::steps::is_installed;

/// The bound for one client; each step has a tighter one of its own.
const CLIENT_BOUND: Duration = Duration::from_secs(240);

/// A client of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Apache Kafka's Java client, newest.
    Java4,
    /// The last Java client of the 3.x line.
    Java3,
    /// Kafka's console tools, newest.
    Tools4,
    /// The console tools of the 3.x line.
    Tools3,
    /// librdkafka's command-line tool.
    Kcat,
    /// librdkafka for Python.
    Confluent,
    /// kafka-python.
    KafkaPython,
    /// aiokafka.
    Aiokafka,
    /// franz-go.
    Franz,
    /// sarama.
    Sarama,
    /// kafkajs.
    Kafkajs,
}

/// A client that is ready to run, or why it is not.
pub enum Prepared {
    /// A program and the arguments that come before the scenario's.
    Program {
        /// The client's version.
        version: String,
        /// Program and first arguments.
        command: Vec<OsString>,
    },
    /// The console tools of a distribution.
    Tools {
        /// Their jars.
        distribution: Distribution,
    },
    /// Something that the machine lacks.
    Missing(String),
}

impl Prepared {
    /// The client's version, empty when it is missing.
    pub fn version(&self) -> &str {
        match self {
            Self::Program { version, .. } => version,
            Self::Tools { distribution } => &distribution.version,
            Self::Missing(_) => "",
        }
    }
}

impl Client {
    /// In the order of the table.
    pub const ALL: [Self; 11] = [
        Self::Java4,
        Self::Java3,
        Self::Tools4,
        Self::Tools3,
        Self::Kcat,
        Self::Confluent,
        Self::KafkaPython,
        Self::Aiokafka,
        Self::Franz,
        Self::Sarama,
        Self::Kafkajs,
    ];

    /// As `--only` takes it and the table shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Java4 => "java-4",
            Self::Java3 => "java-3",
            Self::Tools4 => "tools-4",
            Self::Tools3 => "tools-3",
            Self::Kcat => "kcat",
            Self::Confluent => "confluent-kafka",
            Self::KafkaPython => "kafka-python",
            Self::Aiokafka => "aiokafka",
            Self::Franz => "franz-go",
            Self::Sarama => "sarama",
            Self::Kafkajs => "kafkajs",
        }
    }

    /// Whether its records carry the timestamps of the data set.
    pub fn sets_timestamps(self) -> bool {
        self != Self::Kcat
    }

    /// Whether it writes the data set that others read.
    pub fn writes_data_set(self) -> bool {
        !matches!(self, Self::Tools4 | Self::Tools3)
    }
}

/// Installs a client, unless a toolchain is missing.
///
/// # Errors
/// When the installation fails.
pub fn prepare(root: &Path, client: Client) -> Result<Prepared> {
    if let Some(missing) = missing_tool(client) {
        return Ok(Prepared::Missing(missing));
    }
    match client {
        Client::Java4 => java(root, Line::Newest),
        Client::Java3 => java(root, Line::Three),
        Client::Tools4 => tools(root, Line::Newest),
        Client::Tools3 => tools(root, Line::Three),
        Client::Kcat => kcat(root),
        Client::Confluent => python(root, "confluent_client.py", "confluent-kafka"),
        Client::KafkaPython => python(root, "kafka_python_client.py", "kafka-python"),
        Client::Aiokafka => python(root, "aiokafka_client.py", "aiokafka"),
        Client::Franz => go(root, "franz", "github.com/twmb/franz-go "),
        Client::Sarama => go(root, "sarama", "github.com/IBM/sarama "),
        Client::Kafkajs => node(root),
    }
}

fn missing_tool(client: Client) -> Option<String> {
    let needed: &[(&str, &str)] = match client {
        Client::Java4 | Client::Java3 | Client::Tools4 | Client::Tools3 => &[
            ("java", "-version"),
            ("javac", "-version"),
            ("mvn", "-version"),
        ],
        Client::Kcat | Client::Confluent | Client::KafkaPython | Client::Aiokafka => {
            &[("python3", "--version")]
        }
        Client::Franz | Client::Sarama => &[("go", "version")],
        Client::Kafkajs => &[("node", "--version"), ("npm", "--version")],
    };
    needed
        .iter()
        .find(|(program, flag)| !is_installed(program, flag))
        .map(|(program, _)| format!("{program} is not installed"))
}

fn java(root: &Path, line: Line) -> Result<Prepared> {
    let distribution = Distribution::fetch(root, line)?;
    let classes = root.join(format!("target/compat/java/{}", distribution.version));
    let mut sources = Vec::new();
    // Classes that the older line lacks are used in a folder of their own.
    let newest = (line == Line::Newest).then_some("src4");
    for folder in ["src"].into_iter().chain(newest) {
        for entry in fs::read_dir(root.join("tests/compat/java").join(folder))? {
            sources.push(entry?.path());
        }
    }
    fs::create_dir_all(&classes)?;
    must(
        Command::new("javac")
            .args([
                "-Xlint:-options",
                "-nowarn",
                "-cp",
                &distribution.class_path,
                "-d",
            ])
            .arg(&classes)
            .args(&sources),
    )?;
    let java = distribution.java(Some(&classes));
    let mut command = vec![java.get_program().to_owned()];
    command.extend(java.get_args().map(OsString::from));
    command.push("Main".into());
    Ok(Prepared::Program {
        version: distribution.version,
        command,
    })
}

fn tools(root: &Path, line: Line) -> Result<Prepared> {
    Ok(Prepared::Tools {
        distribution: Distribution::fetch(root, line)?,
    })
}

/// A virtual environment with the packages of requirements.txt.
fn environment(root: &Path) -> Result<PathBuf> {
    let wanted = fs::read_to_string(root.join("tests/compat/python/requirements.txt"))?;
    let folder = root.join("target/compat/venv");
    let installed = folder.join("requirements.txt");
    let python = folder.join("bin/python");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    must(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    must(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(root.join("tests/compat/python/requirements.txt")),
    )?;
    fs::write(&installed, wanted)?;
    Ok(python)
}

fn python(root: &Path, program: &str, package: &str) -> Result<Prepared> {
    let python = environment(root)?;
    let requirements = fs::read_to_string(root.join("tests/compat/python/requirements.txt"))?;
    let version = requirements
        .lines()
        .find_map(|line| line.strip_prefix(package)?.strip_prefix("=="))
        .with_context(|| format!("requirements.txt does not pin {package}"))?;
    Ok(Prepared::Program {
        version: version.to_owned(),
        command: vec![
            python.into(),
            root.join("tests/compat/python").join(program).into(),
        ],
    })
}

fn kcat(root: &Path) -> Result<Prepared> {
    if !is_installed("kcat", "-V") {
        // Only root may install it, and only where the package manager is Debian's.
        let update = Command::new("apt-get").args(["update", "-q"]).output();
        let install = Command::new("apt-get")
            .args(["install", "-q", "-y", "kcat"])
            .output();
        if update.is_err() || install.is_err() || !is_installed("kcat", "-V") {
            return Ok(Prepared::Missing("kcat is not installed".to_owned()));
        }
    }
    let version = must(Command::new("kcat").arg("-V"))?;
    let version = version
        .split_whitespace()
        .skip_while(|word| *word != "Version")
        .nth(1)
        .unwrap_or("unknown")
        .to_owned();
    let Prepared::Program { command, .. } = python(root, "kcat_client.py", "confluent-kafka")?
    else {
        return Ok(Prepared::Missing("python3 is not installed".to_owned()));
    };
    Ok(Prepared::Program { version, command })
}

fn go(root: &Path, library: &str, module: &str) -> Result<Prepared> {
    let folder = root.join("tests/compat/go");
    let program = root.join("target/compat/go-clients");
    must(
        Command::new("go")
            .args(["build", "-mod=readonly", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(&folder),
    )?;
    let pinned = fs::read_to_string(folder.join("go.mod"))?;
    let version = pinned
        .lines()
        .find_map(|line| line.trim().strip_prefix(module)?.strip_prefix('v'))
        .with_context(|| format!("go.mod does not pin {module}"))?;
    Ok(Prepared::Program {
        version: version.to_owned(),
        command: vec![program.into(), library.into()],
    })
}

/// node_modules must lie above the program that loads them, so the program is copied to them.
fn node(root: &Path) -> Result<Prepared> {
    let source = root.join("tests/compat/kafkajs");
    let folder = root.join("target/compat/kafkajs");
    fs::create_dir_all(&folder)?;
    let lock = fs::read_to_string(source.join("package-lock.json"))?;
    let installed = folder.join("node_modules/installed.json");
    let current = fs::read_to_string(&installed).is_ok_and(|text| text == lock);
    for entry in fs::read_dir(&source)? {
        let path = entry?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            fs::copy(&path, folder.join(name))?;
        }
    }
    if !current {
        must(
            Command::new("npm")
                .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
                .current_dir(&folder),
        )?;
        fs::write(&installed, &lock)?;
    }
    let package: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(source.join("package.json"))?)?;
    let version = package["dependencies"]["kafkajs"]
        .as_str()
        .context("package.json does not pin kafkajs")?;
    Ok(Prepared::Program {
        version: version.to_owned(),
        command: vec!["node".into(), folder.join("main.js").into()],
    })
}

/// Runs a client's program and takes the steps that it prints, until it ends or its time is over.
pub fn run_program(
    root: &Path,
    name: &str,
    command: &[OsString],
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Vec<StepResult> {
    let mut steps = Vec::new();
    if let Err(error) = collect(root, name, command, arguments, environment, &mut steps) {
        steps.push(StepResult {
            step: "program".to_owned(),
            ok: Some(false),
            detail: format!("{error:#}"),
        });
    }
    steps
}

fn collect(
    root: &Path,
    name: &str,
    command: &[OsString],
    arguments: &[&str],
    environment: &[(&str, &str)],
    steps: &mut Vec<StepResult>,
) -> Result<()> {
    let logs = root.join("target/compat/logs");
    fs::create_dir_all(&logs)?;
    let log = logs.join(format!("{name}.err"));
    let (program, first) = command.split_first().context("an empty command")?;
    let mut child = Command::new(program)
        .args(first)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root.join("tests/compat"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&log)?)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let output = child.stdout.take().context("the pipe was asked for")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let end = Instant::now() + CLIENT_BOUND;
    loop {
        match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => steps.extend(serde_json::from_str::<StepResult>(&line)),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                anyhow::bail!("no end within {CLIENT_BOUND:?}");
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        anyhow::bail!("it ended with {status}, see {}", log.display());
    }
    Ok(())
}

/// Writes where the real Java client puts keys, which is what other partitioners are checked with.
///
/// # Errors
/// When Java is missing or the file cannot be written.
pub fn write_fixture(root: &Path) -> Result<()> {
    let Prepared::Program { command, .. } = prepare(root, Client::Java4)? else {
        anyhow::bail!("Java is needed for the partitioner's fixture");
    };
    let (program, arguments) = command.split_first().context("an empty command")?;
    let text = must(Command::new(program).args(arguments).arg("murmur2"))?;
    fs::write(root.join("tests/compat/murmur2.json"), text + "\n")?;
    Ok(())
}
