//! The ends of transactions are written into their partitions.
//!
//! All partitions are on this node: markers go straight into their logs, those of `__consumer_offsets`
//! through its coordinator, which has to know. Each partition is on its own: one that fails, or whose flush
//! takes long, holds up no other one, and the coordinator decides when it is tried again.

use std::sync::Arc;

use dlog_coordination::{PersistError, TransactionMarker};
use dlog_groups::Reply;
use dlog_storage::{Acknowledged, EndMarker, StorageError};
use dlog_transactions::{MarkerOutcome, Markers, TopicPartition, TransactionVersion};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::Shard;
use crate::groups::OFFSETS_TOPIC;
use crate::partitions::append_marker;
use crate::state::BrokerState;

/// Markers written before other tasks get their turn.
const AT_ONCE: usize = 64;

/// Outcomes reported in one step.
const REPORTED_AT_ONCE: usize = 256;

/// A marker on its way.
enum Marked {
    /// It is in the log, and acknowledged when this says so.
    Appended(Acknowledged),
    /// The coordinator of groups has to write it.
    ThroughGroups,
    /// The partition does not exist any more: nothing is left to be marked.
    Needless,
}

/// The marker as the log takes it.
pub(crate) fn end_marker(marker: &TransactionMarker, now_ms: i64) -> EndMarker {
    EndMarker {
        producer_id: marker.producer.id,
        producer_epoch: marker.producer.epoch,
        committed: marker.committed,
        coordinator_epoch: marker.coordinator_epoch,
        timestamp_ms: now_ms,
        strict_epoch: marker.strict_epoch,
    }
}

/// Writes the markers of a transaction and reports what became of each.
pub(super) async fn write(state: Arc<BrokerState>, shard: Arc<Shard>, markers: Markers) {
    let marker = TransactionMarker {
        producer: markers.producer,
        committed: markers.committed,
        coordinator_epoch: markers.coordinator_epoch,
        strict_epoch: markers.transaction_version >= TransactionVersion::V2,
    };
    tracing::debug!(
        transactional_id = %markers.transactional_id,
        producer_id = marker.producer.id,
        epoch = marker.producer.epoch,
        committed = marker.committed,
        partitions = markers.partitions.len(),
        "a transaction ends"
    );
    let report = |outcomes: Vec<(TopicPartition, MarkerOutcome)>| {
        let again = outcomes
            .iter()
            .filter(|(_, outcome)| *outcome == MarkerOutcome::Retry);
        state.metrics.markers_to_retry(again.count());
        shard.step(&state, |machine, now_ms, effects| {
            machine.markers_written(now_ms, markers.id, &outcomes, effects);
        });
    };
    let (mut done, under_way) = (Vec::new(), FuturesUnordered::new());
    for (at, partition) in markers.partitions.into_iter().enumerate() {
        match begin(&state, &partition, &marker) {
            Ok(Marked::Needless) => done.push((partition, MarkerOutcome::Done)),
            Ok(marked) => under_way.push(end(&state, partition, marked, marker)),
            Err(outcome) => done.push((partition, outcome)),
        }
        if at % AT_ONCE == AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
    if !done.is_empty() {
        report(done);
    }
    let mut ended = under_way.ready_chunks(REPORTED_AT_ONCE);
    while let Some(outcomes) = ended.next().await {
        report(outcomes);
    }
}

fn begin(
    state: &BrokerState,
    at: &TopicPartition,
    marker: &TransactionMarker,
) -> Result<Marked, MarkerOutcome> {
    if *at.topic == *OFFSETS_TOPIC {
        return Ok(Marked::ThroughGroups);
    }
    if let Some(partition) = state.partitions.partition(&at.topic, at.partition) {
        let appended = append_marker(&partition, end_marker(marker, state.now_ms()));
        return appended
            .map(Marked::Appended)
            .map_err(|error| judge(&error));
    }
    let image = state.image();
    let count = image.topic(&at.topic).map_or(0, |t| t.partitions.len());
    if usize::try_from(at.partition).is_ok_and(|index| index < count) {
        // About to be opened.
        Err(MarkerOutcome::Retry)
    } else {
        Ok(Marked::Needless)
    }
}

async fn end(
    state: &Arc<BrokerState>,
    at: TopicPartition,
    marked: Marked,
    marker: TransactionMarker,
) -> (TopicPartition, MarkerOutcome) {
    let outcome = match marked {
        Marked::Needless => MarkerOutcome::Done,
        Marked::Appended(acknowledged) => match acknowledged.await {
            Ok(()) => MarkerOutcome::Done,
            Err(error) => judge(&error),
        },
        Marked::ThroughGroups => match through_groups(state, at.partition, marker).await {
            Ok(()) | Err(PersistError::ProducerFenced) => MarkerOutcome::Done,
            Err(PersistError::CoordinatorFenced) => MarkerOutcome::CoordinatorFenced,
            Err(_) => MarkerOutcome::Retry,
        },
    };
    (at, outcome)
}

/// Has the coordinator of groups end a transaction in its partition.
///
/// # Errors
/// Why it was not written.
pub async fn through_groups(
    state: &Arc<BrokerState>,
    partition: i32,
    marker: TransactionMarker,
) -> Result<(), PersistError> {
    let shards = state.groups.all(state).await;
    let shards = shards.map_err(|_| PersistError::Unavailable)?;
    let shard = usize::try_from(partition)
        .ok()
        .and_then(|at| shards.get(at));
    let shard = shard.ok_or(PersistError::NotLeader)?;
    let asked = shard.ask(state, |groups, now_ms, token, effects| {
        groups.end_transaction(now_ms, marker, token, effects);
    });
    match asked.await {
        Ok(Reply::EndTransaction(result)) => result,
        Ok(_) => Err(PersistError::Failed),
        Err(_) => Err(PersistError::Unavailable),
    }
}

fn judge(error: &StorageError) -> MarkerOutcome {
    match error {
        // A newer transaction of the producer has begun there: this one has ended.
        StorageError::ProducerFenced { .. } => MarkerOutcome::Done,
        StorageError::CoordinatorFenced { .. } => MarkerOutcome::CoordinatorFenced,
        _ => MarkerOutcome::Retry,
    }
}
