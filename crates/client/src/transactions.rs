//! Transactions as an administrator sees them: who has one open, and ending one that nobody ends (KIP-664).

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, ListTransactionsRequest, ProducerId,
    TopicName, TransactionalId, WriteTxnMarkersRequest,
};

use crate::cluster::Client;
use crate::connection::{Connection, text};
use crate::coordinator::CoordinatorKind;
use crate::error::{ClientError, Result};

/// Which transactions are listed; an empty filter lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// Names of states, such as `Ongoing`.
    pub states: Vec<String>,
    /// Producer ids.
    pub producer_ids: Vec<i64>,
    /// Only those that have been open for longer, in ms (KIP-994).
    pub longer_than_ms: Option<i64>,
    /// Only ids that this regular expression matches as a whole (KIP-1152).
    pub pattern: Option<String>,
}

/// A transactional id in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTransaction {
    /// The transactional id.
    pub transactional_id: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
    /// Its producer id.
    pub producer_id: i64,
    /// Its state.
    pub state: String,
}

/// A transactional id in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionInfo {
    /// The transactional id.
    pub transactional_id: String,
    /// Its state.
    pub state: String,
    /// Its producer id.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// How long a transaction of it may take, in ms.
    pub timeout_ms: i32,
    /// When the open transaction began, Unix ms; -1 when none is open.
    pub start_ms: i64,
    /// The partitions of the open transaction.
    pub partitions: BTreeMap<String, Vec<i32>>,
}

/// A producer that a partition remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Its last sequence number; -1 when none is known.
    pub last_sequence: i32,
    /// When it last wrote, Unix ms.
    pub last_timestamp_ms: i64,
    /// Epoch of the coordinator that ended its last transaction; -1 when none did.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_start: Option<i64>,
}

impl Client {
    /// The transactional ids of all coordinators, by id.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Usage`] for a state that does not exist or for a filter that the
    /// broker is too old for.
    pub async fn transactions(&self, filter: &TransactionFilter) -> Result<Vec<ListedTransaction>> {
        let request = ListTransactionsRequest::default()
            .with_state_filters(filter.states.iter().map(|state| text(state)).collect())
            .with_producer_id_filters(
                filter
                    .producer_ids
                    .iter()
                    .map(|id| ProducerId(*id))
                    .collect(),
            )
            .with_duration_filter(filter.longer_than_ms.unwrap_or(-1))
            .with_transactional_id_pattern(filter.pattern.as_deref().map(text));
        let mut listed = Vec::new();
        for broker in self.cluster().await?.brokers {
            let connection = self.broker(broker.id).await?;
            let answer = connection.call(&request, 2).await?;
            ClientError::check(answer.error_code, || "list transactions".to_owned(), None)?;
            if let Some(unknown) = answer.unknown_state_filters.first() {
                return Err(ClientError::Usage(format!(
                    "there is no state {unknown} of transactions"
                )));
            }
            let of_broker = answer.transaction_states.into_iter();
            listed.extend(of_broker.map(|one| ListedTransaction {
                transactional_id: one.transactional_id.to_string(),
                coordinator: broker.id,
                producer_id: one.producer_id.0,
                state: one.transaction_state.to_string(),
            }));
        }
        listed.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        Ok(listed)
    }

    /// One transactional id.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is none of this name.
    pub async fn transaction(&self, id: &str) -> Result<TransactionInfo> {
        let kind = CoordinatorKind::Transaction;
        let coordinator = self.coordinator(kind, id).await?;
        let request = DescribeTransactionsRequest::default()
            .with_transactional_ids(vec![TransactionalId(text(id))]);
        let answer = coordinator.call(&request, 0).await?;
        let what = || format!("transactional id {id}");
        let state = answer.transaction_states.into_iter().next();
        let state = state.ok_or_else(|| ClientError::Incomplete { what: what() })?;
        ClientError::check(state.error_code, what, None)?;
        let partitions = state.topics.into_iter();
        Ok(TransactionInfo {
            transactional_id: state.transactional_id.to_string(),
            state: state.transaction_state.to_string(),
            producer_id: state.producer_id.0,
            producer_epoch: state.producer_epoch,
            timeout_ms: state.transaction_timeout_ms,
            start_ms: state.transaction_start_time_ms,
            partitions: partitions
                .map(|topic| (topic.topic.to_string(), topic.partitions))
                .collect(),
        })
    }

    /// The producers that the leader of a partition remembers, by id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn active_producers(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<ActiveProducer>> {
        let asked = TopicRequest::default()
            .with_name(TopicName(text(topic)))
            .with_partition_indexes(vec![partition]);
        let request = DescribeProducersRequest::default().with_topics(vec![asked]);
        let leader = self.leader(topic, partition).await?;
        let answer = leader.call(&request, 0).await?;
        let what = || format!("producers of {topic}-{partition}");
        let found = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let found = found.into_iter().next();
        let found = found.ok_or_else(|| ClientError::Incomplete { what: what() })?;
        ClientError::check(found.error_code, what, found.error_message.as_deref())?;
        let mut producers: Vec<_> = found
            .active_producers
            .iter()
            .map(|producer| ActiveProducer {
                producer_id: producer.producer_id.0,
                epoch: i16::try_from(producer.producer_epoch).unwrap_or(-1),
                last_sequence: producer.last_sequence,
                last_timestamp_ms: producer.last_timestamp,
                coordinator_epoch: producer.coordinator_epoch,
                transaction_start: Some(producer.current_txn_start_offset).filter(|at| *at >= 0),
            })
            .collect();
        producers.sort_by_key(|producer| producer.producer_id);
        Ok(producers)
    }

    /// Ends the open transaction of a producer in one partition as aborted, whatever its coordinator
    /// thinks of it. For transactions that no coordinator knows.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn abort_in_partition(
        &self,
        topic: &str,
        partition: i32,
        producer: &ActiveProducer,
    ) -> Result<()> {
        let leader = self.leader(topic, partition).await?;
        let of_topic = WritableTxnMarkerTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partition_indexes(vec![partition]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(producer.producer_id))
            .with_producer_epoch(producer.epoch)
            .with_transaction_result(false)
            .with_coordinator_epoch(producer.coordinator_epoch.max(0))
            .with_topics(vec![of_topic]);
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
        write_markers(&leader, &request).await
    }
}

async fn write_markers(leader: &Connection, request: &WriteTxnMarkersRequest) -> Result<()> {
    let answer = leader.call(request, 1).await?;
    let topics = answer.markers.iter().flat_map(|marker| &marker.topics);
    for topic in topics {
        for partition in &topic.partitions {
            let what = || format!("abort in {}-{}", topic.name.0, partition.partition_index);
            ClientError::check(partition.error_code, what, None)?;
        }
    }
    Ok(())
}
