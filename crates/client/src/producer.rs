//! A producer: records gather into one batch per partition and go out when it is full, or at a flush.
//!
//! Invariants: a partition has one batch under way, so its records keep their order whatever is
//! retried; with idempotence each batch has its sequence number before it is sent the first time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dlog_storage::record::{BatchBuilder, Compression, Header};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProducerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::task::JoinSet;

use crate::cluster::Client;
use crate::error::{ClientError, Result};
use crate::partitioner::partition_for_key;

/// How a producer sends.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// 0: nobody answers; 1: the leader has it; -1: all in-sync replicas have it.
    pub acks: i16,
    /// Codec of batches.
    pub compression: Compression,
    /// Level of the codec; `None` is its default.
    pub compression_level: Option<i32>,
    /// A batch goes out when it has this many bytes.
    pub batch_bytes: usize,
    /// Whether retries are recognised by the broker (KIP-98).
    pub idempotent: bool,
    /// How long sending is tried.
    pub delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: -1,
            compression: Compression::None,
            compression_level: None,
            batch_bytes: 64 << 10,
            idempotent: true,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// A record to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: &'a [Header],
    /// Unix ms.
    pub timestamp_ms: i64,
    /// Partition; `None` lets the key decide, and without a key the producer.
    pub partition: Option<i32>,
}

/// A batch that the broker acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Partition.
    pub partition: i32,
    /// Offset of the first record; -1 with acks 0.
    pub base_offset: i64,
    /// Number of records.
    pub records: usize,
}

#[derive(Default)]
struct Gathering {
    builder: Option<BatchBuilder>,
    sending: bool,
    sequence: i32,
}

/// A producer to one topic.
pub struct Producer {
    client: Client,
    topic: String,
    partitions: i32,
    config: ProducerConfig,
    identity: Option<(i64, i16)>,
    gathering: HashMap<i32, Gathering>,
    under_way: JoinSet<Result<Delivered>>,
    delivered: Vec<Delivered>,
    /// Partition of records without a key, until its batch is full.
    sticky: i32,
}

impl Producer {
    /// A producer to a topic, which the broker may create.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn new(client: Client, topic: &str, config: ProducerConfig) -> Result<Self> {
        let started = Instant::now();
        let info = loop {
            match client.refresh(topic, true).await {
                Ok(info) => break info,
                // A topic that is being created has no leader yet.
                Err(error)
                    if error.is_retriable() && started.elapsed() < config.delivery_timeout =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        };
        let identity = if config.idempotent && config.acks == -1 {
            Some(identify(&client).await?)
        } else {
            None
        };
        let partitions = i32::try_from(info.partitions.len()).unwrap_or(i32::MAX);
        Ok(Self {
            client,
            topic: topic.to_owned(),
            partitions,
            config,
            identity,
            gathering: HashMap::new(),
            under_way: JoinSet::new(),
            delivered: Vec::new(),
            sticky: 0,
        })
    }

