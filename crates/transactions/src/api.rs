//! Requests, answers and effects: what goes into and comes out of a
//! [`crate::TransactionCoordinator`]. Names follow Kafka's messages; only what the coordinator
//! decides on is here.

use std::sync::Arc;

pub use dlog_coordination::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Producer, Record, Token, WriteId};

use crate::error::TransactionError;
use crate::metadata::{TransactionState, TransactionVersion};

/// The requests whose errors depend on the version they came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionApi {
    /// InitProducerId.
    InitProducerId,
    /// AddPartitionsToTxn.
    AddPartitionsToTxn,
    /// AddOffsetsToTxn.
    AddOffsetsToTxn,
    /// EndTxn.
    EndTxn,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer the request that came with `token`.
    Reply {
        /// The request.
        token: Token,
        /// Its answer.
        reply: Reply,
    },
    /// Append `records` to the coordinator's partition, after those of all earlier writes, then
    /// call [`crate::TransactionCoordinator::persisted`] with the same id once they are durable or
    /// have failed.
    Persist {
        /// Names this write.
        write: WriteId,
        /// The records in order.
        records: Vec<Record>,
    },
    /// Write the transaction's end into its partitions and report what became of it, at once or
    /// partition by partition, with [`crate::TransactionCoordinator::markers_written`].
    WriteMarkers(Markers),
    /// A transaction has ended: its end is durable, and the id takes the next request.
    Ended {
        /// Whose it was.
        transactional_id: Arc<str>,
    },
    /// Producer ids run out: call [`crate::TransactionCoordinator::add_producer_ids`] with ids that
    /// nobody has had. Asked for once, until some come.
    NeedProducerIds,
}

/// Names the work of writing the markers of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkersId(pub u64);

/// Markers to write: the fields of WriteTxnMarkers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Markers {
    /// Names this work; the same when partitions of it are tried again.
    pub id: MarkersId,
    /// Whose transaction it is.
    pub transactional_id: Arc<str>,
    /// The producer, with the epoch that the marker has to carry.
    pub producer: Producer,
    /// Committed, or aborted.
    pub committed: bool,
    /// The epoch of this coordinator: a partition that saw a higher one refuses.
    pub coordinator_epoch: i32,
    /// How the partitions have to check the epoch.
    pub transaction_version: TransactionVersion,
    /// Where to.
    pub partitions: Vec<TopicPartition>,
}

/// What became of the marker of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkerOutcome {
    /// It is durable, or nothing is left to be marked: the partition is deleted, or has seen a
    /// newer epoch of the producer (INVALID_PRODUCER_EPOCH).
    Done,
    /// Not now: no leader, too few replicas, a timeout.
    Retry,
    /// The partition has heard of a newer coordinator (TRANSACTION_COORDINATOR_FENCED): the end is
    /// no longer ours to write.
    CoordinatorFenced,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: &str, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

/// An answer that came later than its request, or at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To [`InitProducerId`]: who the producer is from now on.
    InitProducerId(Result<Producer, TransactionError>),
    /// To [`AddPartitions`]: one outcome for all partitions.
    AddPartitions(Result<(), TransactionError>),
    /// To [`EndTxn`]: who the producer is for its next transaction; [`Producer::NONE`] for clients
    /// before version 2 of the protocol, who stay who they are.
    EndTxn(Result<Producer, TransactionError>),
}

/// InitProducerId with a transactional id. (Without one it needs no coordinator.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducerId {
    /// The transactional id.
    pub transactional_id: String,
    /// The producer's `transaction.timeout.ms`.
    pub timeout_ms: i32,
    /// Who the producer was (KIP-360), when it goes on after an error.
    pub expected: Option<Producer>,
}

/// AddPartitionsToTxn for one transaction: of a client, or of a broker for one (version 4 on).
/// AddOffsetsToTxn is the same with the partition of `__consumer_offsets` that the group belongs
/// to, always under [`TransactionVersion::V0`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddPartitions {
    /// The transactional id.
    pub transactional_id: String,
    /// Who the producer says it is.
    pub producer: Producer,
    /// What the client speaks: version 4 and later of the request mean
    /// [`TransactionVersion::V2`], earlier ones [`TransactionVersion::V0`].
    pub client_version: TransactionVersion,
    /// The partitions.
    pub partitions: Vec<TopicPartition>,
}

/// EndTxn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndTxn {
    /// The transactional id.
    pub transactional_id: String,
    /// Who the producer says it is.
    pub producer: Producer,
    /// Commit, or abort.
    pub committed: bool,
    /// What the client speaks: version 5 and later of the request mean
    /// [`TransactionVersion::V2`], earlier ones [`TransactionVersion::V0`].
    pub client_version: TransactionVersion,
}

/// How many transactions there are and were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransactionCounts {
    /// Those that have begun and not ended.
    pub open: u64,
    /// Those that were committed since this coordinator began.
    pub committed: u64,
    /// Those that were aborted since this coordinator began.
    pub aborted: u64,
}

/// What ListTransactions asks for. An empty filter lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Names of states.
    pub states: Vec<String>,
    /// Producer ids.
    pub producer_ids: Vec<i64>,
    /// Only those that began longer ago than this (KIP-994); negative: all.
    pub longer_than_ms: Option<i64>,
}

/// The answer to ListTransactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// States in the filter that do not exist.
    pub unknown_states: Vec<String>,
    /// What was found, in the order of the ids. The filter for a pattern of the id (version 2) is
    /// the shell's.
    pub transactions: Vec<ListedTransaction>,
}

/// One line of ListTransactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTransaction {
    /// The transactional id.
    pub transactional_id: Arc<str>,
    /// Its producer id.
    pub producer_id: i64,
    /// Its state.
    pub state: TransactionState,
}

/// A transaction as DescribeTransactions shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    /// Its state.
    pub state: TransactionState,
    /// The producer.
    pub producer: Producer,
    /// The producer's `transaction.timeout.ms`.
    pub timeout_ms: i32,
    /// When the transaction began, Unix ms; -1 when none did.
    pub start_ms: i64,
    /// Partitions whose markers are still to be written, or that are part of it so far.
    pub partitions: Vec<TopicPartition>,
}
