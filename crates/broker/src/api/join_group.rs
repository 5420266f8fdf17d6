//! JoinGroup (key 11): classic consumer groups; waits until the generation begins.

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::{Context, text};
use crate::groups::machine::api::{Join, Joined};
use crate::groups::machine::{GroupError, Reply};

/// New members are sent away with an id first from this version on (KIP-394).
const MEMBER_ID_REQUIRED: i16 = 4;
/// The protocol type is in the answer from this version on (KIP-559).
const PROTOCOL_TYPE: i16 = 7;
/// The leader may be told not to assign again from this version on (KIP-814).
const SKIP_ASSIGNMENT: i16 = 9;

/// Answers JoinGroup.
pub async fn handle(ctx: &Context, request: JoinGroupRequest) -> JoinGroupResponse {
    let member_id = request.member_id.to_string();
    let joined = match ctx.state.groups.shard(&ctx.state, &request.group_id).await {
        Ok(shard) => {
            let (join, new_id) = (join(ctx, request), new_member_id(ctx));
            let now_ms = ctx.state.now_ms();
            let answer = shard
                .ask(&ctx.state, |groups, token| {
                    groups.join(&join, new_id, token, now_ms);
                })
                .await;
            match answer {
                Some(Reply::Join(joined)) => joined,
                _ => refused(GroupError::CoordinatorNotAvailable, &member_id),
            }
        }
        Err(_) => refused(GroupError::CoordinatorNotAvailable, &member_id),
    };
    response(ctx.version, joined)
}

fn join(ctx: &Context, request: JoinGroupRequest) -> Join {
    Join {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|id| id.to_string()),
        client_id: ctx.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: format!("/{}", ctx.connection.peer.ip()),
        session_timeout_ms: request.session_timeout_ms,
        // Version 0 has one timeout for both.
        rebalance_timeout_ms: if ctx.version == 0 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        },
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|p| (p.name.to_string(), p.metadata))
            .collect(),
        member_id_required: ctx.version >= MEMBER_ID_REQUIRED,
        knows_skip_assignment: ctx.version >= SKIP_ASSIGNMENT,
    }
}

fn new_member_id(ctx: &Context) -> String {
    format!(
        "{}-{}",
        ctx.client_id.as_deref().unwrap_or_default(),
        uuid::Uuid::new_v4()
    )
}

fn refused(error: GroupError, member_id: &str) -> Joined {
    Joined {
        error: Some(error),
        generation: -1,
        protocol_type: None,
        protocol: None,
        leader: String::new(),
        skip_assignment: false,
        member_id: member_id.to_owned(),
        members: Vec::new(),
    }
}

fn response(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.filter(|_| version >= 5).map(text))
            .with_metadata(member.metadata)
    });
    // Before version 7 the protocol cannot be null.
    let protocol = match joined.protocol {
        Some(protocol) => Some(text(protocol)),
        None if version < PROTOCOL_TYPE => Some(text("")),
        None => None,
    };
    JoinGroupResponse::default()
        .with_error_code(joined.error.map_or(0, GroupError::code))
        .with_generation_id(joined.generation)
        .with_protocol_type(
            joined
                .protocol_type
                .filter(|_| version >= PROTOCOL_TYPE)
                .map(text),
        )
        .with_protocol_name(protocol)
        .with_leader(text(joined.leader))
        .with_skip_assignment(joined.skip_assignment && version >= SKIP_ASSIGNMENT)
        .with_member_id(text(joined.member_id))
        .with_members(members.collect())
}
