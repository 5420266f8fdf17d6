//! ConsumerGroupDescribe (key 69): consumer groups with their epochs and members (KIP-848).

use dlog_groups::{ConsumerDescription, ConsumerMemberDescription, GroupError, NamedTopic};
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::authorized::{ALL_GROUP_OPERATIONS, NOT_ASKED};
use super::{Context, named_once, text};
use crate::groups::shard_of;

/// The kind of a member is told from this version on (KIP-1099).
const MEMBER_TYPE: i16 = 1;
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

/// Answers ConsumerGroupDescribe.
pub async fn handle(
    ctx: &Context,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let operations = if request.include_authorized_operations {
        ALL_GROUP_OPERATIONS
    } else {
        NOT_ASKED
    };
    let mut groups = Vec::with_capacity(request.group_ids.len());
    // Each group is answered once, so that the answer is not larger than all groups.
    for (group_id, _) in named_once(&request.group_ids, |id| id.clone()) {
        let answer = match describe(ctx, group_id).await {
            Ok(group) => {
                described(ctx.version, group_id, group).with_authorized_operations(operations)
            }
            Err((error, message)) => DescribedGroup::default()
                .with_group_id(group_id.clone())
                .with_error_code(error.code())
                .with_error_message(message.map(text)),
        };
        groups.push(answer);
    }
    ConsumerGroupDescribeResponse::default().with_groups(groups)
}

async fn describe(
    ctx: &Context,
    group_id: &str,
) -> Result<ConsumerDescription, (GroupError, Option<String>)> {
    let shard = shard_of(&ctx.state, group_id)
        .await
        .map_err(|error| (error, None))?;
    shard.read(|groups| {
        groups.describe_consumer_group(group_id).map_err(|error| {
            let message = match error {
                GroupError::GroupIdNotFound if groups.has_group(group_id) => {
                    Some(format!("Group {group_id} is not a consumer group."))
                }
                GroupError::GroupIdNotFound => Some(format!("Group {group_id} not found.")),
                _ => None,
            };
            (error, message)
        })
    })
}

fn described(version: i16, group_id: &GroupId, group: ConsumerDescription) -> DescribedGroup {
    let members = group.members.into_iter().map(|m| shown(version, m));
    DescribedGroup::default()
        .with_group_id(group_id.clone())
        .with_group_state(StrBytes::from_static_str(group.state.as_str()))
        .with_group_epoch(group.group_epoch)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(StrBytes::from_static_str(group.assignor))
        .with_members(members.collect())
}

fn shown(version: i16, member: ConsumerMemberDescription) -> Member {
    let names = member.topic_names.iter();
    let shown = Member::default()
        .with_member_id(text(&*member.member_id))
        .with_instance_id(member.instance_id.as_deref().map(text))
        .with_rack_id(member.rack_id.as_deref().map(text))
        .with_member_epoch(member.member_epoch)
        .with_client_id(text(&*member.client_id))
        .with_client_host(text(&*member.client_host))
        .with_subscribed_topic_names(names.map(|name| TopicName(text(&**name))).collect())
        .with_subscribed_topic_regex(Some(text(
            member.topic_regex.as_deref().unwrap_or_default(),
        )))
        .with_assignment(assignment(member.assigned))
        .with_target_assignment(assignment(member.target));
    match version {
        ..MEMBER_TYPE => shown,
        _ if member.is_classic => shown.with_member_type(CLASSIC_MEMBER),
        _ => shown.with_member_type(CONSUMER_MEMBER),
    }
}

fn assignment(topics: Vec<NamedTopic>) -> Assignment {
    let topics = topics.into_iter().map(|(id, name, partitions)| {
        TopicPartitions::default()
            .with_topic_id(id)
            .with_topic_name(TopicName(text(&*name)))
            .with_partitions(partitions)
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
