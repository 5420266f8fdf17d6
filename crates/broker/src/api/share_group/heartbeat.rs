//! ShareGroupHeartbeat (key 76): a member joins, is alive or leaves.

use std::sync::Arc;

use dlog_groups::{
    Assignment, GroupError, LEAVE_EPOCH, Refused, Reply, ShareBeat, ShareHeartbeat, ShareSettings,
};
use kafka_protocol::messages::share_group_heartbeat_response::{
    Assignment as GivenAssignment, TopicPartitions,
};
use kafka_protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};

use crate::api::{Context, text};
use crate::groups::{Shard, shard_of};
use crate::share::setup;
use crate::state::BrokerState;

/// Longest id of a member, in characters.
const MAX_MEMBER_CHARS: usize = 36;

/// Answers ShareGroupHeartbeat.
pub async fn handle(
    ctx: &Context,
    request: ShareGroupHeartbeatRequest,
) -> ShareGroupHeartbeatResponse {
    let response = ShareGroupHeartbeatResponse::default();
    match beat(ctx, &request).await {
        Ok(beat) => response
            .with_member_id(Some(text(beat.member_id)))
            .with_member_epoch(beat.member_epoch)
            .with_heartbeat_interval_ms(beat.heartbeat_interval_ms)
            .with_assignment(beat.assignment.as_ref().map(given)),
        Err(refused) => response
            .with_error_code(refused.error.code())
            .with_error_message(refused.message.map(text)),
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

async fn beat(ctx: &Context, request: &ShareGroupHeartbeatRequest) -> Result<ShareBeat, Refused> {
    let id = &request.member_id;
    if id.is_empty() || id.chars().count() > MAX_MEMBER_CHARS {
        return Err(Refused {
            error: GroupError::InvalidRequest,
            message: None,
        });
    }
    let shard = shard_of(&ctx.state, &request.group_id).await?;
    let beat = ask(ctx, &shard, request_of(ctx, request)).await?;
    if beat.member_epoch == LEAVE_EPOCH {
        let state = &ctx.state;
        state.share.release_member(state, &request.group_id, id);
    }
    if beat.to_initialize.parts.is_empty() {
        return Ok(beat);
    }
    let group: Arc<str> = request.group_id.as_str().into();
    setup::initialize(&ctx.state, &shard, &group, &beat.to_initialize).await;
    // What was set up can be assigned: the member need not wait for its next heartbeat.
    let mut again = request_of(ctx, request);
    again.member_epoch = beat.member_epoch;
    match ask(ctx, &shard, again).await {
        Ok(newer) => Ok(ShareBeat {
            assignment: newer.assignment.or(beat.assignment),
            ..newer
        }),
        // It was heard of once, and will be heard of again.
        Err(_) => Ok(beat),
    }
}

async fn ask(
    ctx: &Context,
    shard: &Arc<Shard>,
    request: ShareHeartbeat,
) -> Result<ShareBeat, Refused> {
    let asked = shard.ask(&ctx.state, |groups, now_ms, token, effects| {
        groups.share_heartbeat(now_ms, request, token, effects);
    });
    match asked.await? {
        Reply::ShareHeartbeat(outcome) => outcome,
        _ => Err(GroupError::UnknownServerError.into()),
    }
}

fn request_of(ctx: &Context, request: &ShareGroupHeartbeatRequest) -> ShareHeartbeat {
    let names = request.subscribed_topic_names.as_ref();
    ShareHeartbeat {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        member_epoch: request.member_epoch,
        rack_id: request.rack_id.as_ref().map(ToString::to_string),
        topic_names: names.map(|names| names.iter().map(|name| name.to_string()).collect()),
        client_id: ctx.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: format!("/{}", ctx.connection.peer.ip()),
        settings: settings_of(&ctx.state, &request.group_id),
    }
}

/// The settings of one share group.
fn settings_of(state: &BrokerState, group_id: &str) -> ShareSettings {
    let image = state.image();
    let config = state.group_config(&image, group_id);
    ShareSettings {
        session_timeout_ms: config.number("share.session.timeout.ms"),
        heartbeat_interval_ms: config.number("share.heartbeat.interval.ms"),
        assignment_interval_ms: config.number("share.assignment.interval.ms"),
    }
}
