//! ListOffsets (key 2): the first, the last, the newest, or the offset at a time. Who reads only what was
//! committed is told nothing behind the last stable offset (KIP-98).

use dlog_storage::TimestampOffset;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};

use super::{Context, named_once};
use crate::error::storage_error_code;
use crate::state::BrokerState;

const READ_COMMITTED: i8 = 1;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The version that came with a special timestamp.
fn since(timestamp: i64) -> i16 {
    match timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => 0,
    }
}

/// What was found: timestamp, offset, leader epoch.
struct Found {
    timestamp: i64,
    offset: i64,
    epoch: i32,
}

const NOTHING: Found = Found {
    timestamp: -1,
    offset: -1,
    epoch: -1,
};

/// Answers ListOffsets.
pub async fn handle(ctx: &Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    // By time, the log is read.
    let on_disk = request
        .topics
        .iter()
        .flat_map(|t| &t.partitions)
        .any(|p| p.timestamp >= 0 || matches!(p.timestamp, MAX_TIMESTAMP));
    if on_disk {
        let version = ctx.version;
        ctx.blocking(move |state| answer(state, version, request))
            .await
    } else {
        answer(&ctx.state, ctx.version, request)
    }
}

fn answer(state: &BrokerState, version: i16, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed_only = request.isolation_level == READ_COMMITTED;
    let topics = request.topics.into_iter().map(|topic| {
        let once = named_once(&topic.partitions, |asked| asked.partition_index);
        let partitions = once.map(|(asked, repeated)| {
            let slot =
                ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            let found = if repeated {
                Err(ResponseError::InvalidRequest)
            } else {
                find(state, version, committed_only, &topic.name, asked)
            };
            match found {
                Ok(found) => slot
                    .with_timestamp(found.timestamp)
                    .with_offset(found.offset)
                    // The field came with version 4 and must keep its default before.
                    .with_leader_epoch(if version >= 4 { found.epoch } else { -1 }),
                Err(error) => slot
                    .with_error_code(error.code())
                    .with_timestamp(-1)
                    .with_offset(-1),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn find(
    state: &BrokerState,
    version: i16,
    committed_only: bool,
    topic: &TopicName,
    asked: &ListOffsetsPartition,
) -> Result<Found, ResponseError> {
    let partition = state
        .partitions
        .partition(topic, asked.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    partition.check_leader_epoch(asked.current_leader_epoch)?;
    if version < since(asked.timestamp) {
        return Err(ResponseError::UnsupportedVersion);
    }
    let log = partition.log()?;
    let epoch_at = |offset| {
        log.epoch_at(offset)
            .unwrap_or_else(|| partition.leader_epoch())
    };
    let storage = |error| {
        tracing::warn!(topic = %topic.0, partition = asked.partition_index, %error, "offsets cannot be listed");
        storage_error_code(&error)
    };
    let end = if committed_only {
        log.last_stable_offset()
    } else {
        log.acknowledged_end()
    };
    let found = |found: Option<TimestampOffset>| match found {
        Some(found) if found.offset < end => Found {
            timestamp: found.timestamp_ms,
            offset: found.offset,
            epoch: found.leader_epoch,
        },
        _ => NOTHING,
    };
    match asked.timestamp {
        LATEST => Ok(Found {
            timestamp: -1,
            offset: end,
            epoch: partition.leader_epoch(),
        }),
        EARLIEST | EARLIEST_LOCAL => {
            let offset = log.log_start_offset();
            Ok(Found {
                timestamp: -1,
                offset,
                epoch: epoch_at(offset),
            })
        }
        MAX_TIMESTAMP => log.max_timestamp().map(found).map_err(storage),
        // Nothing is tiered, and nothing will be.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(NOTHING),
        timestamp if timestamp >= 0 => {
            let at_time = log.offset_for_timestamp(timestamp);
            at_time.map(found).map_err(storage)
        }
        _ => Err(ResponseError::UnsupportedVersion),
    }
}
