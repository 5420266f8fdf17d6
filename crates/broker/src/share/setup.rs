//! Setting up and deleting the stored state of share-partitions, with the books that their group keeps
//! of it. *The group says first what is about to happen, and then that it did: after a crash in between
//! it is done again.*

use std::sync::Arc;

use dlog_groups::{GroupError, Part, Reply, ShareStateChange, ToInitialize};
use dlog_share::{ShareKey, StateError};
use uuid::Uuid;

use super::store;
use crate::groups::Shard;
use crate::state::BrokerState;

fn key(group: &Arc<str>, (topic_id, partition): Part) -> ShareKey {
    ShareKey {
        group: group.clone(),
        topic_id,
        partition,
    }
}

/// Tells the group what becomes of stored state; gives the group's epoch.
///
/// # Errors
/// That of the group.
pub async fn note(
    state: &Arc<BrokerState>,
    shard: &Arc<Shard>,
    group: &str,
    change: &ShareStateChange,
) -> Result<i32, GroupError> {
    let asked = shard.ask(state, |groups, now_ms, token, effects| {
        groups.share_state(now_ms, group, change, token, effects);
    });
    match asked.await? {
        Reply::ShareState(result) => result,
        _ => Err(GroupError::UnknownServerError),
    }
}

/// Sets up the state of share-partitions; those for which it failed.
pub async fn initialize(
    state: &Arc<BrokerState>,
    shard: &Arc<Shard>,
    group: &Arc<str>,
    what: &ToInitialize,
) -> Vec<(Part, StateError)> {
    let mut done = Vec::new();
    let mut failed = Vec::new();
    for &(part, start_offset) in &what.parts {
        let key = key(group, part);
        match store::initialize(state, &key, what.state_epoch, start_offset).await {
            Ok(()) => done.push(part),
            Err(error) => {
                tracing::warn!(share_partition = %key, %error, "the state of a share-partition is not set up");
                failed.push((part, error));
            }
        }
    }
    let not_done: Vec<Part> = failed.iter().map(|(part, _)| *part).collect();
    let changes = [
        ShareStateChange::Initialized(done),
        ShareStateChange::NotInitialized(not_done),
    ];
    for change in changes {
        let (ShareStateChange::Initialized(parts) | ShareStateChange::NotInitialized(parts)) =
            &change
        else {
            continue;
        };
        if parts.is_empty() {
            continue;
        }
        if let Err(error) = note(state, shard, group, &change).await {
            // The next heartbeat has it done once more, which changes nothing.
            tracing::warn!(group = %group, %error, "a share group did not hear of its state");
        }
    }
    failed
}

/// Deletes the state of these share-partitions of these topics, which their group has been told of;
/// topics for which it failed.
pub async fn delete(
    state: &Arc<BrokerState>,
    shard: &Arc<Shard>,
    group: &Arc<str>,
    topics: &[(Uuid, Vec<Part>)],
) -> Vec<(Uuid, StateError)> {
    let mut deleted = Vec::new();
    let mut failed = Vec::new();
    for (id, parts) in topics {
        let mut result = Ok(());
        for part in parts {
            match store::delete(state, &key(group, *part)).await {
                // With its topic went its state.
                Ok(()) | Err(StateError::UnknownTopicOrPartition) => {}
                Err(error) => result = Err(error),
            }
        }
        match result {
            Ok(()) => deleted.push(*id),
            Err(error) => failed.push((*id, error)),
        }
    }
    if !deleted.is_empty() {
        let change = ShareStateChange::Deleted(deleted);
        if let Err(error) = note(state, shard, group, &change).await {
            tracing::warn!(group = %group, %error, "a share group did not hear that state is deleted");
        }
    }
    failed
}

/// Deletes all state of a share group that nobody is in. A group of another kind has none.
///
/// # Errors
/// `NON_EMPTY_GROUP`, or that the state cannot be deleted now.
pub async fn delete_all(
    state: &Arc<BrokerState>,
    shard: &Arc<Shard>,
    group: &str,
) -> Result<(), GroupError> {
    let Ok(ids) = shard.read(|groups| groups.share_state_topics(group)) else {
        return Ok(());
    };
    let topics: Vec<(Uuid, Vec<Part>)> = ids
        .iter()
        .map(|id| (*id, parts_of(state, shard, group, *id)))
        .collect();
    note(state, shard, group, &ShareStateChange::Deleting(ids)).await?;
    state.share.retire_group(group);
    let group: Arc<str> = group.into();
    let failed = delete(state, shard, &group, &topics).await;
    if failed.is_empty() {
        Ok(())
    } else {
        Err(GroupError::CoordinatorNotAvailable)
    }
}

/// The partitions of a topic of which a group may have stored state.
pub fn parts_of(state: &BrokerState, shard: &Arc<Shard>, group: &str, topic_id: Uuid) -> Vec<Part> {
    let topic = state.partitions.topic_by_id(topic_id);
    let count = topic.map_or(0, |topic| topic.partitions.len());
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let parts = shard.read(|groups| groups.share_state_parts(group, topic_id, count));
    parts.ok().flatten().unwrap_or_default()
}
