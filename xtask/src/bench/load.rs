//! The loads: each is one command of a client against one broker, and gives one [`Sample`].

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::brokers::{Broker, Brokers, Durability, Kind};
use super::machine::cpu_seconds;

/// What one run of a load measured. What a load does not measure is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// Value bytes a second, in 10⁶.
    pub mb_per_s: Option<f64>,
    /// Records a second.
    pub records_per_s: Option<f64>,
    /// CPU seconds of the broker for each GiB.
    pub cpu_s_per_gib: Option<f64>,
    /// Median latency in µs.
    pub p50_us: Option<f64>,
    /// Latency that 1 of 100 exceeds, in µs.
    pub p99_us: Option<f64>,
    /// Latency that 1 of 1,000 exceeds, in µs.
    pub p99_9_us: Option<f64>,
}

/// The part of a fixed rate that counts as all of it.
const KEPT_UP: f64 = 0.95;

impl Sample {
    /// Where the client waits for the broker, latency only says how much it had under way.
    fn without_latency(self) -> Self {
        Self {
            p50_us: None,
            p99_us: None,
            p99_9_us: None,
            ..self
        }
    }

    /// Where the rate is given, it tells nothing.
    fn without_throughput(self) -> Self {
        Self {
            mb_per_s: None,
            records_per_s: None,
            ..self
        }
    }
}

/// What `dlog bench --json` prints.
#[derive(Deserialize)]
struct BenchOutput {
    bytes: u64,
    records_per_s: f64,
    mb_per_s: f64,
    latency_us: Option<Latency>,
}

#[derive(Deserialize)]
struct Latency {
    p50: f64,
    p99: f64,
    p99_9: f64,
}

/// The shape of what is sent.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of a value.
    pub record_bytes: u32,
    /// Records in a batch.
    pub batch_records: u32,
}

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As much as the broker takes, which tells its throughput.
    Most,
    /// So many records a second, which tells its latency; all must be taken.
    Kept(u32),
    /// The same, but a broker that does not keep up counts: its latency runs from when a record was due.
    Tried(u32),
}

/// Sends ready-made batches over four connections, at most five under way on each.
///
/// # Errors
/// When the command fails, or the broker does not keep up with [`Pace::Kept`].
pub fn produce(
    brokers: &Brokers,
    broker: &Broker,
    topic: &str,
    shape: Shape,
    pace: Pace,
    time: Duration,
) -> Result<Sample> {
    let (record, batch) = (
        shape.record_bytes.to_string(),
        shape.batch_records.to_string(),
    );
    let seconds = time.as_secs().max(1).to_string();
    let mut arguments = vec!["bench", "produce", topic, "--json", "--connections", "4"];
    arguments.extend(["--record-bytes", &record, "--batch-records", &batch]);
    arguments.extend(["--seconds", &seconds]);
    let (Pace::Kept(rate) | Pace::Tried(rate)) = pace else {
        let sample = measured(brokers, broker, &arguments)?;
        return Ok(sample.without_latency());
    };
    let wanted = rate.to_string();
    arguments.extend(["--rate", &wanted]);
    let sample = measured(brokers, broker, &arguments)?;
    let reached = sample.records_per_s.unwrap_or_default();
    if reached < f64::from(rate) * KEPT_UP {
        let missed = format!("{topic}: the broker took {reached:.0} records a second of {rate}");
        if matches!(pace, Pace::Kept(_)) {
            bail!(missed);
        }
        println!("    {missed}");
    }
    Ok(sample.without_throughput())
}

/// Reads a topic from its beginning to its end.
///
/// # Errors
/// When the command fails.
pub fn fetch(brokers: &Brokers, broker: &Broker, topic: &str) -> Result<Sample> {
    measured(brokers, broker, &["bench", "fetch", topic, "--json"])
}

/// Sends at a fixed rate while a consumer waits for each batch.
///
/// # Errors
/// When the command fails.
pub fn end_to_end(
    brokers: &Brokers,
    broker: &Broker,
    topic: &str,
    time: Duration,
) -> Result<Sample> {
    let seconds = time.as_secs().max(1).to_string();
    let mut arguments = vec!["bench", "e2e", topic, "--json", "--seconds", &seconds];
    arguments.extend([
        "--record-bytes",
        "1024",
        "--batch-records",
        "1",
        "--rate",
        "500",
    ]);
    measured(brokers, broker, &arguments)
}

fn measured(brokers: &Brokers, broker: &Broker, arguments: &[&str]) -> Result<Sample> {
    let before = cpu_seconds(broker.pid())?;
    let output = brokers.dlog(broker, arguments)?;
    let cpu = cpu_seconds(broker.pid())? - before;
    let output: BenchOutput = serde_json::from_str(&output)
        .with_context(|| format!("dlog {} printed {output}", arguments.join(" ")))?;
    let latency = output.latency_us;
    Ok(Sample {
        mb_per_s: Some(output.mb_per_s),
        records_per_s: Some(output.records_per_s),
        cpu_s_per_gib: Some(per_gib(cpu, output.bytes as f64)),
        p50_us: latency.as_ref().map(|l| l.p50),
        p99_us: latency.as_ref().map(|l| l.p99),
        p99_9_us: latency.as_ref().map(|l| l.p99_9),
    })
}

