//! `cargo xtask bench`: this server and a real Kafka, measured in the same run by the same clients.
//!
//! [`brokers`] starts both, [`load`] has one load run against one of them, [`mod@duties`] measures what a
//! broker does besides, [`compaction`] and [`offsets`] two of that with more to them, [`machine`] tells what
//! that cost and keeps the page cache in the state of a machine that has been up for a while, [`report`]
//! makes medians, ratios and tables. Both brokers run all the time; a load runs against one after the
//! other, round after round, so that a machine that changes its speed changes it for both.

mod brokers;
mod compaction;
mod duties;
mod load;
mod machine;
mod offsets;
mod report;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use crate::dlog;
use crate::kafka::{Distribution, Line};
use brokers::{Broker, Brokers, Durability, Kind, VARIANTS};
use duties::{Duty, wants};
use load::{Pace, Sample, Shape};
use machine::Filler;
use report::{Report, Whole};

/// How long a broker does nothing before its idle memory is read.
const IDLE: Duration = Duration::from_secs(5);

/// Options of `cargo xtask bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchOptions {
    /// Rounds; each figure is a median over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Seconds of each load.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub seconds: u64,
    /// GiB in the log that is recovered after SIGKILL; 0 leaves that out.
    #[arg(long, default_value_t = 10)]
    pub recovery_gib: u64,
    /// Leave the Java clients out.
    #[arg(long)]
    pub no_java: bool,
    /// Only measure what a bare loop of sendfile costs, the baseline of fetches.
    #[arg(long)]
    pub baseline: bool,
    /// Measure transactions, rebalances, compaction and idle clients instead of records.
    #[arg(long)]
    pub duties: bool,
    /// Of the duties, only these.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        requires = "duties",
        conflicts_with = "write"
    )]
    pub only: Vec<Duty>,
    /// Write the tables into docs/PERFORMANCE.md.
    #[arg(long)]
    pub write: bool,
}

/// Runs all loads; prints the tables.
///
/// # Errors
/// When a broker or a client fails.
pub fn run(root: &Path, options: &BenchOptions) -> Result<()> {
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder)?;
    let baseline = machine::sendfile_baseline(&folder)?;
    println!("a bare loop of sendfile over loopback: {baseline:.2} CPU s/GiB");
    if options.baseline {
        return Ok(());
    }
    let program = dlog::build(root)?;
    let distribution = Distribution::fetch(root, Line::Newest)?;
    let brokers = Brokers::new(&folder, program, distribution)?;
    if options.duties {
        return duties(root, &folder, brokers, options);
    }
    let mut report = Report::default();
    about(&brokers, &folder, options, baseline, &mut report);
    println!("filling the page cache");
    let filler = Filler::create(&folder)?;
    let mut run = Run {
        options,
        brokers: &brokers,
        filler: &filler,
        report: &mut report,
    };
    let dlog = run.start(Kind::Dlog)?;
    let kafka = run.start(Kind::Kafka)?;
    let running = [dlog, kafka];
    run.wholes(&running, "start-up, ms", |broker| {
        Ok(broker.start_up.as_secs_f64() * 1e3)
    })?;
    thread::sleep(IDLE);
    run.wholes(&running, "memory when idle, MiB", |broker| {
        machine::resident_mib(broker.pid())
    })?;
    for broker in &running {
        println!("warming up {:?}", broker.kind);
        load::warm_up(&brokers, broker, Duration::from_secs(options.seconds * 2))?;
    }
    for round in 0..options.rounds {
        println!("round {} of {}", round + 1, options.rounds);
        run.round(&running, round)?;
    }
    run.wholes(&running, "memory after the loads, MiB", |broker| {
        machine::resident_mib(broker.pid())
    })?;
    let [dlog, kafka] = running;
    if options.recovery_gib > 0 {
        run.recovery(dlog, kafka)?;
    } else {
        dlog.stop()?;
        kafka.stop()?;
    }
    report.write_json(&folder.join("report.json"))?;
    println!("\n{}", report.markdown()?);
    if options.write {
        report.write_docs(root)?;
    }
    Ok(())
}