    /// Number of partitions of the topic.
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Adds a record; sends when its batch is full.
    ///
    /// # Errors
    /// What an earlier batch met, or a record that cannot be encoded.
    pub async fn send(&mut self, record: Outgoing<'_>) -> Result<()> {
        let partition = match (record.partition, record.key) {
            (Some(partition), _) if partition < 0 || partition >= self.partitions => {
                return Err(ClientError::Usage(format!(
                    "{} has partitions 0 to {}, not {partition}",
                    self.topic,
                    self.partitions - 1
                )));
            }
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, self.partitions),
            (None, None) => self.sticky,
        };
        let full = {
            let config = &self.config;
            let gathering = self.gathering.entry(partition).or_default();
            let builder = gathering.builder.get_or_insert_with(|| {
                BatchBuilder::new().compression(config.compression, config.compression_level)
            });
            builder
                .push(
                    record.timestamp_ms,
                    record.key,
                    record.value,
                    record.headers,
                )
                .map_err(|error| ClientError::Usage(error.to_string()))?;
            builder.estimated_bytes() >= config.batch_bytes
        };
        if full {
            if record.key.is_none() && record.partition.is_none() {
                self.sticky = (self.sticky + 1) % self.partitions.max(1);
            }
            while self.gathering.get(&partition).is_some_and(|g| g.sending) {
                self.settle_one().await?;
            }
            self.dispatch(partition)?;
        }
        self.settle_ready()
    }

    /// Sends everything and waits until it is acknowledged.
    ///
    /// # Errors
    /// The first batch that failed; the others are still waited for.
    pub async fn flush(&mut self) -> Result<()> {
        let mut first = Ok(());
        loop {
            let ready: Vec<i32> = self
                .gathering
                .iter()
                .filter(|(_, gathering)| !gathering.sending && gathering.builder.is_some())
                .map(|(partition, _)| *partition)
                .collect();
            for partition in ready {
                self.dispatch(partition)?;
            }
            if self.under_way.is_empty() {
                return first;
            }
            let settled = self.settle_one().await;
            first = first.and(settled);
        }
    }

    /// Takes the batches acknowledged since the last call.
    pub fn take_delivered(&mut self) -> Vec<Delivered> {
        std::mem::take(&mut self.delivered)
    }

    fn dispatch(&mut self, partition: i32) -> Result<()> {
        let Some(gathering) = self.gathering.get_mut(&partition) else {
            return Ok(());
        };
        let Some(mut builder) = gathering.builder.take() else {
            return Ok(());
        };
        let records = builder.len();
        if let Some((id, epoch)) = self.identity {
            builder = builder.producer(id, epoch, gathering.sequence);
            // Sequence numbers go from the largest to 0.
            gathering.sequence = dlog_storage::record::add_to_sequence(
                gathering.sequence,
                i32::try_from(records).unwrap_or(i32::MAX),
            );
        }
        let bytes = builder
            .build()
            .map_err(|error| ClientError::Usage(error.to_string()))?;
        gathering.sending = true;
        let batch = Sending {
            client: self.client.clone(),
            topic: self.topic.clone(),
            partition,
            bytes,
            records,
            acks: self.config.acks,
            until: Instant::now() + self.config.delivery_timeout,
        };
        self.under_way.spawn(batch.deliver());
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<()> {
        match self.under_way.join_next().await {
            Some(joined) => self.settle(joined),
            None => Ok(()),
        }
    }

    fn settle_ready(&mut self) -> Result<()> {
        while let Some(joined) = self.under_way.try_join_next() {
            self.settle(joined)?;
        }
        Ok(())
    }

    fn settle(&mut self, joined: Result<Result<Delivered>, tokio::task::JoinError>) -> Result<()> {
        let delivered = joined.map_err(|error| ClientError::Usage(error.to_string()))??;
        if let Some(gathering) = self.gathering.get_mut(&delivered.partition) {
            gathering.sending = false;
        }
        self.delivered.push(delivered);
        Ok(())
    }
}

async fn identify(client: &Client) -> Result<(i64, i16)> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let answer = client.call(&request, 4).await?;
    ClientError::check(answer.error_code, || "a producer id".to_owned(), None)?;
    Ok((answer.producer_id.0, answer.producer_epoch))
}

/// One batch on its way.
struct Sending {
    client: Client,
    topic: String,
    partition: i32,
    bytes: Bytes,
    records: usize,
    acks: i16,
    until: Instant,
}

impl Sending {
    async fn deliver(self) -> Result<Delivered> {
        let mut pause = Duration::from_millis(20);
        loop {
            match self.attempt().await {
                Err(error) if error.is_retriable() && Instant::now() + pause < self.until => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                    // The leader may have moved; if nobody answers, the next attempt says so.
                    let _ = self.client.refresh(&self.topic, false).await;
                }
                result => return result,
            }
        }
    }

    async fn attempt(&self) -> Result<Delivered> {
        let connection = self.client.leader(&self.topic, self.partition).await?;
        let partition = PartitionProduceData::default()
            .with_index(self.partition)
            .with_records(Some(self.bytes.clone()));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_string(self.topic.clone())))
            .with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(self.acks)
            .with_timeout_ms(i32::try_from(self.client.timeout().as_millis()).unwrap_or(i32::MAX))
            .with_topic_data(vec![topic]);
        let delivered = |base_offset| Delivered {
            partition: self.partition,
            base_offset,
            records: self.records,
        };
        if self.acks == 0 {
            connection.tell(&request, 12).await?;
            return Ok(delivered(-1));
        }
        // Names identify topics up to version 12.
        let answer = connection.call(&request, 12).await?;
        let slot = answer
            .responses
            .first()
            .and_then(|topic| topic.partition_responses.first());
        let Some(slot) = slot else {
            return Err(ClientError::Usage(
                "the broker's answer names no partition".to_owned(),
            ));
        };
        let what = || format!("produce to {}-{}", self.topic, self.partition);
        ClientError::check(slot.error_code, what, slot.error_message.as_deref())?;
        Ok(delivered(slot.base_offset))
    }
}
