//! A producer: records gather into one batch per partition and go out when it is full, or at a flush.
//!
//! Invariants: a partition has one batch under way, so its records keep their order whatever is
//! retried; with idempotence each batch has its sequence number before it is sent the first time. While
//! a batch is under way the next one grows, so that a slow broker gets larger batches, not more of them.
//! Memory is bounded by [`ProducerConfig::buffer_bytes`] and one record.

mod sending;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dlog_storage::record::{BatchBuilder, Compression, Header};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};
use tokio::task::{JoinError, JoinSet};

use crate::cluster::Client;
use crate::error::{ClientError, Result};
use crate::partitioner::partition_for_key;
use sending::{Identity, Outcome, Sending};

/// How long a topic that the brokers do not know may take to be created by them.
const CREATION_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that a record takes in a batch besides its key, value and headers, at most.
const RECORD_OVERHEAD_BYTES: usize = 40;

/// How a producer sends.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// 0: nobody answers; 1: the leader has it; -1: all in-sync replicas have it.
    pub acks: i16,
    /// Codec of batches.
    pub compression: Compression,
    /// Level of the codec; `None` is its default.
    pub compression_level: Option<i32>,
    /// A batch goes out when it has this many bytes, before compression, and none is under way.
    pub batch_bytes: usize,
    /// A batch grows to this many bytes, before compression, while another is under way. A single
    /// record may be larger.
    pub max_batch_bytes: usize,
    /// Bytes of all batches that are gathered or under way.
    pub buffer_bytes: usize,
    /// Whether retries are recognised by the broker (KIP-98); needs acks -1.
    pub idempotent: bool,
    /// How long sending a batch is tried.
    pub delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: -1,
            compression: Compression::None,
            compression_level: None,
            batch_bytes: 64 << 10,
            max_batch_bytes: 512 << 10,
            buffer_bytes: 64 << 20,
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

impl Outgoing<'_> {
    fn bytes(&self) -> usize {
        let optional = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = self.headers.iter();
        let headers =
            headers.map(|header| header.key.len() + optional(header.value.as_deref()) + 10);
        optional(self.key) + optional(self.value) + headers.sum::<usize>() + RECORD_OVERHEAD_BYTES
    }
}

/// A batch that the broker acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Partition.
    pub partition: i32,
    /// Offset of the first record; -1 when the broker did not say it (acks 0, or a retry that it had).
    pub base_offset: i64,
    /// Number of records.
    pub records: usize,
}

#[derive(Default)]
struct Gathering {
    builder: Option<BatchBuilder>,
    sending: bool,
    /// With idempotence: who the broker thinks we are; `None` when a new identity is needed.
    identity: Option<Identity>,
}

/// A producer to one topic.
pub struct Producer {
    client: Client,
    topic: String,
    partitions: i32,
    config: ProducerConfig,
    /// What each partition begins with.
    identity: Option<Identity>,
    gathering: HashMap<i32, Gathering>,
    under_way: JoinSet<Outcome>,
    /// Bytes gathered or under way.
    buffered: usize,
    delivered: Vec<Delivered>,
    failed_records: u64,
    /// The first failure that no caller has seen yet.
    failure: Option<ClientError>,
    /// Partition of records without a key, until its batch is full.
    sticky: i32,
}