/// What brokers do besides taking and giving records.
fn duties(root: &Path, folder: &Path, brokers: Brokers, options: &BenchOptions) -> Result<()> {
    let brokers = brokers.with(&duties::SETTINGS);
    println!("filling the page cache");
    let filler = Filler::create(folder)?;
    let running = [brokers.start(Kind::Dlog)?, brokers.start(Kind::Kafka)?];
    for broker in &running {
        println!("warming up {:?}", broker.kind);
        load::warm_up(&brokers, broker, Duration::from_secs(options.seconds * 2))?;
    }
    let (rounds, seconds) = (options.rounds, options.seconds);
    let mut figures = duties::run(&brokers, &running, &filler, options)?;
    if wants(&options.only, Duty::Effect) {
        let time = Duration::from_secs(seconds);
        figures.extend(compaction::effect(&brokers, &running, rounds, time)?);
    }
    if wants(&options.only, Duty::Offsets) {
        figures.push(offsets::loading(&brokers, running)?);
    } else {
        for broker in running {
            broker.stop()?;
        }
    }
    let about = [
        machine::describe(folder),
        format!(
            "dlog {} and Apache Kafka {} (1 GiB heap), default settings but `log.cleaner.backoff.ms=100`, side by side on the loopback address, {rounds} rounds of {seconds} s, medians",
            env!("CARGO_PKG_VERSION"),
            brokers.distribution.version,
        ),
    ];
    let markdown = report::duties_markdown(&about, &figures)?;
    println!("\n{markdown}");
    if options.write {
        report::write_duties(root, &markdown)?;
    }
    Ok(())
}

fn about(
    brokers: &Brokers,
    folder: &Path,
    options: &BenchOptions,
    baseline: f64,
    report: &mut Report,
) {
    report.about = vec![
        machine::describe(folder),
        format!(
            "dlog {} and Apache Kafka {} (1 GiB heap), both with default settings, side by side on the loopback address, {} rounds of {} s, medians",
            env!("CARGO_PKG_VERSION"),
            brokers.distribution.version,
            options.rounds,
            options.seconds
        ),
        "topics of 6 partitions; `fsync` is `dlog.flush=always` here and `flush.messages=1` there, `os` is `dlog.flush=os` here and the default there".to_owned(),
        format!("a bare blocking loop of `sendfile` over loopback, the baseline of fetches: {baseline:.2} CPU s/GiB"),
    ];
}

/// A run under way.
struct Run<'a> {
    options: &'a BenchOptions,
    brokers: &'a Brokers,
    filler: &'a Filler,
    report: &'a mut Report,
}

/// The loads that send as much as the broker takes, by name.
const THROUGHPUT: [(&str, Shape); 3] = [
    (
        "produce 100 B, batches of 16 KiB",
        Shape {
            record_bytes: 100,
            batch_records: 150,
        },
    ),
    (
        "produce 1 KiB, batches of 16 KiB",
        Shape {
            record_bytes: 1024,
            batch_records: 15,
        },
    ),
    (
        "produce 1 KiB, batches of 64 KiB",
        Shape {
            record_bytes: 1024,
            batch_records: 62,
        },
    ),
];

/// The loads at a fixed rate, by name, with records a second.
const FIXED_RATE: [(&str, Shape, u32); 2] = [
    (
        "produce 1 KiB at 2,000/s, one a batch",
        Shape {
            record_bytes: 1024,
            batch_records: 1,
        },
        2_000,
    ),
    (
        "produce 1 KiB at 20,000/s, 16 a batch",
        Shape {
            record_bytes: 1024,
            batch_records: 16,
        },
        20_000,
    ),
];

/// Records that the Java clients send and read in a run.
const JAVA_RECORDS: u64 = 1_000_000;

