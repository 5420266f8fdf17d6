//! What is sent: options, records, batches, and the connections that take them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use dlog_client::{Client, ClientError, Connection, Prepared};
use dlog_storage::record::{BatchBuilder, Compression};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::commands::remote::{now_ms, parse_acks, parse_compression};

/// How long a topic that does not exist may take to be created by the broker.
const CREATION_PATIENCE: Duration = Duration::from_secs(5);
/// Names identify topics in a produce up to this version.
pub(super) const PRODUCE_VERSION: i16 = 12;

#[derive(Args, Clone, Debug)]
pub(super) struct LoadArgs {
    /// Topic; created when it is missing and the broker does that.
    pub topic: String,
    /// Bytes of a value.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(..=64 << 20))]
    pub record_bytes: u32,
    /// Records in a batch.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch_records: u32,
    /// Records a second, over all connections; as many as possible without it (e2e: 1000). With a
    /// rate, latency counts from when a batch was due, so that a stall is not hidden (coordinated
    /// omission).
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Give records keys, so many different ones, drawn at random. Batches are then made one by one.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: Option<u64>,
    /// Connections; at least one for each broker that leads a partition.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Requests that one connection has under way.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub in_flight: u32,
    /// Who must have a batch before it is acknowledged: 0 nobody, 1 the leader, all.
    #[arg(long, default_value = "all", allow_hyphen_values = true, value_parser = parse_acks)]
    pub acks: i16,
    /// Codec: none, gzip, snappy, lz4 or zstd.
    #[arg(short = 'z', long, default_value = "none", value_parser = parse_compression)]
    pub compression: Compression,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub seconds: u64,
    /// Seconds of the same load before them, which do not count.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub warmup: u64,
}

impl LoadArgs {
    pub(super) fn length(&self) -> Duration {
        Duration::from_secs(self.warmup + self.seconds)
    }

    /// Batches a second for so many records a second.
    pub(super) fn batch_rate(&self, records: u64) -> f64 {
        records as f64 / f64::from(self.batch_records)
    }

    /// A batch; every record has this key.
    pub(super) fn batch(&self, key: Option<&[u8]>, values: &[Vec<u8>]) -> Result<Bytes> {
        let mut builder = BatchBuilder::new().compression(self.compression, None);
        let now_ms = now_ms();
        for value in values {
            builder.push(now_ms, key, Some(value), &[])?;
        }
        Ok(builder.build()?)
    }

    /// Batch `number` of a load with keys; the same keys in every run.
    pub(super) fn keyed_batch(&self, keys: u64, number: u64, values: &[Vec<u8>]) -> Result<Bytes> {
        let mut builder = BatchBuilder::new().compression(self.compression, None);
        let now_ms = now_ms();
        let first = number.wrapping_mul(values.len() as u64);
        for (place, value) in values.iter().enumerate() {
            let key = mixed(first.wrapping_add(place as u64)) % keys;
            builder.push(
                now_ms,
                Some(format!("{key:012}").as_bytes()),
                Some(value),
                &[],
            )?;
        }
        Ok(builder.build()?)
    }

    /// Values that compress to about half, as text does.
    pub(super) fn values(&self) -> Vec<Vec<u8>> {
        // Xorshift: the same values in every run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut letter = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b'a' + (state >> 33) as u8 % 16
        };
        let value = |_| (0..self.record_bytes).map(|_| letter()).collect();
        (0..self.batch_records).map(value).collect()
    }

    pub(super) fn request(&self, partition: i32, batch: Bytes) -> ProduceRequest {
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(batch));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_string(self.topic.clone())))
            .with_partition_data(vec![data]);
        ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(self.acks)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic])
    }
}

/// Spreads numbers evenly (the finaliser of splitmix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A connection and the partitions that its broker leads.
pub(super) struct Lane {
    pub connection: Arc<Connection>,
    pub partitions: Arc<Vec<i32>>,
}

/// Opens the connections of a load: each to the leader of the partitions that it takes.
pub(super) async fn lanes(client: &Client, load: &LoadArgs) -> Result<Vec<Lane>> {
    let topic = client
        .await_topic(&load.topic, true, CREATION_PATIENCE)
        .await?;
    let mut leaders: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for partition in &topic.partitions {
        let leader = client.leader(&load.topic, partition.index).await?;
        let led = leaders.entry(leader.address().to_owned()).or_default();
        led.push(partition.index);
    }
    let leaders: Vec<_> = leaders
        .into_iter()
        .map(|(address, led)| (address, Arc::new(led)))
        .collect();
    let count = (load.connections as usize).max(leaders.len());
    let mut lanes = Vec::with_capacity(count);
    for (address, partitions) in leaders.iter().cycle().take(count) {
        let connection = Connection::open(address, "dlog-bench", client.timeout()).await?;
        lanes.push(Lane {
            connection: Arc::new(connection),
            partitions: partitions.clone(),
        });
    }
    Ok(lanes)
}

/// Sends a batch and waits for its acknowledgement; for nothing with acks 0.
pub(super) async fn send(
    connection: &Connection,
    acks: i16,
    request: &Prepared<ProduceRequest>,
) -> Result<()> {
    if acks == 0 {
        connection.tell_prepared(request).await?;
        return Ok(());
    }
    let answer: ProduceResponse = connection.call_prepared(request).await?;
    let slot = answer
        .responses
        .first()
        .and_then(|topic| topic.partition_responses.first())
        .context("the answer names no partition")?;
    let what = || format!("produce to partition {}", slot.index);
    ClientError::check(slot.error_code, what, slot.error_message.as_deref())?;
    Ok(())
}
