//! LeaveGroup (key 13): one member, or from version 3 several (KIP-345).

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::{Context, text};
use crate::groups::machine::GroupError;

/// Several members leave in one request from this version on.
const SEVERAL: i16 = 3;

/// Answers LeaveGroup.
pub async fn handle(ctx: &Context, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let Ok(shard) = ctx.state.groups.shard(&ctx.state, &request.group_id).await else {
        return LeaveGroupResponse::default()
            .with_error_code(GroupError::CoordinatorNotAvailable.code());
    };
    let members: Vec<(String, Option<String>)> = if ctx.version >= SEVERAL {
        let of = |m: &kafka_protocol::messages::leave_group_request::MemberIdentity| {
            (
                m.member_id.to_string(),
                m.group_instance_id.as_ref().map(ToString::to_string),
            )
        };
        request.members.iter().map(of).collect()
    } else {
        vec![(request.member_id.to_string(), None)]
    };
    let now_ms = ctx.state.now_ms();
    let results = shard.step(&ctx.state, |groups| {
        groups.leave(&request.group_id, &members, now_ms)
    });
    let codes = results
        .iter()
        .map(|result| result.err().map_or(0, GroupError::code));
    if ctx.version < SEVERAL {
        return LeaveGroupResponse::default().with_error_code(codes.sum());
    }
    let members = members
        .iter()
        .zip(codes)
        .map(|((member_id, instance_id), code)| {
            MemberResponse::default()
                .with_member_id(text(member_id))
                .with_group_instance_id(instance_id.as_ref().map(text))
                .with_error_code(code)
        });
    LeaveGroupResponse::default().with_members(members.collect())
}
