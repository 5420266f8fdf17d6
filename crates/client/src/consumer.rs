//! A consumer of partitions that its owner names: fetches from their leaders, one request a broker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dlog_storage::record::{Batch, Record};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::Client;
use crate::connection::Connection;
use crate::error::{ClientError, Result};

/// Partitions with their next offsets, and the connection to their leader.
type Share = (Arc<Connection>, Vec<(i32, i64)>);

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record there is.
    Beginning,
    /// Behind the last record there is.
    End,
    /// This offset.
    Offset(i64),
    /// The first record at least this young, Unix ms; the end when there is none.
    Timestamp(i64),
}

/// How a consumer fetches.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Most bytes of one answer.
    pub max_bytes: i32,
    /// How long a broker waits for records.
    pub max_wait: Duration,
    /// Whether checksums are verified.
    pub check_crcs: bool,
    /// Whether only committed transactions are shown.
    pub committed_only: bool,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            max_bytes: 50 << 20,
            max_wait: Duration::from_millis(500),
            check_crcs: true,
            committed_only: false,
        }
    }
}

/// Records fetched from one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Partition.
    pub partition: i32,
    /// Offset behind the last record that can be read now.
    pub high_watermark: i64,
    /// Whole batches; the first may begin before the offset asked for.
    pub batches: Vec<Batch>,
    from: i64,
}

impl Fetched {
    /// The records from the offset asked for on.
    ///
    /// # Errors
    /// A batch that cannot be read.
    pub fn records(&self, topic: &str) -> Result<Vec<Record>> {
        let wrong = |source| ClientError::Record {
            topic: topic.to_owned(),
            partition: self.partition,
            offset: self.from,
            source,
        };
        let mut records = Vec::new();
        for batch in self
            .batches
            .iter()
            .filter(|batch| !batch.header().is_control())
        {
            for record in batch.records().map_err(wrong)? {
                let record = record.map_err(wrong)?;
                if record.offset >= self.from {
                    records.push(record);
                }
            }
        }
        Ok(records)
    }
}

/// A consumer of partitions of one topic.
pub struct Consumer {
    client: Client,
    topic: String,
    config: ConsumerConfig,
    /// Next offset by partition.
    next: HashMap<i32, i64>,
}

