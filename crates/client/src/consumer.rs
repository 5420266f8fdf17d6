//! A consumer of partitions that its owner names: fetches from their leaders, one request a broker.
//!
//! Invariants: a position moves forward only, over whole batches; what a broker sends for a partition
//! that was not asked for is not looked at; memory is bounded by [`ConsumerConfig::max_bytes`] for each
//! leader, and by one batch, decompressed.

mod aborted;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dlog_storage::record::{Batch, Record};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::task::JoinSet;

use crate::cluster::{AGAIN_AFTER, Client};
use crate::connection::Connection;
use crate::error::{ClientError, Result};

/// Offset by partition.
type Offsets = BTreeMap<i32, i64>;
/// The connection to a leader, and what is asked of it, by its address.
type Shares<T> = HashMap<String, (Arc<Connection>, Vec<T>)>;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record there is.
    Beginning,
    /// Behind the last record there is.
    End,
    /// This offset.
    Offset(i64),
    /// So many offsets before the end, or the beginning.
    Last(i64),
    /// The first record at least this young, Unix ms; the end when there is none.
    Timestamp(i64),
}

/// How a consumer fetches.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Most bytes of one answer.
    pub max_bytes: i32,
    /// Most bytes of one partition in an answer, so that partitions are read side by side.
    pub partition_max_bytes: i32,
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
            max_bytes: 32 << 20,
            partition_max_bytes: 4 << 20,
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
    next: i64,
}

impl Fetched {
    /// Offset that the next fetch begins at.
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// The records from the offset asked for on, decoded as they are asked for.
    ///
    /// # Errors
    /// Items: a batch that cannot be read; it is the last item.
    pub fn records(&self, topic: &str) -> impl Iterator<Item = Result<Record>> {
        let wrong = |source, offset| ClientError::Record {
            topic: topic.to_owned(),
            partition: self.partition,
            offset,
            source,
        };
        let batches = self.batches.iter();
        let mut failed = false;
        batches
            .filter(|batch| !batch.header().is_control())
            .flat_map(move |batch| {
                let offset = batch.header().base_offset;
                let (records, error) = match batch.records() {
                    Ok(records) => (Some(records), None),
                    Err(error) => (None, Some(Err(wrong(error, offset)))),
                };
                let records = records.into_iter().flatten();
                records
                    .map(move |record| record.map_err(|error| wrong(error, offset)))
                    .chain(error)
            })
            .filter(|record| {
                let before = |record: &Record| record.offset < self.from;
                !record.as_ref().is_ok_and(before)
            })
            .take_while(move |record| !std::mem::replace(&mut failed, record.is_err()))
    }
}

/// A consumer of partitions of one topic.
pub struct Consumer {
    client: Client,
    topic: String,
    config: ConsumerConfig,
    next: Offsets,
    /// Partition that the next fetch names first, so that none is always last.
    first: i32,
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
        // A topic that was created a moment ago may have no leaders yet.
        let info = client.await_topic(topic, false, Duration::ZERO).await?;
        let all: Vec<i32> = info
            .partitions
            .iter()
            .map(|partition| partition.index)
            .collect();
        if let Some(missing) = partitions.iter().find(|partition| !all.contains(partition)) {
            return Err(ClientError::Refused {
                what: format!("{topic} has {} partitions, no {missing}", all.len()),
                code: ResponseError::UnknownTopicOrPartition.code(),
                message: None,
            });
        }
        let wanted = if partitions.is_empty() {
            &all
        } else {
            partitions
        };
        let committed = config.committed_only;
        let next = client.offsets(topic, wanted, position, committed).await?;
        Ok(Self {
            client,
            topic: topic.to_owned(),
            config,
            next,
            first: 0,
        })
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

