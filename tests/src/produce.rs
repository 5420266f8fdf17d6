//! An idempotent producer that goes on through crashes of the server, and reading a partition back.

use std::collections::VecDeque;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use dlog_storage::record::{Batch, BatchBuilder};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::wire::Connection;

/// A topic's name as the protocol has it.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// Creates a topic with settings; one that exists is as good.
///
/// # Errors
/// The connection ended, or the server refused.
pub fn create_topic(
    connection: &mut Connection,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<()> {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string((*name).to_owned()))
            .with_value(Some(StrBytes::from_string((*value).to_owned())))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let response = connection.call(5, &request)?;
    let topic = response
        .topics
        .first()
        .context("an answer about the topic")?;
    match ResponseError::try_from_code(topic.error_code) {
        None | Some(ResponseError::TopicAlreadyExists) => Ok(()),
        Some(error) => bail!("{name}: {error}: {:?}", topic.error_message),
    }
}

/// Number of partitions of a topic.
///
/// # Errors
/// The connection ended, or there is no such topic.
pub fn partitions_of(connection: &mut Connection, topic: &str) -> Result<usize> {
    let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![wanted]))
        .with_allow_auto_topic_creation(false);
    let response = connection.call(9, &request)?;
    let topic = response
        .topics
        .first()
        .context("an answer about the topic")?;
    ensure!(topic.error_code == 0, "error {}", topic.error_code);
    Ok(topic.partitions.len())
}

/// A produce request with one batch.
pub fn produce_request(topic: &str, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_transactional_id(None);
    request
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// Base offset that a produce response gives its one batch.
///
/// # Errors
/// The server's error.
pub fn produced_at(response: &ProduceResponse) -> Result<i64, ProduceError> {
    let partition = response
        .responses
        .first()
        .and_then(|topic| topic.partition_responses.first());
    let partition = partition.ok_or(ProduceError(-1))?;
    if partition.error_code == 0 {
        Ok(partition.base_offset)
    } else {
        Err(ProduceError(partition.error_code))
    }
}

/// The error code of a produce response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceError(pub i16);

impl std::fmt::Display for ProduceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match ResponseError::try_from_code(self.0) {
            Some(error) => write!(f, "{error} ({})", self.0),
            None => write!(f, "error code {}", self.0),
        }
    }
}

impl std::error::Error for ProduceError {}

/// A batch of plain values, without idempotence.
///
/// # Errors
/// The records do not fit into a batch.
pub fn plain_batch(values: &[Vec<u8>]) -> Result<Bytes> {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push(1_700_000_000_000, None, Some(value), &[])?;
    }
    Ok(builder.build()?)
}

/// The value with a number: its name, and a length that varies with it.
pub fn value(partition: i32, number: u64) -> Vec<u8> {
    let filler = "x".repeat((number * 7919 % 1500) as usize);
    format!("{partition}/{number} {filler}").into_bytes()
}

/// One partition's side of an idempotent producer: a batch is sent, with the same sequence numbers,
/// until it is acknowledged.
#[derive(Debug)]
pub struct IdempotentProducer {
    topic: String,
    partition: i32,
    producer_id: i64,
    epoch: i16,
    next_sequence: i32,
    next_value: u64,
    connection: Option<Connection>,
    /// Values that were acknowledged, in order.
    pub acknowledged: Vec<Vec<u8>>,
    /// Offset of each acknowledged value, as the server told; -1 where it told none.
    pub offsets: Vec<i64>,
}

impl IdempotentProducer {
    /// A producer with its own producer id.
    ///
    /// # Errors
    /// The connection ended, or the server refused.
    pub fn new(address: SocketAddr, topic: &str, partition: i32) -> Result<Self> {
        let mut connection = Connection::open(address)?;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let response = connection.call(4, &request)?;
        ensure!(
            response.error_code == 0,
            "InitProducerId: error {}",
            response.error_code
        );
        Ok(Self {
            topic: topic.to_owned(),
            partition,
            producer_id: response.producer_id.0,
            epoch: response.producer_epoch,
            next_sequence: 0,
            next_value: 0,
            connection: Some(connection),
            acknowledged: Vec::new(),
            offsets: Vec::new(),
        })
    }

    /// Writes a batch of `count` values and returns once they are acknowledged. `address` gives where
    /// the server is now, or `None` when the test is to end.
    ///
    /// # Errors
    /// The server answered with an error that a retry does not mend.
    pub fn write(
        &mut self,
        count: usize,
        address: impl FnMut() -> Option<SocketAddr>,
    ) -> Result<()> {
        self.write_in_flight(&[count], address)
    }

