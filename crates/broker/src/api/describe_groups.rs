//! DescribeGroups (key 15): groups with their members.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::authorized::{ALL_GROUP_OPERATIONS, NOT_ASKED};
use super::{Context, text};
use crate::groups::machine::api::MemberDescription;
use crate::groups::machine::{GroupError, GroupState};

/// A group that does not exist is an error from this version on (KIP-1043).
const NOT_FOUND: i16 = 6;
/// Static instance ids are shown from this version on.
const INSTANCE_ID: i16 = 4;

/// Answers DescribeGroups.
pub async fn handle(ctx: &Context, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let operations = if request.include_authorized_operations {
        ALL_GROUP_OPERATIONS
    } else {
        NOT_ASKED
    };
    let mut groups = Vec::with_capacity(request.groups.len());
    for group_id in request.groups {
        groups.push(
            describe(ctx, group_id)
                .await
                .with_authorized_operations(operations),
        );
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

async fn describe(ctx: &Context, group_id: GroupId) -> DescribedGroup {
    let answer = DescribedGroup::default().with_group_id(group_id.clone());
    let Ok(shard) = ctx.state.groups.shard(&ctx.state, &group_id).await else {
        return answer.with_error_code(GroupError::CoordinatorNotAvailable.code());
    };
    let Some(group) = shard.read(|groups| groups.describe(&group_id)) else {
        let dead = answer.with_group_state(StrBytes::from_static_str(GroupState::Dead.name()));
        if ctx.version < NOT_FOUND {
            return dead;
        }
        let message = format!("Group {} not found.", group_id.0);
        return dead
            .with_error_code(ResponseError::GroupIdNotFound.code())
            .with_error_message(Some(text(message)));
    };
    answer
        .with_group_state(StrBytes::from_static_str(group.state.name()))
        .with_protocol_type(text(group.protocol_type))
        .with_protocol_data(text(group.protocol))
        .with_members(
            group
                .members
                .into_iter()
                .map(|member| shown(ctx.version, member))
                .collect(),
        )
}

fn shown(version: i16, member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(text(member.member_id))
        .with_group_instance_id(
            member
                .instance_id
                .filter(|_| version >= INSTANCE_ID)
                .map(text),
        )
        .with_client_id(text(member.client_id))
        .with_client_host(text(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}
