//! What lasts of share-partitions: `__share_group_state` behind the common shell of coordinators.

use std::sync::Arc;

use dlog_share::{
    Applied, PartitionState, Reply, ShareKey, StateConfig, StateCoordinator, StateError,
    StateWrite, Summary,
};
use dlog_storage::StorageError;
use tokio::sync::oneshot;

use crate::coordinator::{self, Coordinators, Kind, Stored};
use crate::partitions::Partition;
use crate::state::BrokerState;
use crate::topics::NewTopic;

/// Name of the topic that the state is kept in.
pub const STATE_TOPIC: &str = "__share_group_state";

/// Share coordinators.
pub struct ShareStateKind;

/// The share coordinators of this node.
pub type ShareStates = Coordinators<ShareStateKind>;

type Shard = coordinator::Shard<ShareStateKind>;

impl Kind for ShareStateKind {
    type Machine = StateCoordinator;
    type Error = StateError;
    type Extra = ();

    const TOPIC: &'static str = STATE_TOPIC;
    const UNAVAILABLE: StateError = StateError::CoordinatorNotAvailable;

    fn new_topic(state: &BrokerState) -> NewTopic {
        let set = |name: &str, default: &str| {
            let value = state.statics.get(name);
            value.map_or_else(|| default.to_owned(), ToString::to_string)
        };
        let partitions = set("share.coordinator.state.topic.num.partitions", "50");
        let segment_bytes = set("share.coordinator.state.topic.segment.bytes", "104857600");
        let config = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        NewTopic {
            name: STATE_TOPIC.to_owned(),
            partitions: partitions.parse().unwrap_or(50),
            replication_factor: -1,
            assignments: Vec::new(),
            // Old records are deleted when snapshots have made them redundant, not by age.
            configs: vec![
                config("cleanup.policy", "delete"),
                config("compression.type", "producer"),
                config("segment.bytes", &segment_bytes),
                config("retention.ms", "-1"),
            ],
        }
    }

    fn all_of(state: &BrokerState) -> &ShareStates {
        &state.share_states
    }

    fn machine(state: &BrokerState, _: &Partition) -> StateCoordinator {
        let number = |name: &str| state.statics.get(name).and_then(|value| value.parse().ok());
        let defaults = StateConfig::default();
        let updates = number("share.coordinator.snapshot.update.records.per.snapshot");
        let cold_ms = number("share.coordinator.cold.partition.snapshot.interval.ms");
        StateCoordinator::new(StateConfig {
            updates_per_snapshot: updates
                .and_then(|count: i64| u32::try_from(count).ok())
                .unwrap_or(defaults.updates_per_snapshot),
            cold_snapshot_interval_ms: cold_ms.unwrap_or(defaults.cold_snapshot_interval_ms),
        })
    }

    fn apply(states: &mut StateCoordinator, partition: &Partition, stored: Stored<'_>) {
        let Stored::Record {
            offset, key, value, ..
        } = stored
        else {
            return;
        };
        let partition = partition.index;
        match states.apply_record(key, value, offset) {
            Ok(Applied::Yes) => {}
            Ok(Applied::OtherKind(kind)) => {
                tracing::debug!(
                    partition,
                    offset,
                    kind,
                    "a record of share-group state is left alone"
                );
            }
            Err(error) => {
                tracing::warn!(partition, offset, %error, "a record of share-group state is skipped");
            }
        }
    }

    /// Deletes what snapshots have made redundant.
    fn work(_: &Arc<BrokerState>, shard: &Arc<Shard>, before: i64) {
        let partition = shard.partition().clone();
        tokio::task::spawn_blocking(move || {
            let Ok(log) = partition.log() else { return };
            match log.delete_records_before(before) {
                Ok(_) | Err(StorageError::Closed { .. }) => {}
                Err(error) => {
                    tracing::warn!(partition = partition.index, before, %error, "old share-group state is not deleted");
                }
            }
        });
    }
}

