//! DescribeGroups (key 15): groups with their members.

use dlog_groups::{GroupDescription, GroupError, GroupState, MemberDescription};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::authorized::{ALL_GROUP_OPERATIONS, NOT_ASKED};
use super::{Context, named_once, text};

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
    // Each group is answered once, so that the answer is not larger than all groups.
    for (group_id, _) in named_once(&request.groups, |id| id.clone()) {
        let found = describe(ctx, group_id).await;
        let operations = if found.is_ok() || ctx.version < NOT_FOUND {
            operations
        } else {
            NOT_ASKED
        };
        groups.push(answer(ctx.version, group_id, found).with_authorized_operations(operations));
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

async fn describe(ctx: &Context, group_id: &str) -> Result<GroupDescription, GroupError> {
    let shard = crate::groups::shard_of(&ctx.state, group_id).await?;
    shard.read(|groups| groups.describe_group(group_id))
}

fn answer(
    version: i16,
    group_id: &GroupId,
    found: Result<GroupDescription, GroupError>,
) -> DescribedGroup {
    let answer = DescribedGroup::default().with_group_id(group_id.clone());
    let dead = || {
        answer
            .clone()
            .with_group_state(StrBytes::from_static_str(GroupState::Dead.as_str()))
    };
    match found {
        Ok(group) => answer
            .with_group_state(StrBytes::from_static_str(group.state.as_str()))
            .with_protocol_type(text(group.protocol_type))
            .with_protocol_data(text(group.protocol))
            .with_members(
                group
                    .members
                    .into_iter()
                    .map(|member| shown(version, member))
                    .collect(),
            ),
        Err(GroupError::GroupIdNotFound) if version < NOT_FOUND => dead(),
        Err(error @ GroupError::GroupIdNotFound) => dead()
            .with_error_code(error.code())
            .with_error_message(Some(text(format!("Group {} not found.", group_id.0)))),
        Err(error) => answer.with_error_code(error.code()),
    }
}

fn shown(version: i16, member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(text(&*member.member_id))
        .with_group_instance_id(
            member
                .group_instance_id
                .filter(|_| version >= INSTANCE_ID)
                .map(|id| text(&*id)),
        )
        .with_client_id(text(member.client_id))
        .with_client_host(text(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}
