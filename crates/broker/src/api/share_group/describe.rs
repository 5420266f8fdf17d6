//! ShareGroupDescribe (key 77): share groups with their members.

use dlog_groups::{GroupError, ShareDescription, ShareMemberDescription};
use kafka_protocol::messages::share_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{
    GroupId, ShareGroupDescribeRequest, ShareGroupDescribeResponse, TopicName,
};

use crate::api::authorized::{ALL_GROUP_OPERATIONS, NOT_ASKED};
use crate::api::{Context, named_once, text};
use crate::groups::shard_of;

/// The only assignor of share groups.
const ASSIGNOR: &str = "simple";

/// Answers ShareGroupDescribe.
pub async fn handle(
    ctx: &Context,
    request: ShareGroupDescribeRequest,
) -> ShareGroupDescribeResponse {
    let operations = if request.include_authorized_operations {
        ALL_GROUP_OPERATIONS
    } else {
        NOT_ASKED
    };
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for (group_id, _) in named_once(&request.group_ids, |id| id.clone()) {
        groups.push(match describe(ctx, group_id).await {
            Ok(found) => shown(found)
                .with_group_id(group_id.clone())
                .with_authorized_operations(operations),
            Err((error, message)) => DescribedGroup::default()
                .with_group_id(group_id.clone())
                .with_error_code(error.code())
                .with_error_message(message.map(text))
                .with_authorized_operations(NOT_ASKED),
        });
    }
    ShareGroupDescribeResponse::default().with_groups(groups)
}

async fn describe(
    ctx: &Context,
    group_id: &GroupId,
) -> Result<ShareDescription, (GroupError, Option<String>)> {
    let plain = |error: GroupError| (error, None);
    let shard = shard_of(&ctx.state, group_id).await.map_err(plain)?;
    shard.read(|groups| {
        groups
            .describe_share_group(group_id)
            .map_err(|error| match error {
                GroupError::GroupIdNotFound if groups.has_group(group_id) => {
                    let message = format!("Group {} is not a share group.", group_id.0);
                    (error, Some(message))
                }
                GroupError::GroupIdNotFound => {
                    (error, Some(format!("Group {} not found.", group_id.0)))
                }
                _ => plain(error),
            })
    })
}

fn shown(group: ShareDescription) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_state(text(group.state.as_str()))
        .with_group_epoch(group.group_epoch)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(text(ASSIGNOR))
        .with_members(group.members.into_iter().map(member).collect())
}

fn member(member: ShareMemberDescription) -> Member {
    let assigned = member.assigned.into_iter().map(|(id, name, partitions)| {
        TopicPartitions::default()
            .with_topic_id(id)
            .with_topic_name(TopicName(text(&*name)))
            .with_partitions(partitions)
    });
    let names = member.topic_names.iter();
    Member::default()
        .with_member_id(text(&*member.member_id))
        .with_rack_id(member.rack_id.map(|rack| text(&*rack)))
        .with_member_epoch(member.member_epoch)
        .with_client_id(text(&*member.client_id))
        .with_client_host(text(&*member.client_host))
        .with_subscribed_topic_names(names.map(|name| TopicName(text(&**name))).collect())
        .with_assignment(Assignment::default().with_topic_partitions(assigned.collect()))
}