    /// As [`Self::write`], with a batch of each size in flight at the same time.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_in_flight(
        &mut self,
        counts: &[usize],
        mut address: impl FnMut() -> Option<SocketAddr>,
    ) -> Result<()> {
        let mut pending = VecDeque::new();
        for count in counts {
            pending.push_back(self.next_batch(*count)?);
        }
        while !pending.is_empty() {
            let Some(address) = address() else {
                return Ok(());
            };
            match self.attempt(address, &mut pending) {
                Ok(None) => {}
                Ok(Some(error)) => match ResponseError::try_from_code(error.0) {
                    Some(retriable) if retriable.is_retriable() => self.connection = None,
                    _ => bail!("partition {}: {error}", self.partition),
                },
                // The server went away, or is not back yet.
                Err(_) => {
                    self.connection = None;
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        }
        Ok(())
    }

    fn next_batch(&mut self, count: usize) -> Result<Unacknowledged> {
        let values: Vec<Vec<u8>> = (0..count as u64)
            .map(|i| value(self.partition, self.next_value + i))
            .collect();
        let mut builder =
            BatchBuilder::new().producer(self.producer_id, self.epoch, self.next_sequence);
        for value in &values {
            builder.push(1_700_000_000_000, None, Some(value), &[])?;
        }
        self.next_value += count as u64;
        self.next_sequence += count as i32;
        let request = produce_request(&self.topic, self.partition, builder.build()?, -1);
        Ok(Unacknowledged { request, values })
    }

    /// Sends all that is pending, in order, and takes away what is acknowledged; the server's error
    /// about the first batch that was refused.
    fn attempt(
        &mut self,
        address: SocketAddr,
        pending: &mut VecDeque<Unacknowledged>,
    ) -> Result<Option<ProduceError>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(address)?,
        };
        let mut ids = Vec::new();
        for batch in pending.iter() {
            ids.push(connection.send(9, &batch.request)?);
        }
        for id in ids {
            let response = connection.receive::<ProduceRequest>(9, id)?;
            let base = match produced_at(&response) {
                Ok(base) => base,
                // An earlier attempt was written, but its answer got lost.
                Err(ProduceError(code)) if code == DUPLICATE => -1,
                // Those behind it are out of sequence now; the connection is of no more use.
                Err(error) => return Ok(Some(error)),
            };
            let Some(batch) = pending.pop_front() else {
                break;
            };
            let count = batch.values.len() as i64;
            self.offsets
                .extend((0..count).map(|i| if base < 0 { -1 } else { base + i }));
            self.acknowledged.extend(batch.values);
        }
        self.connection = Some(connection);
        Ok(None)
    }
}

/// The error code of a batch that the log has already.
const DUPLICATE: i16 = 46;

/// A batch that is sent until it is acknowledged.
#[derive(Debug)]
struct Unacknowledged {
    request: ProduceRequest,
    values: Vec<Vec<u8>>,
}

/// First offset and the offset behind the last record of a partition.
///
/// # Errors
/// The connection ended, or the server refused.
pub fn offsets_of(connection: &mut Connection, topic: &str, partition: i32) -> Result<(i64, i64)> {
    let mut ends = [0; 2];
    for (end, timestamp) in ends.iter_mut().zip([-2, -1]) {
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic]);
        let response = connection.call(6, &request)?;
        let partition = response
            .topics
            .first()
            .and_then(|topic| topic.partitions.first());
        let partition = partition.context("an answer about the partition")?;
        ensure!(
            partition.error_code == 0,
            "ListOffsets: error {}",
            partition.error_code
        );
        *end = partition.offset;
    }
    Ok((ends[0], ends[1]))
}

/// A fetch of one partition.
pub fn fetch_request(topic: &str, partition: i32, offset: i64, max_bytes: i32) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(max_bytes);
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(100)
        .with_min_bytes(1)
        .with_max_bytes(max_bytes)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// What a fetch of one partition found.
///
/// # Errors
/// The connection ended, or the server refused.
pub(crate) fn fetch(connection: &mut Connection, request: &FetchRequest) -> Result<PartitionData> {
    let response = connection.call(11, request)?;
    ensure!(
        response.error_code == 0,
        "fetch: error {}",
        response.error_code
    );
    let topic = response.responses.into_iter().next();
    let data = topic
        .and_then(|topic| topic.partitions.into_iter().next())
        .context("a partition")?;
    ensure!(data.error_code == 0, "fetch: error {}", data.error_code);
    Ok(data)
}

/// Every record of a partition: offset and value. Checksums are checked.
///
/// # Errors
/// The connection ended, the server refused, or the bytes are not sound batches without holes.
pub fn read_all(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
) -> Result<Vec<(i64, Vec<u8>)>> {
    let (mut next, end) = offsets_of(connection, topic, partition)?;
    let mut found = Vec::new();
    while next < end {
        let request = fetch_request(topic, partition, next, 4 << 20);
        let data = fetch(connection, &request).with_context(|| format!("at offset {next}"))?;
        let mut bytes = data.records.unwrap_or_default();
        let before = next;
        while let Some(batch) = Batch::split_first(&mut bytes)? {
            batch.verify_crc()?;
            for record in batch.records()? {
                let record = record?;
                if record.offset < next {
                    continue;
                }
                ensure!(
                    record.offset == next,
                    "a hole: {} where {next} was expected",
                    record.offset
                );
                next = record.offset + 1;
                found.push((
                    record.offset,
                    record.value.map(|value| value.to_vec()).unwrap_or_default(),
                ));
            }
        }
        ensure!(
            next > before,
            "no record at {before}, but the log ends at {end}"
        );
    }
    Ok(found)
}

/// Offset, key and value of a record.
pub type KeyedRecord = (i64, Bytes, Option<Bytes>);

/// Every record of a partition that may have holes, in order. Checksums are checked.
///
/// # Errors
/// The connection ended, the server refused, or the bytes are not sound batches of records with keys.
pub fn read_keyed(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
) -> Result<Vec<KeyedRecord>> {
    let (mut next, end) = offsets_of(connection, topic, partition)?;
    let mut found = Vec::new();
    while next < end {
        let request = fetch_request(topic, partition, next, 1 << 20);
        let data = fetch(connection, &request).with_context(|| format!("at offset {next}"))?;
        let mut bytes = data.records.unwrap_or_default();
        let before = next;
        while let Some(batch) = Batch::split_first(&mut bytes)? {
            batch.verify_crc()?;
            for record in batch.records()? {
                let record = record?;
                if record.offset >= before {
                    found.push((record.offset, record.key.context("a key")?, record.value));
                }
            }
            next = batch.header().next_offset();
        }
        ensure!(
            next > before,
            "nothing at {before}, but the log ends at {end}"
        );
    }
    ensure!(
        found.is_sorted_by_key(|(offset, ..)| *offset),
        "offsets descend"
    );
    Ok(found)
}
