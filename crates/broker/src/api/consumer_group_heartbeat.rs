//! ConsumerGroupHeartbeat (key 68): consumer groups whose assignment the server makes (KIP-848).

use dlog_groups::{
    Assignment, ConsumerBeat, ConsumerHeartbeat, GroupError, LEAVE_EPOCH, Refused, Reply,
    STATIC_LEAVE_EPOCH,
};
use kafka_protocol::messages::consumer_group_heartbeat_response::{
    Assignment as GivenAssignment, TopicPartitions,
};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::{Context, text};
use crate::groups::{consumer_settings, shard_of};

/// The member makes its own id from this version on (KIP-1082).
const OWN_MEMBER_ID: i16 = 1;

/// Answers ConsumerGroupHeartbeat.
pub async fn handle(
    ctx: &Context,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let response = ConsumerGroupHeartbeatResponse::default();
    match beat(ctx, request).await {
        Ok(beat) => {
            let leaves = matches!(beat.member_epoch, LEAVE_EPOCH | STATIC_LEAVE_EPOCH);
            response
                .with_member_id(Some(text(beat.member_id)))
                .with_member_epoch(beat.member_epoch)
                .with_heartbeat_interval_ms(if leaves {
                    0
                } else {
                    beat.heartbeat_interval_ms
                })
                .with_assignment(beat.assignment.as_ref().map(given))
        }
        Err(refused) => response
            .with_error_code(refused.error.code())
            .with_error_message(Some(text(
                refused.message.unwrap_or_else(|| refused.error.to_string()),
            ))),
    }
}

fn given(assignment: &Assignment) -> GivenAssignment {
    let topics = assignment.by_topic().into_iter().map(|(id, partitions)| {
        TopicPartitions::default()
            .with_topic_id(id)
            .with_partitions(partitions)
    });
    GivenAssignment::default().with_topic_partitions(topics.collect())
}

async fn beat(
    ctx: &Context,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerBeat, Refused> {
    let shard = shard_of(&ctx.state, &request.group_id).await?;
    let beat = request_of(ctx, request);
    let asked = shard.ask(&ctx.state, |groups, now_ms, token, effects| {
        groups.consumer_heartbeat(now_ms, &beat, token, effects);
    });
    match asked.await? {
        Reply::ConsumerHeartbeat(outcome) => outcome,
        _ => Err(GroupError::UnknownServerError.into()),
    }
}

fn request_of(ctx: &Context, request: ConsumerGroupHeartbeatRequest) -> ConsumerHeartbeat {
    let settings = consumer_settings(&ctx.state, &request.group_id);
    let owned = request.topic_partitions.as_ref().map(|topics| {
        let topics = topics
            .iter()
            .map(|topic| (topic.topic_id, &*topic.partitions));
        Assignment::from_topics(topics)
    });
    let names = request.subscribed_topic_names;
    ConsumerHeartbeat {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        member_epoch: request.member_epoch,
        instance_id: request.instance_id.map(|id| id.to_string()),
        rack_id: request.rack_id.map(|rack| rack.to_string()),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topic_names: names.map(|names| names.iter().map(|name| name.to_string()).collect()),
        topic_regex: request
            .subscribed_topic_regex
            .map(|regex| regex.to_string()),
        server_assignor: request.server_assignor.map(|name| name.to_string()),
        owned,
        client_id: ctx.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: format!("/{}", ctx.connection.peer.ip()),
        requires_member_id: ctx.version >= OWN_MEMBER_ID,
        member_uuid: uuid::Uuid::new_v4(),
        settings,
    }
}
