//! `dlog bench`: what a broker takes, gives and how long it needs, measured from outside. Works
//! against any Kafka broker, so that two can be compared by the same client.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::{Args, Subcommand};
use dlog_client::{Client, Connection, Consumer, ConsumerConfig, Position};
use dlog_storage::record::{BatchBuilder, Compression};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::remote::{self, EXIT_CODES, RemoteArgs};

/// Options of `dlog bench`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct BenchArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Send ready-made batches and time their acknowledgements.
    Produce(LoadArgs),
    /// Fetch a topic from its beginning, without looking at the records.
    Fetch {
        /// Topic.
        topic: String,
        /// Consumers, each of all partitions.
        #[arg(long, default_value_t = 1)]
        consumers: u32,
        /// Stop after this many seconds.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// Send at a fixed rate and time until a consumer has each batch.
    E2e(LoadArgs),
}

#[derive(Args, Clone, Debug)]
struct LoadArgs {
    /// Topic; created when it is missing and the broker does that.
    topic: String,
    /// Bytes of a value.
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    /// Records in a batch.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch_records: u32,
    /// Records a second, over all connections; as many as possible without it. With a rate, latency
    /// counts from when a batch was due, so that a stall is not hidden (coordinated omission).
    #[arg(long)]
    rate: Option<u64>,
    /// Connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Requests that one connection has under way.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    /// 0, 1 or -1 (all).
    #[arg(long, default_value_t = -1, allow_hyphen_values = true, value_parser = clap::value_parser!(i16).range(-1..=1))]
    acks: i16,
    /// Codec: none, gzip, snappy, lz4 or zstd.
    #[arg(short = 'z', long, default_value = "none", value_parser = |text: &str| text.parse::<Compression>().map_err(|e| e.to_string()))]
    compression: Compression,
    /// Seconds to run.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

/// What a run measured.
#[derive(Debug, Serialize)]
struct Report {
    records: u64,
    bytes: u64,
    seconds: f64,
    records_per_s: f64,
    mb_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_us: Option<Latency>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

impl Report {
    fn new(
        records: u64,
        bytes: u64,
        elapsed: Duration,
        latencies: Option<&Histogram<u64>>,
    ) -> Self {
        let seconds = elapsed.as_secs_f64();
        Self {
            records,
            bytes,
            seconds,
            records_per_s: records as f64 / seconds,
            mb_per_s: bytes as f64 / 1e6 / seconds,
            latency_us: latencies.filter(|h| !h.is_empty()).map(|h| Latency {
                p50: h.value_at_quantile(0.5),
                p99: h.value_at_quantile(0.99),
                p99_9: h.value_at_quantile(0.999),
                max: h.max(),
            }),
        }
    }

    fn print(&self, remote: &RemoteArgs) -> Result<()> {
        if remote.json {
            return remote::print_json(self);
        }
        println!(
            "{} records in {:.1} s: {:.0} records/s, {:.1} MB/s",
            self.records, self.seconds, self.records_per_s, self.mb_per_s
        );
        if let Some(latency) = &self.latency_us {
            println!(
                "latency: p50 {} us, p99 {} us, p99.9 {} us, max {} us",
                latency.p50, latency.p99, latency.p99_9, latency.max
            );
        }
        Ok(())
    }
}

/// Runs `dlog bench`.
pub fn run(arguments: BenchArgs) -> Result<ExitCode> {
    let BenchArgs { remote, command } = arguments;
    remote::run(async move {
        match command {
            BenchCommand::Produce(load) => produce(&remote, load).await?.print(&remote),
            BenchCommand::Fetch {
                topic,
                consumers,
                seconds,
            } => fetch(&remote, &topic, consumers, Duration::from_secs(seconds))
                .await?
                .print(&remote),
            BenchCommand::E2e(load) => end_to_end(&remote, load).await?.print(&remote),
        }
    })
}

fn progress(seconds: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(seconds * 10);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Moves a progress bar while work goes on.
async fn watched<T>(seconds: u64, records: Arc<AtomicU64>, work: impl Future<Output = T>) -> T {
    let bar = progress(seconds);
    let ticking = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            bar.inc(1);
            bar.set_message(format!("{} records", records.load(Ordering::Relaxed)));
        }
    };
    tokio::select! {
        done = work => { bar.finish_and_clear(); done }
        () = ticking => unreachable!("the ticking never ends"),
    }
}

/// A histogram from 1 us to 1 min.
fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).context("a histogram")
}

