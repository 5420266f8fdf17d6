//! WriteTxnMarkers (key 27): the ends of transactions, written into the partitions that are led here
//! (KIP-98). Coordinators send it, and whoever aborts a transaction that no coordinator ends (KIP-664).
//!
//! Answered once the markers are acknowledged, or refused.

use std::collections::HashSet;
use std::time::Duration;

use dlog_coordination::{PersistError, Producer, TransactionMarker};
use dlog_storage::Acknowledged;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use super::Context;
use crate::error::storage_error_code;
use crate::groups::OFFSETS_TOPIC;
use crate::net::reply::Outcome;
use crate::partitions::append_marker;
use crate::protocol::{ProtocolError, RawRequest, newer};
use crate::transactions::{end_marker, through_groups};

/// The request has no timeout: Kafka takes its `request.timeout.ms` for it, and so does this.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Markers of transactions of this version on carry an epoch above the producer's (KIP-1228).
const STRICT_EPOCH: i8 = 2;

/// Answers WriteTxnMarkers.
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let (request, versions) = if raw.version >= 2 {
        newer::write_txn_markers_request(raw)?
    } else {
        (raw.decode::<WriteTxnMarkersRequest>()?, Vec::new())
    };
    let mut waits = Vec::new();
    let mut markers = Vec::with_capacity(request.markers.len());
    for (i, marker) in request.markers.iter().enumerate() {
        let strict_epoch = versions
            .get(i)
            .is_some_and(|version| *version >= STRICT_EPOCH);
        markers.push(append(ctx, marker, strict_epoch, i, &mut waits));
    }
    let mut response = WriteTxnMarkersResponse::default().with_markers(markers);
    let all = acknowledge(ctx, &mut response, waits);
    // What is not settled by then stays marked as timed out.
    drop(tokio::time::timeout(TIMEOUT, all).await);
    Ok(Outcome::Ready(raw.reply(&response)?))
}

/// A marker whose acknowledgement is waited for, and where its result is in the response.
struct Wait {
    at: [usize; 3],
    pending: Pending,
}

/// A marker on its way.
enum Pending {
    /// It is in the log.
    Appended(Acknowledged),
    /// The coordinator of groups, who has to know of it, writes it into its partition.
    ThroughGroups(i32, TransactionMarker),
}

impl Pending {
    async fn end(self, ctx: &Context) -> i16 {
        match self {
            Self::Appended(acknowledged) => match acknowledged.await {
                Ok(()) => 0,
                Err(error) => storage_error_code(&error).code(),
            },
            Self::ThroughGroups(partition, marker) => {
                match through_groups(&ctx.state, partition, marker).await {
                    Ok(()) => 0,
                    Err(error) => code_of(error).code(),
                }
            }
        }
    }
}

fn code_of(error: PersistError) -> ResponseError {
    match error {
        PersistError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        PersistError::CoordinatorFenced => ResponseError::TransactionCoordinatorFenced,
        PersistError::Unavailable => ResponseError::CoordinatorNotAvailable,
        PersistError::NotLeader => ResponseError::NotLeaderOrFollower,
        PersistError::TimedOut => ResponseError::RequestTimedOut,
        PersistError::TooLarge | PersistError::Failed => ResponseError::KafkaStorageError,
    }
}

/// Appends one marker to its partitions. Those that have to be waited for are marked as timed out.
fn append(
    ctx: &Context,
    marker: &WritableTxnMarker,
    strict_epoch: bool,
    at: usize,
    waits: &mut Vec<Wait>,
) -> WritableTxnMarkerResult {
    let end = TransactionMarker {
        producer: Producer {
            id: marker.producer_id.0,
            epoch: marker.producer_epoch,
        },
        committed: marker.transaction_result,
        coordinator_epoch: marker.coordinator_epoch,
        strict_epoch,
    };
    // A partition that is named twice gets one marker and one answer, as in Kafka.
    let mut seen = HashSet::new();
    let topics = marker.topics.iter().enumerate().map(|(t, topic)| {
        let partitions = topic
            .partition_indexes
            .iter()
            .filter(|index| seen.insert((topic.name.clone(), **index)))
            .enumerate()
            .map(|(p, index)| {
                let code = match append_one(ctx, &topic.name, *index, end) {
                    Ok(Pending::Appended(acknowledged)) if acknowledged.is_ready() => 0,
                    Ok(pending) => {
                        waits.push(Wait {
                            at: [at, t, p],
                            pending,
                        });
                        ResponseError::RequestTimedOut.code()
                    }
                    Err(error) => error.code(),
                };
                WritableTxnMarkerPartitionResult::default()
                    .with_partition_index(*index)
                    .with_error_code(code)
            });
        WritableTxnMarkerTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    WritableTxnMarkerResult::default()
        .with_producer_id(marker.producer_id)
        .with_topics(topics.collect())
}

fn append_one(
    ctx: &Context,
    topic: &str,
    index: i32,
    marker: TransactionMarker,
) -> Result<Pending, ResponseError> {
    let partition = ctx.state.partitions.partition(topic, index);
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    if topic == OFFSETS_TOPIC {
        return Ok(Pending::ThroughGroups(index, marker));
    }
    append_marker(&partition, end_marker(&marker, ctx.state.now_ms()))
        .map(Pending::Appended)
        .map_err(|error| storage_error_code(&error))
}

async fn acknowledge(ctx: &Context, response: &mut WriteTxnMarkersResponse, waits: Vec<Wait>) {
    for Wait { at, pending } in waits {
        let code = pending.end(ctx).await;
        let [marker, topic, partition] = at;
        let slot = &mut response.markers[marker].topics[topic].partitions[partition];
        slot.error_code = code;
    }
}