impl Producer {
    /// A producer to a topic, which the broker may create.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn new(client: Client, topic: &str, config: ProducerConfig) -> Result<Self> {
        let partitions = client.await_topic(topic, true, CREATION_PATIENCE).await?;
        let partitions = i32::try_from(partitions.partitions.len()).unwrap_or(i32::MAX);
        let identity = if config.idempotent && config.acks == -1 {
            Some(identify(&client, Instant::now() + client.timeout()).await?)
        } else {
            None
        };
        Ok(Self {
            client,
            topic: topic.to_owned(),
            partitions,
            config,
            identity,
            gathering: HashMap::new(),
            under_way: JoinSet::new(),
            buffered: 0,
            delivered: Vec::new(),
            failed_records: 0,
            failure: None,
            sticky: 0,
        })
    }

    /// Number of partitions of the topic.
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Adds a record; sends when its batch is full. Waits while too much is under way.
    ///
    /// # Errors
    /// What an earlier batch met, once, or a record that cannot be encoded; the record was not added.
    pub async fn send(&mut self, record: Outgoing<'_>) -> Result<()> {
        self.settle_ready();
        self.fail_once()?;
        let partition = self.partition_of(&record)?;
        let bytes = record.bytes();
        let gathered = |producer: &Self| {
            let gathering = producer.gathering.get(&partition);
            let builder = gathering.and_then(|gathering| gathering.builder.as_ref());
            builder.map_or(0, BatchBuilder::estimated_bytes)
        };
        // A batch that the record does not fit into goes first.
        while gathered(self) > 0 && gathered(self) + bytes > self.config.max_batch_bytes {
            self.dispatch(partition)?;
            if gathered(self) > 0 {
                self.settle_one().await;
            }
        }
        while self.buffered > 0 && self.buffered + bytes > self.config.buffer_bytes {
            self.dispatch_all()?;
            if self.under_way.is_empty() {
                break;
            }
            self.settle_one().await;
        }
        self.fail_once()?;
        let full = self.add(partition, &record)?;
        if full {
            self.dispatch(partition)?;
            if record.key.is_none() && record.partition.is_none() {
                self.sticky = (self.sticky + 1) % self.partitions.max(1);
            }
        }
        Ok(())
    }

    fn partition_of(&self, record: &Outgoing<'_>) -> Result<i32> {
        match (record.partition, record.key) {
            (Some(partition), _) if partition < 0 || partition >= self.partitions => {
                Err(ClientError::Refused {
                    what: format!(
                        "{} has partitions 0 to {}, not {partition}",
                        self.topic,
                        self.partitions - 1
                    ),
                    code: ResponseError::UnknownTopicOrPartition.code(),
                    message: None,
                })
            }
            (Some(partition), _) => Ok(partition),
            (None, Some(key)) => Ok(partition_for_key(key, self.partitions)),
            (None, None) => Ok(self.sticky),
        }
    }

    /// Puts a record into its partition's batch; answers whether that is full.
    fn add(&mut self, partition: i32, record: &Outgoing<'_>) -> Result<bool> {
        let config = &self.config;
        let identity = self.identity;
        let gathering = self
            .gathering
            .entry(partition)
            .or_insert_with(|| Gathering {
                identity,
                ..Gathering::default()
            });
        let builder = gathering.builder.get_or_insert_with(|| {
            BatchBuilder::new().compression(config.compression, config.compression_level)
        });
        // An empty builder has no share in the sum.
        let before = if builder.is_empty() {
            0
        } else {
            builder.estimated_bytes()
        };
        builder
            .push(
                record.timestamp_ms,
                record.key,
                record.value,
                record.headers,
            )
            .map_err(|error| ClientError::Usage(error.to_string()))?;
        self.buffered += builder.estimated_bytes() - before;
        Ok(builder.estimated_bytes() >= config.batch_bytes)
    }

    /// Sends everything and waits until it is acknowledged. May be cancelled and called again.
    ///
    /// # Errors
    /// The first batch that failed; the others are still waited for.
    pub async fn flush(&mut self) -> Result<()> {
        loop {
            self.dispatch_all()?;
            if self.under_way.is_empty() {
                return self.fail_once();
            }
            self.settle_one().await;
        }
    }

    /// Takes the batches acknowledged since the last call.
    pub fn take_delivered(&mut self) -> Vec<Delivered> {
        std::mem::take(&mut self.delivered)
    }

    /// Records that were given up so far. With a failure of kind [`ClientError::Uncertain`] some of
    /// them may have been written.
    pub fn failed_records(&self) -> u64 {
        self.failed_records
    }

    fn fail_once(&mut self) -> Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn dispatch_all(&mut self) -> Result<()> {
        let ready: Vec<i32> = self
            .gathering
            .iter()
            .filter(|(_, gathering)| !gathering.sending && gathering.builder.is_some())
            .map(|(partition, _)| *partition)
            .collect();
        ready
            .into_iter()
            .try_for_each(|partition| self.dispatch(partition))
    }

    /// Sends a partition's batch, unless one is under way.
    fn dispatch(&mut self, partition: i32) -> Result<()> {
        let Some(gathering) = self.gathering.get_mut(&partition) else {
            return Ok(());
        };
        if gathering.sending {
            return Ok(());
        }
        let Some(mut builder) = gathering
            .builder
            .take()
            .filter(|builder| !builder.is_empty())
        else {
            return Ok(());
        };
        let (records, buffered) = (builder.len(), builder.estimated_bytes());
        if let Some(identity) = gathering.identity {
            builder = builder.producer(identity.id, identity.epoch, identity.sequence);
        }
        let batch = match builder.build() {
            Ok(batch) => batch,
            Err(error) => {
                self.buffered -= buffered;
                self.failed_records += records as u64;
                return Err(ClientError::Usage(error.to_string()));
            }
        };
        gathering.sending = true;
        let sending = Sending {
            client: self.client.clone(),
            topic: self.topic.clone(),
            partition,
            acks: self.config.acks,
            compression: (self.config.compression, self.config.compression_level),
            identity: gathering.identity,
            idempotent: self.identity.is_some(),
            until: Instant::now() + self.config.delivery_timeout,
        };
        self.under_way
            .spawn(sending.deliver(batch, records, buffered));
        Ok(())
    }

    async fn settle_one(&mut self) {
        if let Some(joined) = self.under_way.join_next().await {
            self.settle(joined);
        }
    }

    fn settle_ready(&mut self) {
        while let Some(joined) = self.under_way.try_join_next() {
            self.settle(joined);
        }
    }

    fn settle(&mut self, joined: Result<Outcome, JoinError>) {
        let outcome = match joined {
            Ok(outcome) => outcome,
            // A task ends so only when the runtime does. Nobody must wait for it.
            Err(error) => {
                for gathering in self.gathering.values_mut() {
                    gathering.sending = false;
                    gathering.identity = None;
                }
                let error = ClientError::Usage(error.to_string());
                self.failure.get_or_insert(error);
                return;
            }
        };
        self.buffered = self.buffered.saturating_sub(outcome.buffered);
        self.delivered.extend(outcome.delivered);
        if let Some((records, error)) = outcome.failed {
            self.failed_records += records as u64;
            self.failure.get_or_insert(error);
        }
        let Some(gathering) = self.gathering.get_mut(&outcome.partition) else {
            return;
        };
        gathering.sending = false;
        gathering.identity = outcome.identity;
        let waiting = gathering.builder.as_ref();
        if waiting.is_some_and(|builder| builder.estimated_bytes() >= self.config.batch_bytes)
            && let Err(error) = self.dispatch(outcome.partition)
        {
            self.failure.get_or_insert(error);
        }
    }
}

/// Asks for a new producer id.
async fn identify(client: &Client, until: Instant) -> Result<Identity> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    loop {
        let answer = client.call(&request, 4).await.and_then(|answer| {
            ClientError::check(answer.error_code, || "a producer id".to_owned(), None)?;
            Ok(answer)
        });
        match answer {
            Ok(answer) => {
                return Ok(Identity {
                    id: answer.producer_id.0,
                    epoch: answer.producer_epoch,
                    sequence: 0,
                });
            }
            // The coordinator may still be starting.
            Err(error) if error.is_retriable() && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
