//! `cargo xtask compat`: real clients, each at its newest version, against a broker.
//!
//! The clients' programs lie in `tests/compat`, one folder per language. Each does the same steps
//! and prints one JSON line per step; [`clients`] installs and starts them, [`tools`] does the same
//! with Kafka's console tools, [`report`] makes the table. The broker is ours, the real Kafka (which
//! proves the programs), or one that runs already ([`target`]).

pub mod clients;
mod report;
mod target;
mod tools;
mod tools_admin;
mod tools_more;

use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::steps::{Outcome, Steps};
use clients::{Client, Prepared};
use report::{ClientReport, Report, StepResult};
use target::Target;

/// How many clients run at a time: most of a run is waiting, for rebalances above all.
const WORKERS: usize = 2;

/// The broker that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Against {
    /// This repository's server.
    Dlog,
    /// The newest Apache Kafka.
    Kafka,
}

/// Options of `cargo xtask compat`.
#[derive(Clone, Debug, Args)]
pub struct CompatOptions {
    /// The broker to start.
    #[arg(long, value_enum, default_value = "dlog")]
    pub against: Against,
    /// Use a broker that runs already, HOST:PORT, and start none.
    #[arg(long, conflicts_with = "against")]
    pub bootstrap: Option<String>,
    /// The server's program instead of the one that cargo builds.
    #[arg(long, env = "DLOG_BIN")]
    pub dlog: Option<std::path::PathBuf>,
    /// Run only these clients; may be repeated.
    #[arg(long)]
    pub only: Vec<String>,
    /// Fail when a client is skipped because its toolchain is missing.
    #[arg(long)]
    pub all: bool,
    /// Write the table into docs/KAFKA_COMPATIBILITY.md and the keys into tests/compat/murmur2.json.
    #[arg(long)]
    pub write: bool,
}

/// Runs the matrix as one step per client.
pub fn run(steps: &mut Steps, options: &CompatOptions) {
    let mut made = None;
    steps.record("clients", |root| {
        let report = matrix(root, options)?;
        report.save(root)?;
        println!("\n{}", report.table());
        made = Some(report);
        Ok(Outcome::Passed)
    });
    let Some(report) = made else { return };
    for client in &report.clients {
        steps.record(&client.name, |_| Ok(client.outcome(options.all)));
    }
    if options.write {
        steps.step("docs/KAFKA_COMPATIBILITY.md", |root| {
            report.write_docs(root)?;
            clients::write_fixture(root)
        });
    }
}

fn matrix(root: &Path, options: &CompatOptions) -> Result<Report> {
    let chosen = choose(&options.only)?;
    let mut prepared = Vec::new();
    for client in chosen {
        println!("preparing {}", client.name());
        prepared.push((client, clients::prepare(root, client)?));
    }
    let mut target = Target::start(root, options)?;
    println!("running against {} on {}", target.name, target.bootstrap);
    let started = Instant::now();
    let mut reports = run_all(root, &target, &prepared);
    cross_read(root, &target, &prepared, &mut reports);
    println!("took {:.0} s", started.elapsed().as_secs_f64());
    target.stop()?;
    for ((client, prepared), report) in prepared.iter().zip(&mut reports) {
        if let Prepared::Tools { distribution } = prepared {
            let more = tools::dump_log(root, distribution, &target, client.name());
            report.steps.extend(more);
        }
    }
    Ok(Report {
        broker: target.name.clone(),
        clients: reports,
    })
}

fn choose(only: &[String]) -> Result<Vec<Client>> {
    if let Some(unknown) = only
        .iter()
        .find(|name| !Client::ALL.iter().any(|client| client.name() == **name))
    {
        let names: Vec<_> = Client::ALL.iter().map(|client| client.name()).collect();
        bail!(
            "no client is called {unknown}; there are {}",
            names.join(", ")
        );
    }
    let wanted = |client: &Client| only.is_empty() || only.iter().any(|name| name == client.name());
    Ok(Client::ALL.into_iter().filter(wanted).collect())
}

/// Runs the clients, a few at a time; the reports keep the clients' order.
fn run_all(root: &Path, target: &Target, prepared: &[(Client, Prepared)]) -> Vec<ClientReport> {
    let next = Mutex::new(prepared.iter().enumerate());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS.min(prepared.len()) {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().expect("no worker panics holding it").next();
                    let Some((at, (client, prepared))) = taken else {
                        break;
                    };
                    let report = run_one(root, target, *client, prepared);
                    println!("{}", report.summary());
                    done.lock()
                        .expect("no worker panics holding it")
                        .push((at, report));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no worker panicked");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, report)| report).collect()
}

fn run_one(root: &Path, target: &Target, client: Client, prepared: &Prepared) -> ClientReport {
    let started = Instant::now();
    let mut report = ClientReport::new(client.name(), prepared.version());
    match prepared {
        Prepared::Missing(reason) => report.skipped = Some(reason.clone()),
        Prepared::Program { command, .. } => {
            let prefix = target.prefix(client);
            let arguments = ["run", &target.bootstrap, &prefix];
            let environment = target.environment();
            report.steps =
                clients::run_program(root, client.name(), command, &arguments, &environment);
        }
        Prepared::Tools { distribution } => {
            report.steps = tools::run(root, distribution, target, client.name());
        }
    }
    report.seconds = started.elapsed().as_secs_f64();
    report
}

/// What each client wrote is read and compared by the Java client and by confluent-kafka.
fn cross_read(
    root: &Path,
    target: &Target,
    prepared: &[(Client, Prepared)],
    reports: &mut [ClientReport],
) {
    for reader in [Client::Java4, Client::Confluent] {
        let Some((_, Prepared::Program { command, .. })) =
            prepared.iter().find(|(client, _)| *client == reader)
        else {
            continue;
        };
        let writers: Vec<(usize, String)> = prepared
            .iter()
            .enumerate()
            .filter(|(at, (client, _))| client.writes_data_set() && reports[*at].wrote_all())
            .map(|(at, (client, _))| (at, target.prefix(*client)))
            .collect();
        let mut arguments = vec!["verify", target.bootstrap.as_str()];
        arguments.extend(writers.iter().map(|(_, prefix)| prefix.as_str()));
        let log = format!("read-by-{}", reader.name());
        let found = clients::run_program(root, &log, command, &arguments, &target.environment());
        for (at, prefix) in &writers {
            let result = found.iter().find(|result| result.step == *prefix);
            let (ok, detail) = match result {
                Some(result) => (result.ok, result.detail.clone()),
                None => (
                    Some(false),
                    "the reader ended before it came to it".to_owned(),
                ),
            };
            reports[*at].steps.push(StepResult {
                step: log.clone(),
                ok,
                detail,
            });
        }
    }
}

/// Text of a program's output without its last line end.
fn trimmed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Runs a program to its end.
///
/// # Errors
/// With its output when it fails.
pub fn must(command: &mut std::process::Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} failed ({}): {} {}",
            output.status,
            trimmed(&output.stdout),
            trimmed(&output.stderr)
        );
    }
    Ok(trimmed(&output.stdout))
}
