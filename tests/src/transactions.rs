//! A transactional producer for tests, one request at a time, that goes on through crashes of the server
//! as real clients do: a request without an answer is sent again.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use dlog_storage::record::control::EndTxnMarker;
use dlog_storage::record::{Batch, BatchBuilder};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest,
    GroupId, InitProducerIdRequest, OffsetFetchRequest, ProduceRequest, ProducerId,
    TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};

use crate::produce::{fetch, fetch_request, produce_request, topic_name};
use crate::wire::Connection;

/// Errors that say: later, the same again. (NOT_ENOUGH_REPLICAS stands for those of a coordinator.)
const AGAIN: [i16; 5] = [14, 15, 16, 19, 51];

/// Version 1 of the transaction protocol, or 2 (KIP-890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The client adds partitions; one epoch for all transactions.
    V1,
    /// The server adds partitions; each transaction has its own epoch.
    V2,
}

/// What is asked of the server in a transaction, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// InitProducerId.
    Init,
    /// AddPartitionsToTxn (version 1 only).
    Add,
    /// Produce into the first partition.
    First,
    /// Produce into the second partition.
    Second,
    /// AddOffsetsToTxn (version 1 only).
    AddOffsets,
    /// TxnOffsetCommit.
    Commit,
    /// EndTxn.
    End,
}

impl Step {
    /// All steps of a protocol.
    pub fn of(protocol: Protocol) -> Vec<Self> {
        let all = [
            Self::Init,
            Self::Add,
            Self::First,
            Self::Second,
            Self::AddOffsets,
            Self::Commit,
            Self::End,
        ];
        let added_by_client = |step: &Self| matches!(step, Self::Add | Self::AddOffsets);
        all.into_iter()
            .filter(|step| protocol == Protocol::V1 || !added_by_client(step))
            .collect()
    }
}

/// One transaction of one producer: records `tag` in two partitions of a topic, and an offset of a group.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// What the client speaks.
    pub protocol: Protocol,
    /// The transactional id, which the group and the records are named after.
    pub id: String,
    /// The topic, with at least two partitions.
    pub topic: String,
    /// The offset that the group commits for partition 0.
    pub offset: i64,
    /// How it ends.
    pub committed: bool,
    producer: (i64, i16),
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A request on its way.
struct Sent<R: Request> {
    version: i16,
    request: R,
}

impl Transaction {
    /// A transaction that has not begun.
    pub fn new(protocol: Protocol, id: &str, topic: &str, offset: i64, committed: bool) -> Self {
        Self {
            protocol,
            id: id.to_owned(),
            topic: topic.to_owned(),
            offset,
            committed,
            producer: (-1, -1),
        }
    }

    fn version(&self, v1: i16, v2: i16) -> i16 {
        match self.protocol {
            Protocol::V1 => v1,
            Protocol::V2 => v2,
        }
    }

    fn init(&self) -> Sent<InitProducerIdRequest> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(&self.id))))
            .with_transaction_timeout_ms(600_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let version = self.version(4, 5);
        Sent { version, request }
    }

    fn add(&self) -> Sent<AddPartitionsToTxnRequest> {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(&self.topic))
            .with_partitions(vec![0, 1]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text(&self.id)))
            .with_v3_and_below_producer_id(ProducerId(self.producer.0))
            .with_v3_and_below_producer_epoch(self.producer.1)
            .with_v3_and_below_topics(vec![topic]);
        Sent {
            version: 3,
            request,
        }
    }

    fn produce(&self, partition: i32) -> Result<Sent<ProduceRequest>> {
        let mut batch = BatchBuilder::new()
            .producer(self.producer.0, self.producer.1, 0)
            .transactional(true);
        batch.push(1_700_000_000_000, None, Some(self.id.as_bytes()), &[])?;
        let request = produce_request(&self.topic, partition, batch.build()?, -1)
            .with_transactional_id(Some(TransactionalId(text(&self.id))));
        let version = self.version(11, 12);
        Ok(Sent { version, request })
    }

    fn add_offsets(&self) -> Sent<AddOffsetsToTxnRequest> {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&self.id)))
            .with_producer_id(ProducerId(self.producer.0))
            .with_producer_epoch(self.producer.1)
            .with_group_id(GroupId(text(&self.id)));
        Sent {
            version: 3,
            request,
        }
    }

    fn commit(&self) -> Sent<TxnOffsetCommitRequest> {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(self.offset)
            .with_committed_metadata(Some(StrBytes::new()));
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(&self.topic))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(TransactionalId(text(&self.id)))
            .with_group_id(GroupId(text(&self.id)))
            .with_producer_id(ProducerId(self.producer.0))
            .with_producer_epoch(self.producer.1)
            .with_topics(vec![topic]);
        let version = self.version(4, 5);
        Sent { version, request }
    }

    fn end(&self) -> Sent<EndTxnRequest> {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&self.id)))
            .with_producer_id(ProducerId(self.producer.0))
            .with_producer_epoch(self.producer.1)
            .with_committed(self.committed);
        let version = self.version(4, 5);
        Sent { version, request }
    }

    /// Sends the request of a step and does not wait for its answer.
    ///
    /// # Errors
    /// The connection ended.
    pub fn send(&self, connection: &mut Connection, step: Step) -> Result<()> {
        fn go<R: Request>(connection: &mut Connection, sent: &Sent<R>) -> Result<()> {
            connection.send(sent.version, &sent.request).map(drop)
        }
        match step {
            Step::Init => go(connection, &self.init()),
            Step::Add => go(connection, &self.add()),
            Step::First => go(connection, &self.produce(0)?),
            Step::Second => go(connection, &self.produce(1)?),
            Step::AddOffsets => go(connection, &self.add_offsets()),
            Step::Commit => go(connection, &self.commit()),
            Step::End => go(connection, &self.end()),
        }
    }

    /// Asks until the answer is final.
    ///
    /// # Errors
    /// The connection ended, or the server refused.
    pub fn run(&mut self, connection: &mut Connection, step: Step) -> Result<()> {
        for _ in 0..10_000 {
            let code = self.ask(connection, step)?;
            match code {
                0 => return Ok(()),
                code if AGAIN.contains(&code) => {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                code => bail!("{step:?} of {self:?}: error {code}"),
            }
        }
        bail!("{step:?} of {self:?}: no end of retriable errors")
    }

    fn ask(&mut self, connection: &mut Connection, step: Step) -> Result<i16> {
        fn go<R: Request>(connection: &mut Connection, sent: &Sent<R>) -> Result<R::Response> {
            connection.call(sent.version, &sent.request)
        }
        let produced = |answer: kafka_protocol::messages::ProduceResponse| {
            let topic = answer.responses.first();
            let partition = topic.and_then(|topic| topic.partition_responses.first());
            Ok(partition
                .context("an answer about the partition")?
                .error_code)
        };
        match step {
            Step::Init => {
                let answer = go(connection, &self.init())?;
                if answer.error_code == 0 {
                    self.producer = (answer.producer_id.0, answer.producer_epoch);
                }
                Ok(answer.error_code)
            }
            Step::Add => {
                let answer = go(connection, &self.add())?;
                let topics = answer.results_by_topic_v3_and_below.iter();
                let mut codes = topics
                    .flat_map(|topic| &topic.results_by_partition)
                    .map(|partition| partition.partition_error_code);
                Ok(codes.find(|code| *code != 0).unwrap_or(0))
            }
            Step::First => produced(go(connection, &self.produce(0)?)?),
            Step::Second => produced(go(connection, &self.produce(1)?)?),
            Step::AddOffsets => Ok(go(connection, &self.add_offsets())?.error_code),
            Step::Commit => {
                let answer = go(connection, &self.commit())?;
                let topic = answer.topics.first();
                let partition = topic.and_then(|topic| topic.partitions.first());
                Ok(partition
                    .context("an answer about the partition")?
                    .error_code)
            }
            Step::End => Ok(go(connection, &self.end())?.error_code),
        }
    }
}

