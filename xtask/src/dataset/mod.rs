//! `cargo xtask dataset`: a real data set through real clients, with SIGKILLs in the middle.
//!
//! Half of the rows go through kcat, half through confluent-kafka, both idempotent, each into a topic
//! of six partitions on a server with its default settings, which is killed and started again while
//! they write ([`load`]). Then the Java client and `dlog consume` read everything ([`read`]), and
//! [`verify`] compares it with what was sent and what was acknowledged. *A row is a record whose key is
//! its number; whatever is wrong with it has a name.*

mod load;
mod read;
mod rows;
pub mod server;
mod verify;
#[cfg(test)]
mod verify_tests;

use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::compat::clients::{self, Client, Prepared};
use crate::dlog;
use crate::steps::{Outcome, Steps, is_installed};
use load::Load;
use read::Reader;
use rows::Rows;
use server::Server;
use verify::{Expected, Findings, Verdict};

const PARTITIONS: usize = 6;
/// Fewer records a second than any machine does, for the bound of a load and of a reader.
const SLOWEST: usize = 10_000;
/// What that bound has for starting programs and for the server's absence.
const BOUND_BASE: Duration = Duration::from_secs(60);

/// Options of `cargo xtask dataset`.
#[derive(Clone, Debug, Args)]
pub struct DatasetOptions {
    /// How many rows, from the first on; all of them without it.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1000..))]
    pub rows: Option<u32>,
    /// How often the server is killed during the load of each client.
    #[arg(long, default_value_t = 6)]
    pub kills: usize,
    /// What decides when it is killed; a new one without it.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Leave out the loads without kills, which are there for their figures.
    #[arg(long)]
    pub only_kills: bool,
    /// The server's program instead of the one that cargo builds.
    #[arg(long, env = "DLOG_BIN")]
    pub dlog: Option<PathBuf>,
    /// Fail when a toolchain is missing.
    #[arg(long)]
    pub all: bool,
}

impl DatasetOptions {
    /// The part of it that is quick enough for every test run.
    pub fn quick(program: PathBuf, all: bool) -> Self {
        Self {
            rows: Some(200_000),
            kills: 4,
            seed: None,
            only_kills: true,
            dlog: Some(program),
            all,
        }
    }
}

/// Runs everything as one step.
pub fn run(steps: &mut Steps, options: &DatasetOptions) {
    steps.record("data set", |root| match Tools::prepare(root)? {
        Ok(tools) => whole(root, &tools, options).map(|()| Outcome::Passed),
        Err(missing) if options.all => Ok(Outcome::Failed(missing)),
        Err(missing) => Ok(Outcome::Skipped(missing)),
    });
}

/// What the machine must have.
struct Tools {
    kcat_version: String,
    confluent_version: String,
    java_version: String,
    python: PathBuf,
    java: Vec<OsString>,
}

impl Tools {
    /// Installs the clients, or says what is missing.
    fn prepare(root: &Path) -> Result<Result<Self, String>> {
        if !is_installed("npm", "--version") {
            return Ok(Err("npm is not installed".to_owned()));
        }
        let mut ready = Vec::new();
        for client in [Client::Kcat, Client::Confluent, Client::Java4] {
            match clients::prepare(root, client)? {
                Prepared::Program { version, command } => ready.push((version, command)),
                Prepared::Missing(missing) => return Ok(Err(missing)),
                Prepared::Tools { .. } => bail!("{} is a client, not a tool", client.name()),
            }
        }
        let [kcat, confluent, java]: [_; 3] = ready.try_into().expect("one for each client");
        let (confluent_version, mut python) = confluent;
        ensure!(!python.is_empty(), "an empty command");
        Ok(Ok(Self {
            kcat_version: kcat.0,
            confluent_version,
            java_version: java.0,
            python: python.remove(0).into(),
            java: java.1,
        }))
    }
}

/// What all loads share.
struct Run<'a> {
    root: &'a Path,
    /// Where everything is that a run leaves.
    folder: PathBuf,
    tools: &'a Tools,
    program: PathBuf,
    rows: Rows,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Kcat,
    Confluent,
}

fn whole(root: &Path, tools: &Tools, options: &DatasetOptions) -> Result<()> {
    let rows = rows::fetch(root, &tools.python)?;
    let total = options
        .rows
        .map_or(rows.len(), |wanted| rows.len().min(wanted as usize));
    let sent = rows.bytes(0..total);
    println!(
        "{total} of {} rows, {:.1} MB as lines, SHA-256 {} ({})",
        rows.len(),
        megabytes(sent.len()),
        rows::sha256(sent),
        rows::SOURCE
    );
    let seed = options.seed.unwrap_or_else(rand::random);
    println!("seed {seed} (the same kills again: --seed {seed})");
    let program = match &options.dlog {
        Some(program) => program.clone(),
        None => dlog::build(root)?,
    };
    let run = Run {
        root,
        folder: root.join("target/compat/dataset"),
        tools,
        program,
        rows,
    };
    let mut server = Server::start(&run.program, &run.folder.join("data"), &[])?;
    let halves = [
        (Writer::Kcat, 0..total / 2),
        (Writer::Confluent, total / 2..total),
    ];
    for (writer, range) in &halves {
        if !options.only_kills {
            run.load(*writer, range, 0, seed, &mut server)?;
        }
        run.load(*writer, range, options.kills, seed, &mut server)?;
    }
    let data = server.data().to_owned();
    server.stop()?;
    println!("the server stopped in order; dlog log verify found nothing wrong");
    // Only what passed: what did not is there to be looked at.
    fs::remove_dir_all(data)?;
    Ok(())
}