fn batch(load: &LoadArgs) -> Result<Bytes> {
    // Bytes that compress neither to nothing nor not at all.
    let value: Vec<u8> = (0..load.record_bytes)
        .map(|i| b'a' + (i * i % 23) as u8)
        .collect();
    let mut builder = BatchBuilder::new().compression(load.compression, None);
    let now_ms = now_ms();
    for _ in 0..load.batch_records {
        builder.push(now_ms, None, Some(&value), &[])?;
    }
    Ok(builder.build()?)
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

fn request(topic: &str, partition: i32, batch: &Bytes, acks: i16) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_transactional_id(None)
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// One connection's share of the load.
struct Sender {
    connection: Arc<Connection>,
    topic: String,
    partitions: Vec<i32>,
    batch: Bytes,
    load: LoadArgs,
    /// Time between two batches of this connection, with a rate.
    interval: Option<Duration>,
    records: Arc<AtomicU64>,
    until: Instant,
}

impl Sender {
    async fn run(self) -> Result<Histogram<u64>> {
        let mut latencies = histogram()?;
        let mut under_way: JoinSet<Result<Duration>> = JoinSet::new();
        let began = Instant::now();
        for number in 0_u32.. {
            let due = self.interval.map(|interval| began + interval * number);
            if let Some(due) = due {
                tokio::time::sleep_until(due).await;
            }
            if Instant::now() >= self.until {
                break;
            }
            while under_way.len() >= self.load.in_flight as usize {
                self.settle(&mut under_way, &mut latencies).await?;
            }
            let partition = self.partitions[number as usize % self.partitions.len()];
            let request = request(&self.topic, partition, &self.batch, self.load.acks);
            let connection = self.connection.clone();
            let started = due.unwrap_or_else(Instant::now);
            if self.load.acks == 0 {
                connection.tell(&request, 12).await?;
                self.records
                    .fetch_add(u64::from(self.load.batch_records), Ordering::Relaxed);
                continue;
            }
            under_way.spawn(async move {
                let answer = connection.call(&request, 12).await?;
                let slot = answer
                    .responses
                    .first()
                    .and_then(|topic| topic.partition_responses.first());
                let slot = slot.context("the answer names no partition")?;
                anyhow::ensure!(
                    slot.error_code == 0,
                    "the broker refused with error {}",
                    slot.error_code
                );
                Ok(started.elapsed())
            });
        }
        while !under_way.is_empty() {
            self.settle(&mut under_way, &mut latencies).await?;
        }
        Ok(latencies)
    }

    async fn settle(
        &self,
        under_way: &mut JoinSet<Result<Duration>>,
        latencies: &mut Histogram<u64>,
    ) -> Result<()> {
        if let Some(done) = under_way.join_next().await {
            latencies.saturating_record(u64::try_from(done??.as_micros()).unwrap_or(u64::MAX));
            self.records
                .fetch_add(u64::from(self.load.batch_records), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The leaders of a topic's partitions; waits until each has one.
async fn partitions(client: &Client, topic: &str) -> Result<Vec<i32>> {
    loop {
        match client.refresh(topic, true).await {
            Ok(info)
                if info
                    .partitions
                    .iter()
                    .all(|partition| partition.leader >= 0) =>
            {
                return Ok(info
                    .partitions
                    .iter()
                    .map(|partition| partition.index)
                    .collect());
            }
            Err(error) if !error.is_retriable() => return Err(error.into()),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn produce(remote: &RemoteArgs, load: LoadArgs) -> Result<Report> {
    let client = remote.connect().await?;
    let partitions = partitions(&client, &load.topic).await?;
    let batch = batch(&load)?;
    let records = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let until = started + Duration::from_secs(load.seconds);
    let interval = load.rate.map(|rate| {
        let batches = rate as f64 / f64::from(load.batch_records) / f64::from(load.connections);
        Duration::from_secs_f64(1.0 / batches.max(1e-9))
    });
    let mut senders = JoinSet::new();
    for number in 0..load.connections {
        // A connection of its own, to the leader of the first of its partitions.
        let own: Vec<i32> = partitions
            .iter()
            .copied()
            .cycle()
            .skip(number as usize)
            .take(partitions.len())
            .collect();
        let leader = client.leader(&load.topic, own[0]).await?;
        let connection = Connection::open(leader.address(), "dlog-bench", client.timeout()).await?;
        let sender = Sender {
            connection: Arc::new(connection),
            topic: load.topic.clone(),
            partitions: own,
            batch: batch.clone(),
            load: load.clone(),
            interval,
            records: records.clone(),
            until,
        };
        senders.spawn(sender.run());
    }
    let mut latencies = histogram()?;
    let gathering = async {
        while let Some(done) = senders.join_next().await {
            latencies.add(done??)?;
        }
        anyhow::Ok(())
    };
    watched(load.seconds, records.clone(), gathering).await?;
    let sent = records.load(Ordering::Relaxed);
    Ok(Report::new(
        sent,
        sent * load.record_bytes as u64,
        started.elapsed(),
        Some(&latencies),
    ))
}

async fn fetch(
    remote: &RemoteArgs,
    topic: &str,
    consumers: u32,
    limit: Duration,
) -> Result<Report> {
    let records = Arc::new(AtomicU64::new(0));
    let bytes = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..consumers.max(1) {
        let client = remote.connect().await?;
        let config = ConsumerConfig {
            check_crcs: false,
            ..ConsumerConfig::default()
        };
        let mut consumer = Consumer::new(client, topic, &[], Position::Beginning, config).await?;
        let (records, bytes) = (records.clone(), bytes.clone());
        running.spawn(async move {
            while started.elapsed() < limit {
                let fetched = consumer.poll().await?;
                let batches = fetched.iter().flat_map(|fetched| &fetched.batches);
                let mut read = 0;
                for batch in batches {
                    read += batch.bytes().len();
                    records.fetch_add(
                        u64::try_from(batch.header().record_count).unwrap_or(0),
                        Ordering::Relaxed,
                    );
                }
                bytes.fetch_add(read as u64, Ordering::Relaxed);
                // Everything that was there is read.
                if read == 0 {
                    break;
                }
            }
            anyhow::Ok(Instant::now())
        });
    }
    let gathering = async {
        while let Some(done) = running.join_next().await {
            done??;
        }
        anyhow::Ok(())
    };
    watched(limit.as_secs(), records.clone(), gathering).await?;
    let (records, bytes) = (
        records.load(Ordering::Relaxed),
        bytes.load(Ordering::Relaxed),
    );
    // The last poll of each consumer waited for records that did not come.
    let elapsed = started
        .elapsed()
        .saturating_sub(ConsumerConfig::default().max_wait);
    Ok(Report::new(
        records,
        bytes,
        elapsed.max(Duration::from_millis(1)),
        None,
    ))
}

async fn end_to_end(remote: &RemoteArgs, load: LoadArgs) -> Result<Report> {
    let client = remote.connect().await?;
    partitions(&client, &load.topic).await?;
    let config = ConsumerConfig {
        check_crcs: false,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(
        remote.connect().await?,
        &load.topic,
        &[],
        Position::End,
        config,
    )
    .await?;
    let records = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let until = started + Duration::from_secs(load.seconds);
    let rate = load.rate.unwrap_or(1_000);
    let interval = Duration::from_secs_f64(f64::from(load.batch_records) / rate as f64);
    let mut producer = dlog_client::Producer::new(
        client,
        &load.topic,
        dlog_client::ProducerConfig {
            acks: load.acks,
            compression: load.compression,
            ..Default::default()
        },
    )
    .await?;
    let sending = async {
        let value = vec![b'x'; load.record_bytes];
        for number in 0_u32.. {
            let due = started + interval * number;
            tokio::time::sleep_until(due).await;
            if due >= until {
                break;
            }
            // The key says when the batch was due, in us since the start.
            let key = u64::try_from((due - started).as_micros())
                .unwrap_or(u64::MAX)
                .to_be_bytes();
            for _ in 0..load.batch_records {
                let partition = Some(i32::try_from(number).unwrap_or(0) % producer.partitions());
                let record = dlog_client::Outgoing {
                    key: Some(&key),
                    value: Some(&value),
                    timestamp_ms: now_ms(),
                    partition,
                    ..Default::default()
                };
                producer.send(record).await?;
            }
            producer.flush().await?;
            records.fetch_add(u64::from(load.batch_records), Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    let mut latencies = histogram()?;
    let receiving = async {
        loop {
            for fetched in consumer.poll().await? {
                for record in fetched.records(&load.topic)? {
                    let due = record
                        .key
                        .as_deref()
                        .and_then(|key| key.try_into().ok())
                        .map(u64::from_be_bytes);
                    let now = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                    if let Some(due) = due {
                        latencies.saturating_record(now.saturating_sub(due).max(1));
                    }
                }
            }
        }
        #[allow(unreachable_code)]
        anyhow::Ok(())
    };
    let both = async {
        tokio::select! {
            sent = sending => sent,
            received = receiving => received,
        }
    };
    watched(load.seconds, records.clone(), both).await?;
    let sent = records.load(Ordering::Relaxed);
    Ok(Report::new(
        sent,
        sent * load.record_bytes as u64,
        started.elapsed(),
        Some(&latencies),
    ))
}