impl Run<'_> {
    fn start(&self, kind: Kind) -> Result<Broker> {
        self.brokers
            .start(kind)
            .with_context(|| format!("{kind:?} does not start"))
    }

    /// A figure of both brokers.
    fn wholes(
        &mut self,
        running: &[Broker; 2],
        name: &str,
        figure: impl Fn(&Broker) -> Result<f64>,
    ) -> Result<()> {
        let [dlog, kafka] = running;
        let whole = Whole {
            name: name.to_owned(),
            dlog: figure(dlog)?,
            kafka: figure(kafka)?,
        };
        println!("{name}: dlog {:.1}, Kafka {:.1}", whole.dlog, whole.kafka);
        self.report.whole.push(whole);
        Ok(())
    }

    /// Every load once against every variant; the order turns from round to round.
    fn round(&mut self, running: &[Broker; 2], round: u32) -> Result<()> {
        let time = Duration::from_secs(self.options.seconds);
        let brokers = self.brokers;
        for (name, shape) in THROUGHPUT {
            self.each(running, round, name, |broker, topic| {
                load::produce(brokers, broker, topic, shape, Pace::Most, time)
            })?;
        }
        for (name, shape, rate) in FIXED_RATE {
            self.each(running, round, name, |broker, topic| {
                load::produce(brokers, broker, topic, shape, Pace::Kept(rate), time)
            })?;
        }
        self.each(
            running,
            round,
            "end to end, 1 KiB at 500/s",
            |broker, topic| load::end_to_end(brokers, broker, topic, time),
        )?;
        if !self.options.no_java {
            for record_bytes in [100, 1024] {
                let name = format!("Java producer, {record_bytes} B");
                self.each(running, round, &name, |broker, topic| {
                    load::java_produce(brokers, broker, topic, record_bytes, JAVA_RECORDS)
                })?;
            }
        }
        for broker in running {
            self.fetches(broker)?;
        }
        Ok(())
    }

    fn each(
        &mut self,
        running: &[Broker; 2],
        round: u32,
        name: &str,
        load: impl Fn(&Broker, &str) -> Result<Sample>,
    ) -> Result<()> {
        for turn in 0..VARIANTS.len() {
            let (kind, durability) = VARIANTS[(turn + round as usize) % VARIANTS.len()];
            let broker = self.pick(running, kind);
            self.brokers.create_topic(broker, "load", durability)?;
            machine::settle()?;
            self.filler.fill_page_cache()?;
            let sample = load(broker, "load").with_context(|| format!("{name} on {kind:?}"))?;
            println!("  {name}, {kind:?} {durability:?}: {}", shown(&sample));
            self.report.add(name, (kind, durability), sample);
            self.brokers.delete_topic(broker, "load")?;
        }
        Ok(())
    }

    fn pick<'b>(&self, running: &'b [Broker; 2], kind: Kind) -> &'b Broker {
        let [dlog, kafka] = running;
        match kind {
            Kind::Dlog => dlog,
            Kind::Kafka => kafka,
        }
    }

    /// Reading what was written once: from the page cache, by two clients, then from the disk. How it
    /// was made durable makes no difference to reading.
    fn fetches(&mut self, broker: &Broker) -> Result<()> {
        let brokers = self.brokers;
        let variant = (broker.kind, Durability::Os);
        let shape = THROUGHPUT[1].1;
        brokers.create_topic(broker, "read", Durability::Os)?;
        let rate = u32::try_from(JAVA_RECORDS / 5)?;
        let time = Duration::from_secs(6);
        load::produce(brokers, broker, "read", shape, Pace::Kept(rate), time)?;
        machine::settle()?;
        let mut add = |name: &str, sample: Sample| {
            println!("  {name}, {:?}: {}", broker.kind, shown(&sample));
            self.report.add(name, variant, sample);
        };
        // The first reading is not counted: both are then equally hot.
        load::fetch(brokers, broker, "read")?;
        add("fetch 1 KiB, hot", load::fetch(brokers, broker, "read")?);
        if !self.options.no_java {
            let sample = load::java_fetch(brokers, broker, "read", 1024, JAVA_RECORDS)?;
            add("Java consumer, 1024 B, hot", sample);
        }
        match machine::drop_page_cache() {
            Ok(()) => add("fetch 1 KiB, cold", load::fetch(brokers, broker, "read")?),
            Err(error) => println!("  no cold fetch: {error:#}"),
        }
        brokers.delete_topic(broker, "read")?;
        self.filler.fill_page_cache()
    }

    /// SIGKILL in the middle of a load on a large log, and the time until the broker answers again.
    fn recovery(&mut self, dlog: Broker, kafka: Broker) -> Result<()> {
        let mut times = Vec::new();
        for broker in [dlog, kafka] {
            let kind = broker.kind;
            println!("recovery of {} GiB, {kind:?}", self.options.recovery_gib);
            self.brokers
                .create_topic(&broker, "large", Durability::Os)?;
            let goal = (self.options.recovery_gib << 30) as f64;
            let mut written = 0.0;
            while written < goal {
                // At a rate that both keep up with, so that the time tells the amount.
                let (rate, seconds) = (200_000, 5);
                let time = Duration::from_secs(seconds);
                let shape = THROUGHPUT[2].1;
                load::produce(
                    self.brokers,
                    &broker,
                    "large",
                    shape,
                    Pace::Kept(rate),
                    time,
                )?;
                written += f64::from(rate) * f64::from(shape.record_bytes) * seconds as f64;
            }
            broker.kill()?;
            let started = Instant::now();
            let again = self.start(kind)?;
            self.brokers.wait_until_served(&again, "large")?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
            let read = load::fetch(self.brokers, &again, "large")?;
            println!(
                "  ready after {:.0} ms; read again: {}",
                times[times.len() - 1],
                shown(&read)
            );
            again.kill()?;
        }
        if let [dlog, kafka] = times[..] {
            self.report.whole.push(Whole {
                name: format!(
                    "all partitions served after SIGKILL with {} GiB, ms",
                    self.options.recovery_gib
                ),
                dlog,
                kafka,
            });
        }
        Ok(())
    }
}

fn shown(sample: &Sample) -> String {
    let fields = [
        (sample.mb_per_s, "MB/s"),
        (sample.cpu_s_per_gib, "CPU s/GiB"),
        (sample.p50_us, "µs p50"),
        (sample.p99_us, "µs p99"),
    ];
    let shown = fields
        .iter()
        .filter_map(|(value, unit)| value.map(|value| format!("{value:.2} {unit}")));
    shown.collect::<Vec<_>>().join(", ")
}