fn exists(state: &BrokerState, key: &ShareKey) -> bool {
    let topic = state.partitions.topic_by_id(key.topic_id);
    topic.is_some_and(|topic| topic.partition(key.partition).is_some())
}

async fn shard(state: &Arc<BrokerState>, key: &ShareKey) -> Result<Arc<Shard>, StateError> {
    state.share_states.shard(state, &key.to_string()).await
}

fn done(reply: &Reply) -> Result<(), StateError> {
    match reply {
        Reply::Done(result) => *result,
        Reply::State(_) => Err(StateError::Unknown),
    }
}

/// Begins the state of a share-partition anew.
///
/// # Errors
/// [`StateError`].
pub async fn initialize(
    state: &Arc<BrokerState>,
    key: &ShareKey,
    state_epoch: i32,
    start_offset: i64,
) -> Result<(), StateError> {
    let exists = exists(state, key);
    let asked = shard(state, key).await?;
    let asked = asked.ask(state, |states, now_ms, token, out| {
        states.initialize(now_ms, key, exists, (state_epoch, start_offset), token, out);
    });
    done(&asked.await?)
}

/// Reads the state of a share-partition for its leader.
///
/// # Errors
/// [`StateError`].
pub async fn read(
    state: &Arc<BrokerState>,
    key: &ShareKey,
    leader_epoch: i32,
) -> Result<PartitionState, StateError> {
    let exists = exists(state, key);
    let asked = shard(state, key).await?;
    let asked = asked.ask(state, |states, now_ms, token, out| {
        states.read(now_ms, key, exists, leader_epoch, token, out);
    });
    match asked.await? {
        Reply::State(result) => result,
        Reply::Done(_) => Err(StateError::Unknown),
    }
}

/// Stores what the leader of a share-partition says. `epochs`: of the state, of the leader.
///
/// # Errors
/// [`StateError`].
pub async fn write(
    state: &Arc<BrokerState>,
    key: &ShareKey,
    epochs: (i32, i32),
    write: &StateWrite,
) -> Result<(), StateError> {
    begin_write(state, key, epochs, write)
        .await?
        .outcome(state)
        .await
}

/// A write that has its place among the others.
pub struct Writing(oneshot::Receiver<Reply>);

impl Writing {
    /// What comes of it.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn outcome(self, state: &Arc<BrokerState>) -> Result<(), StateError> {
        let unavailable = StateError::CoordinatorNotAvailable;
        tokio::select! {
            reply = self.0 => done(&reply.map_err(|_| unavailable)?),
            () = state.stopping.cancelled() => Err(unavailable),
        }
    }
}

/// As [`write()`], but with the outcome still to be waited for: writes are stored in the order in which
/// this returns.
///
/// # Errors
/// [`StateError`].
pub async fn begin_write(
    state: &Arc<BrokerState>,
    key: &ShareKey,
    epochs: (i32, i32),
    write: &StateWrite,
) -> Result<Writing, StateError> {
    let exists = exists(state, key);
    let shard = shard(state, key).await?;
    let answer = shard.submit(state, |states, now_ms, token, out| {
        states.write(now_ms, (key, exists), epochs, write, token, out);
    });
    Ok(Writing(answer))
}

/// Forgets the state of a share-partition.
///
/// # Errors
/// [`StateError`].
pub async fn delete(state: &Arc<BrokerState>, key: &ShareKey) -> Result<(), StateError> {
    let exists = exists(state, key);
    let asked = shard(state, key).await?;
    let asked = asked.ask(state, |states, _, token, out| {
        states.delete(key, exists, token, out);
    });
    done(&asked.await?)
}

/// The state of a share-partition without its batches.
///
/// # Errors
/// [`StateError`].
pub async fn summary(state: &Arc<BrokerState>, key: &ShareKey) -> Result<Summary, StateError> {
    let exists = exists(state, key);
    let shard = shard(state, key).await?;
    shard.read(|states| states.summary(key, exists))
}