/// The state of a transactional id, and how many topics its transaction has.
///
/// # Errors
/// The connection ended, or the server refused.
pub fn state_of(connection: &mut Connection, id: &str) -> Result<Option<(String, usize)>> {
    let request = DescribeTransactionsRequest::default()
        .with_transactional_ids(vec![TransactionalId(text(id))]);
    let answer = connection.call(0, &request)?;
    let state = answer.transaction_states.first().context("an answer")?;
    match state.error_code {
        0 => Ok(Some((
            state.transaction_state.to_string(),
            state.topics.len(),
        ))),
        14..=16 | 105 => Ok(None),
        code => bail!("DescribeTransactions: error {code}"),
    }
}

/// The group's committed offset of partition 0, -1 when there is none; `None` while it is not stable.
///
/// # Errors
/// The connection ended, or the server refused.
pub fn stable_offset(connection: &mut Connection, group: &str, topic: &str) -> Result<Option<i64>> {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default()
        .with_groups(vec![group])
        .with_require_stable(true);
    let answer = connection.call(8, &request)?;
    let group = answer.groups.first().context("an answer")?;
    if (14..=16).contains(&group.error_code) {
        return Ok(None);
    }
    ensure!(group.error_code == 0, "error {}", group.error_code);
    let topic = group.topics.first().context("an answer")?;
    let partition = topic.partitions.first().context("an answer")?;
    match partition.error_code {
        0 => Ok(Some(partition.committed_offset)),
        88 => Ok(None),
        code => bail!("OffsetFetch: error {code}"),
    }
}

/// Values that a reader of committed records gets from a partition, in order.
///
/// # Errors
/// The connection ended, or the server refused.
pub fn read_committed(address: SocketAddr, topic: &str, partition: i32) -> Result<Vec<String>> {
    let mut connection = Connection::open(address)?;
    let (mut values, mut next) = (Vec::new(), 0);
    loop {
        let request = fetch_request(topic, partition, next, 1 << 20)
            .with_isolation_level(1)
            .with_max_wait_ms(0)
            .with_min_bytes(0);
        let data = fetch(&mut connection, &request)?;
        let mut bytes = data.records.unwrap_or_default();
        let aborted = data.aborted_transactions.unwrap_or_default();
        let mut aborting = BTreeSet::new();
        let before = next;
        while let Some(batch) = Batch::split_first(&mut bytes)? {
            let header = *batch.header();
            next = next.max(header.last_offset() + 1);
            let began = aborted
                .iter()
                .filter(|aborted| aborted.first_offset <= header.last_offset());
            let _: Vec<_> = began
                .map(|aborted| aborting.insert(aborted.producer_id.0))
                .collect();
            for record in batch.records()? {
                let record = record?;
                if header.is_control() {
                    let (key, value) = (record.key.as_deref(), record.value.as_deref());
                    if EndTxnMarker::from_record(key, value)?.is_some() {
                        aborting.remove(&header.producer_id);
                    }
                } else if !header.is_transactional() || !aborting.contains(&header.producer_id) {
                    let value = record.value.as_deref().unwrap_or_default();
                    values.push(String::from_utf8(value.to_vec())?);
                }
            }
        }
        if next == before {
            ensure!(next >= data.last_stable_offset, "nothing to read at {next}");
            return Ok(values);
        }
    }
}
