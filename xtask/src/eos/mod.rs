//! `cargo xtask eos`: exactly-once with real clients, while the broker and the clients are killed.
//!
//! One loader writes inputs in transactions, some of them aborted. The Java client, librdkafka and franz-go
//! consume, transform and produce, two instances each; Kafka Streams counts words and joins; and each library
//! mixes sends and polls at random ([`programs`], [`clients`]). A plan that a seed makes says who is killed and
//! when ([`plan`]). At the end two readers of other kinds than the writers read everything, [`judge`] compares
//! it with the inputs, and `dlog-history` judges what all clients wrote down of what they did. *The same seed
//! makes the same kills; what the processes make of the time between them is theirs.*

mod broker;
mod clients;
mod judge;
#[cfg(test)]
mod judge_tests;
mod plan;
mod programs;
mod run;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::compat::Against;
use crate::dlog;
use crate::steps::{Outcome, Steps};
use plan::Blows;
use programs::Programs;
use run::Told;

/// Options of `cargo xtask eos`.
#[derive(Clone, Debug, Args)]
pub struct EosOptions {
    /// How many runs, each with a seed and a broker of its own.
    #[arg(long, default_value_t = 3)]
    pub runs: u32,
    /// How long each run is under load, from the first commit of every client on.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// The seed of the first run, and one more for each run after it; a new one without it.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How often the broker is killed in a run.
    #[arg(long, default_value_t = 8)]
    pub kills: usize,
    /// How often a client is killed in a run.
    #[arg(long, default_value_t = 8)]
    pub client_kills: usize,
    /// How often a client is stopped, replaced, and woken again in a run.
    #[arg(long, default_value_t = 3)]
    pub zombies: usize,
    /// The broker.
    #[arg(long, value_enum, default_value = "dlog")]
    pub against: Against,
    /// The group protocol of the clients that know both; by the seed without it.
    #[arg(long, value_parser = ["classic", "consumer"])]
    pub protocol: Option<String>,
    /// The server's program instead of the one that cargo builds.
    #[arg(long, env = "DLOG_BIN")]
    pub dlog: Option<PathBuf>,
    /// Fail when a toolchain is missing.
    #[arg(long)]
    pub all: bool,
}

impl EosOptions {
    /// The part of it that is quick enough for every test run.
    pub fn quick(program: PathBuf, all: bool) -> Self {
        Self {
            runs: 1,
            seconds: 15,
            seed: None,
            kills: 3,
            client_kills: 3,
            zombies: 1,
            against: Against::Dlog,
            protocol: None,
            dlog: Some(program),
            all,
        }
    }

    fn blows(&self) -> Blows {
        Blows {
            broker: self.kills,
            clients: self.client_kills,
            zombies: self.zombies,
        }
    }
}

/// Runs everything as one step.
pub fn run(steps: &mut Steps, options: &EosOptions) {
    steps.record("exactly once", |root| {
        let dlog = match &options.dlog {
            Some(program) => program.clone(),
            None => dlog::build(root)?,
        };
        match Programs::prepare(root, dlog)? {
            Ok(programs) => all_runs(root, &programs, options).map(|()| Outcome::Passed),
            Err(missing) if options.all => Ok(Outcome::Failed(missing)),
            Err(missing) => Ok(Outcome::Skipped(missing)),
        }
    });
}

fn all_runs(root: &std::path::Path, programs: &Programs, options: &EosOptions) -> Result<()> {
    println!("{}", programs.versions);
    let first = options.seed.unwrap_or_else(rand::random);
    let mut told: Vec<(u64, Result<Told>)> = Vec::new();
    for number in 0..options.runs {
        let seed = first.wrapping_add(u64::from(number));
        println!("\nrun {} of {}, seed {seed}", number + 1, options.runs);
        let started = Instant::now();
        let folder = root.join("target/compat/eos").join(format!("run-{number}"));
        let outcome = run::run(programs, options, seed, &folder);
        match &outcome {
            Ok(told) => println!("  {told}"),
            Err(error) => println!(
                "  FAILED: {error:#}\n  what it left is in {}",
                folder.display()
            ),
        }
        println!("  took {:.0} s", started.elapsed().as_secs_f64());
        told.push((seed, outcome));
    }
    report(&told)
}

/// Runs, kills and seeds, all together.
fn report(told: &[(u64, Result<Told>)]) -> Result<()> {
    let passed: Vec<_> = told.iter().filter_map(|(_, t)| t.as_ref().ok()).collect();
    let sum = |of: fn(&Told) -> usize| passed.iter().map(|told| of(told)).sum::<usize>();
    println!(
        "\n{} of {} runs passed: {} broker kills, {} client kills, {} zombies, {} inputs, {} outputs, {} events",
        passed.len(),
        told.len(),
        sum(|t| t.kills),
        sum(|t| t.client_kills),
        sum(|t| t.zombies),
        sum(|t| t.inputs),
        sum(|t| t.outputs),
        sum(|t| t.events)
    );
    let seeds: Vec<_> = told.iter().map(|(seed, _)| seed.to_string()).collect();
    println!("seeds: {} (again: --runs 1 --seed SEED)", seeds.join(", "));
    let failed = told.iter().filter(|(_, t)| t.is_err());
    let failed: Vec<_> = failed.map(|(seed, _)| seed.to_string()).collect();
    if !failed.is_empty() {
        bail!("{} runs failed: seeds {}", failed.len(), failed.join(", "));
    }
    Ok(())
}