impl Consumer {
    /// A consumer of `partitions` (empty: all) from `position` on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn new(
        client: Client,
        topic: &str,
        partitions: &[i32],
        position: Position,
        config: ConsumerConfig,
    ) -> Result<Self> {
        let info = client.refresh(topic, false).await?;
        let all: Vec<i32> = info
            .partitions
            .iter()
            .map(|partition| partition.index)
            .collect();
        if let Some(missing) = partitions.iter().find(|partition| !all.contains(partition)) {
            return Err(ClientError::Usage(format!(
                "{topic} has {} partitions, no {missing}",
                all.len()
            )));
        }
        let wanted = if partitions.is_empty() {
            all
        } else {
            partitions.to_vec()
        };
        let mut consumer = Self {
            client,
            topic: topic.to_owned(),
            config,
            next: HashMap::new(),
        };
        for partition in wanted {
            let offset = match position {
                Position::Offset(offset) => offset,
                _ => consumer.find(partition, position).await?,
            };
            consumer.next.insert(partition, offset);
        }
        Ok(consumer)
    }

    /// Next offset of each partition.
    pub fn positions(&self) -> impl Iterator<Item = (i32, i64)> {
        self.next
            .iter()
            .map(|(partition, offset)| (*partition, *offset))
    }

    /// Stops reading a partition.
    pub fn drop_partition(&mut self, partition: i32) {
        self.next.remove(&partition);
    }

    /// The offset that a position means now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn find(&self, partition: i32, position: Position) -> Result<i64> {
        let timestamp = match position {
            Position::Offset(offset) => return Ok(offset),
            Position::Beginning => -2,
            Position::End => -1,
            Position::Timestamp(ms) => ms,
        };
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(self.topic_name())
            .with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic]);
        let connection = self.client.leader(&self.topic, partition).await?;
        let answer = connection.call(&request, 7).await?;
        let slot = answer
            .topics
            .first()
            .and_then(|topic| topic.partitions.first());
        let Some(slot) = slot else {
            return Err(ClientError::Usage(
                "the broker's answer names no partition".to_owned(),
            ));
        };
        ClientError::check(
            slot.error_code,
            || format!("offsets of {}-{partition}", self.topic),
            None,
        )?;
        if slot.offset < 0 {
            // No record is that young.
            return Box::pin(self.find(partition, Position::End)).await;
        }
        Ok(slot.offset)
    }

    fn topic_name(&self) -> TopicName {
        TopicName(StrBytes::from_string(self.topic.clone()))
    }

    /// Fetches once from every leader; waits at most the configured time for records.
    ///
    /// # Errors
    /// [`ClientError`]; retriable ones may be tried again, positions are as before.
    pub async fn poll(&mut self) -> Result<Vec<Fetched>> {
        let mut by_leader: HashMap<String, Share> = HashMap::new();
        for (&partition, &offset) in &self.next {
            let connection = self.client.leader(&self.topic, partition).await?;
            let entry = by_leader
                .entry(connection.address().to_owned())
                .or_insert_with(|| (connection, Vec::new()));
            entry.1.push((partition, offset));
        }
        let mut all = Vec::new();
        for (connection, partitions) in by_leader.into_values() {
            let answer = self.fetch(&connection, &partitions).await;
            match answer {
                Ok(fetched) => all.extend(fetched),
                Err(error) => {
                    // The leader may have moved.
                    let _ = self.client.refresh(&self.topic, false).await;
                    return Err(error);
                }
            }
        }
        for fetched in &all {
            if let Some(last) = fetched.batches.last() {
                self.next
                    .insert(fetched.partition, last.header().next_offset());
            }
        }
        Ok(all)
    }

    async fn fetch(
        &self,
        connection: &Connection,
        partitions: &[(i32, i64)],
    ) -> Result<Vec<Fetched>> {
        let asked = partitions.iter().map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(self.config.max_bytes)
        });
        let topic = FetchTopic::default()
            .with_topic(self.topic_name())
            .with_partitions(asked.collect());
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(i32::try_from(self.config.max_wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(self.config.max_bytes)
            .with_isolation_level(i8::from(self.config.committed_only))
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        // Names identify topics up to version 12.
        let patience = self.client.timeout() + self.config.max_wait;
        let answer = connection.call_within(&request, 12, patience).await?;
        ClientError::check(
            answer.error_code,
            || format!("fetch from {}", self.topic),
            None,
        )?;
        let slots = answer
            .responses
            .into_iter()
            .flat_map(|topic| topic.partitions);
        slots.map(|slot| self.fetched(slot, partitions)).collect()
    }

    fn fetched(&self, slot: PartitionData, asked: &[(i32, i64)]) -> Result<Fetched> {
        let partition = slot.partition_index;
        let from = asked
            .iter()
            .find(|(index, _)| *index == partition)
            .map_or(0, |(_, offset)| *offset);
        let what = || format!("fetch from {}-{partition} at offset {from}", self.topic);
        let hint = (slot.error_code == ResponseError::OffsetOutOfRange.code()).then_some(
            "the records there were deleted, or never written; start from beginning or end",
        );
        ClientError::check(slot.error_code, what, hint)?;
        let mut bytes: Bytes = slot.records.unwrap_or_default();
        let wrong = |source| ClientError::Record {
            topic: self.topic.clone(),
            partition,
            offset: from,
            source,
        };
        let mut batches = Vec::new();
        while let Some(batch) = Batch::split_first(&mut bytes).map_err(wrong)? {
            if self.config.check_crcs {
                batch.verify_crc().map_err(wrong)?;
            }
            batches.push(batch);
        }
        Ok(Fetched {
            partition,
            high_watermark: slot.high_watermark,
            batches,
            from,
        })
    }
}
