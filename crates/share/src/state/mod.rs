//! What lasts of share-partitions: the share coordinator of KIP-932.
//!
//! A [`StateCoordinator`] holds the state of those share-partitions whose key belongs to one
//! partition of `__share_group_state` ([`state_partition`]). It is driven as the other coordinators
//! are: requests carry a [`Token`], what is to be appended comes out as [`Effect::Persist`], and the
//! answer follows once the shell has reported the end of the write.
//!
//! An update names what changed; after a number of them a snapshot names everything, and what stands
//! before the oldest snapshot in the log can be deleted.

mod batches;
mod coordinator;
mod entry;
mod load;

use std::fmt;
use std::sync::Arc;

use dlog_coordination::{PersistError, Record, Token, WriteId, partition_for_name};
use thiserror::Error;
use uuid::Uuid;

pub(crate) use batches::Batches;
pub use batches::{Delivered, DeliveryState, StateBatch, combine};
pub use coordinator::StateCoordinator;
pub use load::Applied;

/// Names a share-partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShareKey {
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic_id: Uuid,
    /// The partition of the topic.
    pub partition: i32,
}

/// `group:topic:partition`, the topic's id in Kafka's base 64: what FindCoordinator is asked for.
impl fmt::Display for ShareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}",
            self.group,
            base64_uuid(self.topic_id),
            self.partition
        )
    }
}

/// 22 characters of the URL-safe alphabet, without padding.
fn base64_uuid(id: Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = id.as_u128();
    (0..22)
        .map(|at| {
            // 128 bits are 21 groups of six and one of two, which stand at its upper end.
            let group = if at < 21 {
                bits >> (122 - 6 * at)
            } else {
                bits << 4
            };
            char::from(ALPHABET[(group & 63) as usize])
        })
        .collect()
}

/// The partition, of `partitions`, of `__share_group_state` that a share-partition's state is in.
pub fn state_partition(key: &ShareKey, partitions: u32) -> u32 {
    partition_for_name(&key.to_string(), partitions)
}

/// Settings (`share.coordinator.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateConfig {
    /// `share.coordinator.snapshot.update.records.per.snapshot`.
    pub updates_per_snapshot: u32,
    /// How often state that is not written is put into a new snapshot, so that the log before it can
    /// be deleted, in ms.
    pub cold_snapshot_interval_ms: i64,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            updates_per_snapshot: 500,
            cold_snapshot_interval_ms: 300_000,
        }
    }
}

/// The stored state of a share-partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// Raised with each initialisation.
    pub state_epoch: i32,
    /// Epoch of the partition's leader.
    pub leader_epoch: i32,
    /// First offset that is not done with, -1 when none was chosen yet.
    pub start_offset: i64,
    /// Offsets from there on that are done with, -1 when not known.
    pub delivery_complete_count: i32,
    /// The fates of offsets, ascending.
    pub batches: Vec<StateBatch>,
}

/// The stored state without the batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// As in [`PartitionState`].
    pub state_epoch: i32,
    /// As in [`PartitionState`].
    pub leader_epoch: i32,
    /// As in [`PartitionState`]; -1 too when there is no state.
    pub start_offset: i64,
    /// As in [`PartitionState`].
    pub delivery_complete_count: i32,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StateError {
    /// The records of the partition are still being read.
    #[error("The coordinator is loading and hence can't process requests.")]
    CoordinatorLoadInProgress,
    /// This broker is not the coordinator.
    #[error("This is not the correct coordinator.")]
    NotCoordinator,
    /// The write did not succeed.
    #[error("The coordinator is not available.")]
    CoordinatorNotAvailable,
    /// The request makes no sense; why.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// There is no such partition.
    #[error("This server does not host this topic-partition.")]
    UnknownTopicOrPartition,
    /// The partition has a newer leader.
    #[error("The leader epoch in the request is older than the epoch on the broker.")]
    FencedLeaderEpoch,
    /// The state was initialised again.
    #[error("The coordinator rejected the request because the state epoch did not match.")]
    FencedStateEpoch,
    /// The record is too large.
    #[error("The server experienced an unexpected error when processing the request.")]
    Unknown,
}

impl From<PersistError> for StateError {
    fn from(error: PersistError) -> Self {
        match error {
            PersistError::NotLeader => Self::NotCoordinator,
            PersistError::TooLarge => Self::Unknown,
            // No record of this topic has a producer.
            PersistError::Unavailable
            | PersistError::TimedOut
            | PersistError::Failed
            | PersistError::ProducerFenced
            | PersistError::CoordinatorFenced => Self::CoordinatorNotAvailable,
        }
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Of a read.
    State(Result<PartitionState, StateError>),
    /// Of everything else.
    Done(Result<(), StateError>),
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer the request of this token.
    Reply {
        /// Of the request.
        token: Token,
        /// The answer.
        reply: Reply,
    },
    /// Append these records, after all that were asked for before, and report it.
    Persist {
        /// What the report names.
        write: WriteId,
        /// The records.
        records: Vec<Record>,
    },
    /// Delete the records of the log before this offset; it need not succeed.
    Prune {
        /// First offset that is needed.
        before: i64,
    },
}