    /// The offsets that a position means now, of all partitions that are read.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn find(&self, position: Position) -> Result<BTreeMap<i32, i64>> {
        let partitions: Vec<i32> = self.next.keys().copied().collect();
        let committed = self.config.committed_only;
        self.client
            .offsets(&self.topic, &partitions, position, committed)
            .await
    }

    /// Goes on at other offsets.
    pub fn seek(&mut self, offsets: &BTreeMap<i32, i64>) {
        for (partition, offset) in offsets {
            if let Some(next) = self.next.get_mut(partition) {
                *next = *offset;
            }
        }
    }

    /// Fetches once from every leader; waits at most the configured time for records.
    ///
    /// # Errors
    /// [`ClientError`]; retriable ones may be tried again, positions are as before.
    pub async fn poll(&mut self) -> Result<Vec<Fetched>> {
        let fetched = self.fetch_all().await;
        if fetched.as_ref().is_err_and(ClientError::is_retriable) {
            // The leader may have moved; if nobody answers, the next poll says so.
            let _ = self.client.refresh(&self.topic, false).await;
        }
        let fetched = fetched?;
        for fetched in &fetched {
            self.next.insert(fetched.partition, fetched.next);
        }
        Ok(fetched)
    }

    async fn fetch_all(&mut self) -> Result<Vec<Fetched>> {
        let after = self.next.range(self.first.saturating_add(1)..);
        self.first = after.map(|(partition, _)| *partition).next().unwrap_or(0);
        let mut shares: Shares<(i32, i64)> = HashMap::new();
        // From the first one on, then the others.
        let rotated = self
            .next
            .range(self.first..)
            .chain(self.next.range(..self.first));
        let mut failed = None;
        for (&partition, &offset) in rotated {
            match self.client.leader(&self.topic, partition).await {
                Ok(connection) => {
                    let share = shares
                        .entry(connection.address().to_owned())
                        .or_insert_with(|| (connection, Vec::new()));
                    share.1.push((partition, offset));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let patience = self.client.timeout() + self.config.max_wait;
        let mut fetches = JoinSet::new();
        for (connection, share) in shares.into_values() {
            let request = self.request(&share);
            fetches.spawn(async move {
                // Names identify topics up to version 12.
                (connection.call_within(&request, 12, patience).await, share)
            });
        }
        let mut all = Vec::new();
        while let Some(fetched) = fetches.join_next().await {
            let (answer, share) = fetched.map_err(|error| ClientError::Usage(error.to_string()))?;
            for fetched in self.judge(answer, &share) {
                match fetched {
                    Ok(fetched) => all.push(fetched),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
        }
        // Partitions that cannot be read hold up nobody who has records in others.
        match failed {
            Some(error) if all.iter().all(|fetched| fetched.batches.is_empty()) => Err(error),
            _ => Ok(all),
        }
    }

    /// What an answer has of the partitions that it was asked for.
    fn judge(&self, answer: Result<FetchResponse>, share: &[(i32, i64)]) -> Vec<Result<Fetched>> {
        let checked = answer.and_then(|answer| {
            let what = || format!("fetch from {}", self.topic);
            ClientError::check(answer.error_code, what, None)?;
            Ok(answer)
        });
        let answer = match checked {
            Ok(answer) => answer,
            Err(error) => return vec![Err(error)],
        };
        let topics = answer.responses.into_iter();
        let slots = topics.flat_map(|topic| topic.partitions);
        slots
            .filter_map(|slot| {
                let asked = share.iter().find(|(of, _)| *of == slot.partition_index);
                asked.map(|(_, from)| self.fetched(slot, *from))
            })
            .collect()
    }

    fn request(&self, share: &[(i32, i64)]) -> FetchRequest {
        let asked = share.iter().map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(self.config.partition_max_bytes)
        });
        let topic = FetchTopic::default()
            .with_topic(topic_name(&self.topic))
            .with_partitions(asked.collect());
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(i32::try_from(self.config.max_wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(self.config.max_bytes)
            .with_isolation_level(i8::from(self.config.committed_only))
            .with_session_epoch(-1)
            .with_topics(vec![topic])
    }

    fn fetched(&self, slot: PartitionData, from: i64) -> Result<Fetched> {
        let partition = slot.partition_index;
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
        let mut next = from;
        while let Some(batch) = Batch::split_first(&mut bytes).map_err(wrong)? {
            if self.config.check_crcs {
                batch.verify_crc().map_err(wrong)?;
            }
            // Nothing is read twice, whatever a broker sends.
            if batch.header().next_offset() > next {
                next = batch.header().next_offset();
                batches.push(batch);
            }
        }
        if self.config.committed_only {
            let aborted = slot.aborted_transactions.unwrap_or_default();
            aborted::drop_aborted(&mut batches, &aborted).map_err(wrong)?;
        }
        Ok(Fetched {
            partition,
            high_watermark: slot.high_watermark,
            batches,
            from,
            next,
        })
    }
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

impl Client {
    /// The offsets that a position in a topic means now, by partition. `committed` counts only
    /// transactions that have ended as written.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn offsets(
        &self,
        topic: &str,
        partitions: &[i32],
        position: Position,
        committed: bool,
    ) -> Result<BTreeMap<i32, i64>> {
        let timestamp = match position {
            Position::Offset(offset) => {
                return Ok(partitions.iter().map(|index| (*index, offset)).collect());
            }
            Position::Last(count) => {
                let beginning = self.list_offsets(topic, partitions, -2, committed).await?;
                let mut offsets = self.list_offsets(topic, partitions, -1, committed).await?;
                for (partition, offset) in &mut offsets {
                    let least = beginning.get(partition).copied().unwrap_or(0);
                    *offset = offset.saturating_sub(count).max(least);
                }
                return Ok(offsets);
            }
            Position::Beginning => -2,
            Position::End => -1,
            Position::Timestamp(ms) => ms.max(0),
        };
        let mut offsets = self
            .list_offsets(topic, partitions, timestamp, committed)
            .await?;
        // No record is that young.
        let none: Vec<i32> = offsets
            .iter()
            .filter(|(_, offset)| **offset < 0)
            .map(|(partition, _)| *partition)
            .collect();
        if !none.is_empty() {
            offsets.extend(self.list_offsets(topic, &none, -1, committed).await?);
        }
        Ok(offsets)
    }

    /// Asks the leaders for offsets; again, at most for the client's patience, while one of them is not the
    /// leader any more, or does not know yet that it is.
    async fn list_offsets(
        &self,
        topic: &str,
        partitions: &[i32],
        timestamp: i64,
        committed: bool,
    ) -> Result<Offsets> {
        let began = Instant::now();
        loop {
            let listed = self.ask_offsets(topic, partitions, timestamp, committed);
            match listed.await {
                Err(error)
                    if error.response_error() == Some(ResponseError::NotLeaderOrFollower)
                        && began.elapsed() < self.timeout() =>
                {
                    tokio::time::sleep(AGAIN_AFTER).await;
                    self.refresh(topic, false).await?;
                }
                listed => return listed,
            }
        }
    }

    /// ListOffsets, one request to each leader.
    async fn ask_offsets(
        &self,
        topic: &str,
        partitions: &[i32],
        timestamp: i64,
        committed: bool,
    ) -> Result<Offsets> {
        let mut shares: Shares<i32> = HashMap::new();
        for &partition in partitions {
            let connection = self.leader(topic, partition).await?;
            let share = shares
                .entry(connection.address().to_owned())
                .or_insert_with(|| (connection, Vec::new()));
            share.1.push(partition);
        }
        let mut offsets = Offsets::new();
        for (connection, share) in shares.into_values() {
            let asked = share.iter().map(|partition| {
                ListOffsetsPartition::default()
                    .with_partition_index(*partition)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(timestamp)
            });
            let asked = ListOffsetsTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(asked.collect());
            let request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_isolation_level(i8::from(committed))
                .with_topics(vec![asked]);
            let answer = connection.call(&request, 7).await?;
            for slot in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                let what = || format!("offsets of {topic}-{}", slot.partition_index);
                ClientError::check(slot.error_code, what, None)?;
                offsets.insert(slot.partition_index, slot.offset);
            }
        }
        offsets.retain(|partition, _| partitions.contains(partition));
        if offsets.len() < partitions.len() {
            return Err(ClientError::Incomplete {
                what: format!("offsets of {topic}"),
            });
        }
        Ok(offsets)
    }
}