impl Run<'_> {
    /// Writes rows with one client, reads them with both readers, judges what they found.
    fn load(
        &self,
        writer: Writer,
        range: &Range<usize>,
        kills: usize,
        seed: u64,
        server: &mut Server,
    ) -> Result<()> {
        let (name, version) = match writer {
            Writer::Kcat => ("kcat", &self.tools.kcat_version),
            Writer::Confluent => ("confluent-kafka", &self.tools.confluent_version),
        };
        // Another place for each client, from the same seed.
        let plan = load::plan(seed ^ range.start as u64, range, kills)?;
        let topic = format!("flights-{name}-{kills}-kills");
        server.create_topic(&topic, PARTITIONS)?;
        let told = self.folder.join(format!("{topic}.acknowledged"));
        let mut client = self.client(writer, &server.bootstrap(), &topic, &told, range.len());
        let log = self.folder.join(format!("{topic}.err"));
        let sent = (&self.rows, range.clone());
        let bound = bound(range.len());
        let load = load::run(&mut client, &log, sent, &plan, server, bound)
            .with_context(|| format!("{name}, seed {seed}"))?;
        println!("\n{name} {version}, rows {range:?}, {kills} kills");
        self.report_load(&load, range, &plan);
        let acknowledged = match writer {
            Writer::Kcat => None,
            Writer::Confluent => Some(verify::acknowledgements(&fs::read_to_string(&told)?)?),
        };
        if let Some(acknowledged) = &acknowledged {
            println!("  acknowledged one by one: {}", acknowledged.len());
        }
        let expected = Expected {
            rows: &self.rows,
            range: range.clone(),
            partitions: PARTITIONS,
            acknowledged: acknowledged.as_deref(),
        };
        self.read(&expected, &topic, server)
            .with_context(|| format!("{name}, {kills} kills, seed {seed}"))
    }

    /// The client, ready to take rows on its standard input.
    fn client(
        &self,
        writer: Writer,
        bootstrap: &str,
        topic: &str,
        told: &Path,
        rows: usize,
    ) -> Command {
        // librdkafka holds 100,000 records by default; of a small load that would be all.
        let queue = (rows / 10).clamp(100, 100_000).to_string();
        match writer {
            Writer::Kcat => {
                let mut kcat = Command::new("kcat");
                // -E: by itself kcat ends when it can reach no broker, though its library would go on.
                kcat.args(["-P", "-E", "-b", bootstrap, "-t", topic, "-K", "\\t"]);
                for setting in [
                    "enable.idempotence=true",
                    "acks=all",
                    // As in flights_load.py: no record is given up while the server is away.
                    "message.timeout.ms=3600000",
                    "reconnect.backoff.max.ms=1000",
                    &format!("queue.buffering.max.messages={queue}"),
                ] {
                    kcat.args(["-X", setting]);
                }
                kcat
            }
            Writer::Confluent => {
                let mut python = Command::new(&self.tools.python);
                python
                    .arg(self.root.join("tests/compat/python/flights_load.py"))
                    .args([bootstrap, topic, &queue])
                    .arg(told)
                    .env("PYTHONDONTWRITEBYTECODE", "1");
                python
            }
        }
    }

    fn report_load(&self, load: &Load, range: &Range<usize>, plan: &[load::Kill]) {
        for (kill, away) in plan.iter().zip(&load.away) {
            println!(
                "  killed {:.1} ms behind row {}, ready again {:.0} ms later",
                kill.moment.as_secs_f64() * 1e3,
                kill.row,
                away.as_secs_f64() * 1e3
            );
        }
        let bytes = self.rows.bytes(range.clone()).len();
        println!("  written:      {}", rate(range.len(), bytes, load.took));
    }

    /// Reads a topic with both readers; each must find what is expected, and both the same.
    fn read(&self, expected: &Expected<'_>, topic: &str, server: &Server) -> Result<()> {
        let sent = rows::sha256(self.rows.bytes(expected.range.clone()));
        println!("  SHA-256 sent: {sent}");
        let java = self.read_with(Reader::Java(&self.tools.java), expected, topic, server)?;
        let dlog = self.read_with(Reader::Dlog(&self.program), expected, topic, server)?;
        must_be_empty(&java.compare(&dlog))?;
        for verdict in [&java, &dlog] {
            ensure!(verdict.digest == sent, "the digests differ");
        }
        println!(
            "  every row once, in order, unchanged; by partition {:?}",
            java.records
        );
        Ok(())
    }

    fn read_with(
        &self,
        reader: Reader<'_>,
        expected: &Expected<'_>,
        topic: &str,
        server: &Server,
    ) -> Result<Verdict> {
        let file = self.folder.join("read");
        let (read, took) = reader.read(
            &server.bootstrap(),
            topic,
            &file,
            bound(expected.range.len()),
        )?;
        let verdict = verify::verify(expected, &read);
        let records = verdict.records.iter().sum();
        let who = match reader {
            Reader::Java(_) => format!("{} {}", reader.name(), self.tools.java_version),
            Reader::Dlog(_) => reader.name().to_owned(),
        };
        println!("  {who}: {}", rate(records, read.len(), took));
        println!("    SHA-256:    {}", verdict.digest);
        must_be_empty(&verdict.findings).with_context(|| who)?;
        fs::remove_file(file)?;
        Ok(verdict)
    }
}

fn must_be_empty(findings: &Findings) -> Result<()> {
    for finding in &findings.kept {
        println!("    {finding}");
    }
    ensure!(findings.count == 0, "{} findings", findings.count);
    Ok(())
}

fn bound(records: usize) -> Duration {
    BOUND_BASE + Duration::from_secs((records / SLOWEST) as u64)
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn rate(records: usize, bytes: usize, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    format!(
        "{records} records in {seconds:.1} s, {:.0} records/s, {:.1} MB/s",
        records as f64 / seconds,
        megabytes(bytes) / seconds
    )
}
