//! What a run starts, ready in the target folder; the sources are in `tests/compat`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::compat::clients::{self, Client, Prepared};
use crate::compat::must;
use crate::kafka::{Distribution, Line};

/// The clients' programs.
pub struct Programs {
    /// Kafka's jars, Streams among them.
    pub distribution: Distribution,
    /// `java` with its arguments up to the class.
    java: Vec<OsString>,
    python: PathBuf,
    scripts: PathBuf,
    go: PathBuf,
    /// Versions, for the report.
    pub versions: String,
    /// Our own program: reads, creates topics, and is the broker.
    pub dlog: PathBuf,
}

/// A client library whose transactions are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// Apache Kafka's Java client.
    Java,
    /// librdkafka, by confluent-kafka.
    Confluent,
    /// franz-go.
    Franz,
}

impl Library {
    /// In the order of the report.
    pub const ALL: [Self; 3] = [Self::Java, Self::Confluent, Self::Franz];

    /// In the names of its topics and groups.
    pub fn name(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::Confluent => "confluent",
            Self::Franz => "franz",
        }
    }
}

impl Programs {
    /// Installs and builds the clients, or says what is missing.
    ///
    /// # Errors
    /// When an installation fails.
    pub fn prepare(root: &Path, dlog: PathBuf) -> Result<Result<Self, String>> {
        let mut ready = Vec::new();
        for client in [Client::Java4, Client::Confluent, Client::Franz] {
            match clients::prepare(root, client)? {
                Prepared::Program { version, command } => ready.push((client, version, command)),
                Prepared::Missing(missing) => return Ok(Err(missing)),
                Prepared::Tools { .. } => {
                    anyhow::bail!("{} is a client, not a tool", client.name())
                }
            }
        }
        let versions = ready.iter().map(|(c, v, _)| format!("{} {v}", c.name()));
        let versions: Vec<_> = versions.collect();
        let first = |client: Client| {
            let found = ready.iter().find(|(c, ..)| *c == client);
            let program = found.and_then(|(_, _, command)| command.first());
            program.map(PathBuf::from).context("an empty command")
        };
        let distribution = Distribution::fetch(root, Line::Newest)?;
        Ok(Ok(Self {
            java: java(root, &distribution)?,
            python: first(Client::Confluent)?,
            go: first(Client::Franz)?,
            scripts: root.join("tests/compat/python"),
            versions: versions.join(", "),
            distribution,
            dlog,
        }))
    }

    /// A worker of a library: `transform` or `mix`.
    pub fn worker(&self, library: Library, mode: &str) -> Command {
        match library {
            Library::Java => self.java(mode),
            Library::Confluent => self.script("eos_worker.py", mode),
            Library::Franz => {
                let mut go = Command::new(&self.go);
                go.args(["eos", mode]);
                go
            }
        }
    }

    /// The Java program in a mode: `streams`, or that of a worker.
    pub fn java(&self, mode: &str) -> Command {
        let mut java = Command::new(&self.java[0]);
        java.args(&self.java[1..]).arg(mode);
        java
    }

    /// A Python program with its first argument.
    pub fn script(&self, name: &str, argument: &str) -> Command {
        let mut python = Command::new(&self.python);
        python.arg(self.scripts.join(name)).arg(argument);
        python.env("PYTHONDONTWRITEBYTECODE", "1");
        python
    }
}

fn java(root: &Path, distribution: &Distribution) -> Result<Vec<OsString>> {
    let classes = root.join(format!("target/compat/java/eos-{}", distribution.version));
    fs::create_dir_all(&classes)?;
    let mut sources = Vec::new();
    for entry in fs::read_dir(root.join("tests/compat/java/eos"))? {
        sources.push(entry?.path());
    }
    must(
        Command::new("javac")
            .args(["-nowarn", "-cp", &distribution.class_path, "-d"])
            .arg(&classes)
            .args(&sources),
    )?;
    let java = distribution.java(Some(&classes));
    let mut command = vec![java.get_program().to_owned()];
    // Many short lives on few cores: the optimising compiler would only slow them.
    for flag in ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"] {
        command.push(flag.into());
    }
    command.extend(java.get_args().map(OsString::from));
    command.push("EosMain".into());
    Ok(command)
}
