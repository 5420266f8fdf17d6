//! JoinGroup (key 11): classic consumer groups; waits until the generation begins.

use dlog_groups::{GroupError, JoinGroup, JoinRefused, Joined, Protocol, Reply};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::{Context, text};

/// New members are sent away with an id first from this version on (KIP-394).
const MEMBER_ID_REQUIRED: i16 = 4;
/// Static instance ids are shown to the leader from this version on (KIP-345).
const INSTANCE_ID: i16 = 5;
/// The protocol type is in the answer from this version on (KIP-559).
const PROTOCOL_TYPE: i16 = 7;
/// The leader may be told not to assign again from this version on (KIP-814).
const SKIP_ASSIGNMENT: i16 = 9;

/// Answers JoinGroup.
pub async fn handle(ctx: &Context, request: JoinGroupRequest) -> JoinGroupResponse {
    let member_id = request.member_id.to_string();
    match join(ctx, request).await {
        Ok(joined) => accepted(ctx.version, joined),
        Err(JoinRefused {
            error,
            member_id: id,
        }) => {
            // Whoever could not be asked about gets the id back that it came with.
            let id = if id.is_empty() { member_id } else { id };
            JoinGroupResponse::default()
                .with_error_code(error.code())
                .with_generation_id(-1)
                .with_protocol_name(protocol_name(ctx.version, None))
                .with_member_id(text(id))
        }
    }
}

async fn join(ctx: &Context, request: JoinGroupRequest) -> Result<Joined, JoinRefused> {
    let refused = |error| JoinRefused {
        error,
        member_id: String::new(),
    };
    let shard = crate::groups::shard_of(&ctx.state, &request.group_id)
        .await
        .map_err(refused)?;
    let join = request_of(ctx, request);
    let asked = shard.ask(&ctx.state, |groups, now_ms, token, effects| {
        groups.join_group(now_ms, join, token, effects);
    });
    match asked.await.map_err(refused)? {
        Reply::Join(joined) => joined,
        _ => Err(refused(GroupError::UnknownServerError)),
    }
}

fn request_of(ctx: &Context, request: JoinGroupRequest) -> JoinGroup {
    JoinGroup {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        client_id: ctx.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: format!("/{}", ctx.connection.peer.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| Protocol {
                name: protocol.name.to_string(),
                metadata: protocol.metadata,
            })
            .collect(),
        reason: request.reason.map(|reason| reason.to_string()),
        require_known_member_id: ctx.version >= MEMBER_ID_REQUIRED,
        supports_skipping_assignment: ctx.version >= SKIP_ASSIGNMENT,
        member_uuid: uuid::Uuid::new_v4(),
    }
}

/// Before version 7 the name cannot be null.
fn protocol_name(version: i16, name: Option<String>) -> Option<kafka_protocol::protocol::StrBytes> {
    match name {
        Some(name) => Some(text(name)),
        None => (version < PROTOCOL_TYPE).then(|| text("")),
    }
}

fn accepted(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(
                member
                    .group_instance_id
                    .filter(|_| version >= INSTANCE_ID)
                    .map(text),
            )
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation_id)
        .with_protocol_type(
            joined
                .protocol_type
                .filter(|_| version >= PROTOCOL_TYPE)
                .map(text),
        )
        .with_protocol_name(protocol_name(version, joined.protocol_name))
        .with_leader(text(joined.leader))
        .with_skip_assignment(joined.skip_assignment && version >= SKIP_ASSIGNMENT)
        .with_member_id(text(joined.member_id))
        .with_members(members.collect())
}
