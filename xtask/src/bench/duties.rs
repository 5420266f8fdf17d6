//! `cargo xtask bench --duties`: what a broker does besides taking and giving records, for both brokers:
//! transactions, rebalances, compaction and what it does to others, memory for those who are idle.
//!
//! Each figure is a median over the rounds; brokers take turns within a round.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::BenchOptions;
use super::brokers::{Broker, Brokers, Durability, Kind};
use super::compaction::Compaction;
use super::machine::{self, Filler};
use super::report::{self, Whole};

/// Settings that both brokers are started with here: the cleaner looks for work often, so that its pauses
/// are not what is measured.
pub(super) const SETTINGS: [(&str, &str); 1] = [("log.cleaner.backoff.ms", "100")];

/// Idle producers whose memory is measured.
const PRODUCERS: u64 = 100_000;
/// Members of each of the groups whose memory is measured, and how many groups.
const MEMBERS: (u32, u32) = (100, 100);
/// The groups whose rebalances are measured.
const GROUPS: [Members; 3] = [
    // Members of Kafka learn of a rebalance by their next heartbeat: this hides least of what its coordinator takes.
    Members {
        protocol: "classic",
        heartbeat_ms: "10",
        rebalances: "10",
    },
    // What clients do by default.
    Members {
        protocol: "classic",
        heartbeat_ms: "3000",
        rebalances: "3",
    },
    // The interval between assignments weighs more.
    Members {
        protocol: "consumer",
        heartbeat_ms: "50",
        rebalances: "10",
    },
];
/// Records a second of transactions that both brokers carry with ease.
const PACED: &str = "5000";

/// The figures of one broker, by name, in the order of their taking.
pub(super) type Figures = Vec<(String, f64)>;

/// How the members of a group behave, and how often it rebalances.
struct Members {
    protocol: &'static str,
    heartbeat_ms: &'static str,
    rebalances: &'static str,
}

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Duty {
    /// Throughput and latency of transactions.
    Transactions,
    /// Rebalances of groups.
    Rebalances,
    /// Compaction with nobody beside.
    Compaction,
    /// What idle members and producers take.
    Memory,
    /// What a producer feels of compaction.
    Effect,
    /// The loading of offsets.
    Offsets,
}

/// What is measured in rounds, by [`run`].
const IN_ROUNDS: [Duty; 4] = [
    Duty::Transactions,
    Duty::Rebalances,
    Duty::Compaction,
    Duty::Memory,
];

/// Whether something is measured, given what was asked for: nothing is all.
pub(super) fn wants(only: &[Duty], duty: Duty) -> bool {
    only.is_empty() || only.contains(&duty)
}

/// Measures the duties of both brokers that take turns within a round.
pub(super) fn run(
    brokers: &Brokers,
    running: &[Broker; 2],
    filler: &Filler,
    options: &BenchOptions,
) -> Result<Vec<Whole>> {
    let (rounds, only) = (options.rounds, &options.only);
    if !IN_ROUNDS.iter().any(|duty| wants(only, *duty)) {
        return Ok(Vec::new());
    }
    let mut all: [Vec<Figures>; 2] = Default::default();
    for round in 0..rounds {
        for turn in 0..2 {
            let at = (turn + round as usize) % 2;
            let broker = &running[at];
            println!("round {} of {rounds}, {:?}", round + 1, broker.kind);
            let mut duties = Duties {
                brokers,
                broker,
                filler,
                time: Duration::from_secs(options.seconds),
                group_topic: format!("group-{round}"),
                figures: Vec::new(),
            };
            if wants(only, Duty::Transactions) {
                duties.transactions()?;
            }
            // Memory is taken for good, so it is measured once.
            let memory = round + 1 == rounds && wants(only, Duty::Memory);
            if memory || wants(only, Duty::Rebalances) {
                duties.create(&duties.group_topic, 200, &[])?;
            }
            if wants(only, Duty::Rebalances) {
                duties.rebalances()?;
            }
            if wants(only, Duty::Compaction) {
                duties.compaction()?;
            }
            if memory {
                duties.idle_members()?;
                duties.idle_producers()?;
            }
            all[at].push(duties.figures);
        }
    }
    medians(&all)
}