fn per_gib(cpu: f64, bytes: f64) -> f64 {
    cpu / (bytes / f64::from(1 << 30)).max(1e-9)
}

/// Kafka's own `ProducerPerformance` with the Java client's defaults (`acks=all`, idempotent).
///
/// # Errors
/// When it fails, or prints something else than a summary.
pub fn java_produce(
    brokers: &Brokers,
    broker: &Broker,
    topic: &str,
    record_bytes: u32,
    records: u64,
) -> Result<Sample> {
    let before = cpu_seconds(broker.pid())?;
    let output = java(
        brokers,
        "org.apache.kafka.tools.ProducerPerformance",
        &[
            "--topic",
            topic,
            "--num-records",
            &records.to_string(),
            "--record-size",
            &record_bytes.to_string(),
            "--throughput",
            "-1",
            "--producer-props",
            &format!("bootstrap.servers={}", broker.address),
        ],
    )?;
    let cpu = cpu_seconds(broker.pid())? - before;
    // "N records sent, R records/sec (M MB/sec), … ms avg latency, …", the last of them for all.
    let line = output
        .lines()
        .rfind(|line| line.contains("records/sec") && line.contains("99th"))
        .with_context(|| format!("ProducerPerformance printed {output}"))?;
    let rate: f64 = line
        .split(", ")
        .find_map(|field| field.split_once(" records/sec"))
        .and_then(|(rate, _)| rate.trim().parse().ok())
        .with_context(|| format!("no rate in {line}"))?;
    Ok(at_rate(rate, cpu, record_bytes, records))
}

/// Kafka's own `ConsumerPerformance` with the Java client's defaults.
///
/// # Errors
/// When it fails, or prints something else than its table.
pub fn java_fetch(
    brokers: &Brokers,
    broker: &Broker,
    topic: &str,
    record_bytes: u32,
    records: u64,
) -> Result<Sample> {
    let before = cpu_seconds(broker.pid())?;
    let output = java(
        brokers,
        "org.apache.kafka.tools.ConsumerPerformance",
        &[
            "--topic",
            topic,
            "--num-records",
            &records.to_string(),
            "--bootstrap-server",
            &broker.address,
            "--timeout",
            "60000",
        ],
    )?;
    let cpu = cpu_seconds(broker.pid())? - before;
    // The last two columns are the fetch's MB/s and records/s, without joining the group.
    let fields: Vec<f64> = output
        .lines()
        .filter(|line| line.matches(',').count() >= 9)
        .filter_map(|line| {
            let numbers = line
                .split(',')
                .filter_map(|field| field.trim().parse().ok());
            Some(numbers.collect::<Vec<f64>>()).filter(|numbers| numbers.len() >= 8)
        })
        .next_back()
        .with_context(|| format!("ConsumerPerformance printed {output}"))?;
    let rate = fields[fields.len() - 1];
    Ok(at_rate(rate, cpu, record_bytes, records))
}

/// What a Java client measured: its rate, and what that took the broker.
fn at_rate(rate: f64, cpu: f64, record_bytes: u32, records: u64) -> Sample {
    let record_bytes = f64::from(record_bytes);
    Sample {
        mb_per_s: Some(rate * record_bytes / 1e6),
        records_per_s: Some(rate),
        cpu_s_per_gib: Some(per_gib(cpu, records as f64 * record_bytes)),
        ..Sample::default()
    }
}

fn java(brokers: &Brokers, class: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new("java")
        .args(["-Xms256m", "-Xmx512m"])
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
        .args(["-cp", &brokers.distribution.class_path, class])
        .args(arguments)
        .output()
        .context("cannot start java")?;
    if !output.status.success() {
        bail!(
            "{class} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Warms a broker up: Kafka's virtual machine compiles what it runs often.
///
/// # Errors
/// When a load fails.
pub fn warm_up(brokers: &Brokers, broker: &Broker, time: Duration) -> Result<()> {
    let shape = Shape {
        record_bytes: 1024,
        batch_records: 15,
    };
    for durability in [Durability::Os, Durability::Fsync] {
        brokers.create_topic(broker, "warm-up", durability)?;
        produce(brokers, broker, "warm-up", shape, Pace::Most, time)?;
        fetch(brokers, broker, "warm-up")?;
        brokers.delete_topic(broker, "warm-up")?;
    }
    if broker.kind == Kind::Kafka {
        brokers.create_topic(broker, "warm-up", Durability::Os)?;
        end_to_end(brokers, broker, "warm-up", time)?;
        brokers.delete_topic(broker, "warm-up")?;
    }
    Ok(())
}