/// The medians of both brokers' rounds, for all that the last round measured.
pub(super) fn medians([dlog, kafka]: &[Vec<Figures>; 2]) -> Result<Vec<Whole>> {
    let names: Vec<String> = dlog
        .last()
        .map(|figures| figures.iter().map(|(name, _)| name.clone()).collect())
        .unwrap_or_default();
    let wholes = names.into_iter().map(|name| {
        Ok(Whole {
            dlog: median_of(dlog, &name)?,
            kafka: median_of(kafka, &name)?,
            name,
        })
    });
    wholes.collect()
}

fn median_of(rounds: &[Figures], name: &str) -> Result<f64> {
    let of_name = rounds.iter().flatten().filter(|(other, _)| other == name);
    report::median(of_name.map(|(_, value)| *value))
        .with_context(|| format!("no figure for {name}"))
}

/// The measurements of one broker in one round.
struct Duties<'a> {
    brokers: &'a Brokers,
    broker: &'a Broker,
    filler: &'a Filler,
    time: Duration,
    /// Another one each round: members under Kafka's consumer protocol do not come to rest with a topic
    /// that was deleted and created again.
    group_topic: String,
    figures: Figures,
}

impl Duties<'_> {
    fn add(&mut self, name: impl Into<String>, value: f64) {
        let name = name.into();
        println!("  {name}: {value:.2}");
        self.figures.push((name, value));
    }

    /// Producers that commit every 100 ms, with both durabilities: as much as they can, and how long a
    /// commit takes where both brokers have room to spare.
    fn transactions(&mut self) -> Result<()> {
        self.create_state_topic()?;
        for durability in [Durability::Fsync, Durability::Os] {
            // The state of transactions is as durable as their records.
            let state = "__transaction_state";
            self.brokers
                .set_durability(self.broker, state, durability)?;
            let most = self.transact(durability, &[])?;
            let paced = self.transact(durability, &["--rate", PACED])?;
            let name = format!("{durability:?}").to_lowercase();
            self.add(
                format!("transactions of 100 ms, {name}, MB/s"),
                number(&most["mb_per_s"])?,
            );
            self.add(
                format!("transactions of 100 ms, {name}, commit p99 ms at {PACED}/s"),
                number(&paced["commit_us"]["p99"])? / 1e3,
            );
        }
        Ok(())
    }

    /// Four producers to a topic of their own.
    fn transact(&self, durability: Durability, more: &[&str]) -> Result<Value> {
        self.brokers.create_topic(self.broker, "load", durability)?;
        machine::settle()?;
        self.filler.fill_page_cache()?;
        let seconds = self.time.as_secs().to_string();
        let arguments = [
            "--connections",
            "4",
            "--record-bytes",
            "1024",
            "--batch-records",
            "15",
            "--commit-ms",
            "100",
            "--warmup",
            "1",
            "--seconds",
            &seconds,
        ];
        let output = self.bench_transactions(&[&arguments[..], more].concat())?;
        self.brokers.delete_topic(self.broker, "load")?;
        Ok(output)
    }

    /// Transactions have a topic for their state once there was one.
    fn create_state_topic(&self) -> Result<()> {
        self.create("load", 1, &[])?;
        self.bench_transactions(&["--seconds", "1"])?;
        self.brokers.delete_topic(self.broker, "load")
    }

    fn bench_transactions(&self, more: &[&str]) -> Result<Value> {
        self.json(&[&["bench", "transactions", "load", "--json"], more].concat())
    }

    /// One of 100 members leaves and another joins, in both protocols.
    fn rebalances(&mut self) -> Result<()> {
        let topic = &self.group_topic.clone();
        for Members {
            protocol,
            heartbeat_ms,
            rebalances,
        } in GROUPS
        {
            let output = self.json(&[
                "bench",
                "group",
                topic,
                "--json",
                "--protocol",
                protocol,
                "--members",
                "100",
                "--heartbeat-ms",
                heartbeat_ms,
                "--rounds",
                rebalances,
            ])?;
            let group = format!("{protocol}, heartbeats of {heartbeat_ms} ms");
            self.add(
                format!("rebalance of 100 members, {group}, median ms"),
                number(&output["rebalance_us"]["p50"])? / 1e3,
            );
            let own = &output["after_last_join_us"]["p50"];
            if !own.is_null() {
                self.add(
                    format!("of that behind the last join, {group}, median ms"),
                    number(own)? / 1e3,
                );
            }
        }
        Ok(())
    }

    /// How fast a topic is compacted, and what a producer to another topic feels of it.
    fn compaction(&mut self) -> Result<()> {
        let compaction = Compaction {
            brokers: self.brokers,
            broker: self.broker,
            time: self.time,
        };
        for (name, value) in compaction.once(self.filler)? {
            self.add(name, value);
        }
        Ok(())
    }

    /// Memory for 10,000 members in 100 groups, who only heartbeat. The topic is that of the rebalances.
    fn idle_members(&mut self) -> Result<()> {
        let (members, groups) = (MEMBERS.0.to_string(), MEMBERS.1.to_string());
        let before = live_mib(self.broker)?;
        let mut held = Command::new(&self.brokers.program)
            .args(["bench", "group", &self.group_topic])
            .args(["--json", "--hold", "--rounds", "0"])
            // Their connections would be most of it.
            .args(["--connections", "8"])
            .args([
                "--members",
                &members,
                "--groups",
                &groups,
                "--heartbeat-ms",
                "3000",
            ])
            .args(["--timeout", "120", "--bootstrap", &self.broker.address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let measured = wait_for_line(&mut held).and_then(|()| live_mib(self.broker));
        drop(held.stdin.take());
        held.wait()?;
        self.add("memory for 10,000 idle members, MiB", measured? - before);
        Ok(())
    }

    fn idle_producers(&mut self) -> Result<()> {
        self.create("idle", 1, &[])?;
        let before = live_mib(self.broker)?;
        let producers = PRODUCERS.to_string();
        self.json(&[
            "bench",
            "producers",
            "idle",
            "--json",
            "--producers",
            &producers,
            "--in-flight",
            "100",
            "--connections",
            "2",
        ])?;
        let after = live_mib(self.broker)?;
        self.add("memory for 100,000 idle producers, MiB", after - before);
        self.brokers.delete_topic(self.broker, "idle")
    }

    fn create(&self, topic: &str, partitions: u32, settings: &[&str]) -> Result<()> {
        let settings = settings.iter().copied();
        self.brokers
            .create_topic_with(self.broker, topic, partitions, settings)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.brokers.dlog(self.broker, arguments)?;
        serde_json::from_str(&output)
            .with_context(|| format!("dlog {} printed {output}", arguments.join(" ")))
    }
}

fn number(value: &Value) -> Result<f64> {
    value
        .as_f64()
        .with_context(|| format!("{value} is no number"))
}

fn wait_for_line(child: &mut Child) -> Result<()> {
    let output = child.stdout.as_mut().context("the pipe was asked for")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    if line.is_empty() {
        bail!("the groups did not assemble");
    }
    Ok(())
}

/// Memory that a broker holds: anonymous memory here; for Kafka what is left of the heap after a full
/// collection, which is to its advantage.
fn live_mib(broker: &Broker) -> Result<f64> {
    if broker.kind == Kind::Dlog {
        return machine::anonymous_mib(broker.pid());
    }
    let output = Command::new("jcmd")
        .args([&broker.pid().to_string(), "GC.class_histogram"])
        .output()
        .context("cannot start jcmd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let total = text.lines().find(|line| line.starts_with("Total"));
    let bytes = total.and_then(|line| line.split_whitespace().nth(2)?.parse::<f64>().ok());
    Ok(bytes.with_context(|| format!("jcmd printed {text}"))? / f64::from(1 << 20))
}
