//! Groups as an administrator sees them: who is in them, what they have committed, and changing that.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{Assignment, DescribedGroup};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, GroupId,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, TopicName,
    describe_groups_response,
};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::Client;
use crate::connection::{Connection, text};
use crate::error::{ClientError, Result};

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its name.
    pub group: String,
    /// `classic`, `consumer` or `share`; empty when the broker is too old to say.
    pub kind: String,
    /// Its state; empty when the broker is too old to say.
    pub state: String,
    /// `consumer`, `connect`, …; empty for a group that only stores offsets.
    pub protocol: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
}

/// Partitions by topic.
pub type Partitions = BTreeMap<String, Vec<i32>>;

/// A group in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub group: String,
    /// `classic` or `consumer`.
    pub kind: &'static str,
    /// Its state.
    pub state: String,
    /// The assignor in use, empty for none.
    pub assignor: String,
    /// Group epoch and assignment epoch of a consumer group (KIP-848).
    pub epochs: Option<(i32, i32)>,
    /// Its members, by id.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// The client's address.
    pub host: String,
    /// Its epoch in a consumer group.
    pub epoch: Option<i32>,
    /// What it reads.
    pub assigned: Partitions,
    /// What it shall read, in a consumer group.
    pub target: Option<Partitions>,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 when unknown.
    pub leader_epoch: i32,
    /// The client's free text.
    pub metadata: String,
}

/// Committed offsets by topic and partition.
pub type CommittedOffsets = BTreeMap<(String, i32), CommittedOffset>;

fn id(group: &str) -> GroupId {
    GroupId(text(group))
}

impl Client {
    /// The groups of all coordinators, by name. Empty filters let all through.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn groups(&self, states: &[String], kinds: &[String]) -> Result<Vec<ListedGroup>> {
        let words = |words: &[String]| words.iter().map(|word| text(word)).collect();
        let request = ListGroupsRequest::default()
            .with_states_filter(words(states))
            .with_types_filter(words(kinds));
        let mut listed = Vec::new();
        for broker in self.cluster().await?.brokers {
            let connection = self.broker(broker.id).await?;
            let answer = connection.call(&request, 5).await?;
            ClientError::check(answer.error_code, || "list groups".to_owned(), None)?;
            listed.extend(answer.groups.into_iter().map(|group| ListedGroup {
                group: group.group_id.to_string(),
                kind: group.group_type.to_string(),
                state: group.group_state.to_string(),
                protocol: group.protocol_type.to_string(),
                coordinator: broker.id,
            }));
        }
        listed.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(listed)
    }

    /// One group, of the classic or of the new protocol.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is none of this name.
    pub async fn group(&self, group: &str) -> Result<GroupInfo> {
        self.ask_group(group, |coordinator| any_group(coordinator, group))
            .await
    }

    /// What a group has committed.
    ///
    /// # Errors
    /// [`ClientError`]; a group that does not exist has committed nothing.
    pub async fn committed(&self, group: &str) -> Result<CommittedOffsets> {
        self.ask_group(group, |coordinator| committed(coordinator, group))
            .await
    }

    /// Sets offsets of a group that nobody is in.
    ///
    /// # Errors
    /// [`ClientError::Refused`] by the first partition that was refused, for example because the group
    /// has members.
    pub async fn set_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<(String, i32), i64>,
    ) -> Result<()> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(StrBytes::new()));
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(text(name)))
                .with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(id(group))
            .with_topics(topics.collect());
        let set = async |coordinator: Arc<Connection>| {
            let answer = coordinator.call(&request, 9).await?;
            let slots = answer.topics.iter().flat_map(|topic| {
                let partitions = topic.partitions.iter();
                partitions.map(|slot| (&topic.name, slot.partition_index, slot.error_code))
            });
            check_offsets(group, slots)
        };
        self.ask_group(group, set).await
    }

    /// Forgets offsets of topics that a group does not read at the moment.
    ///
    /// # Errors
    /// As [`Client::set_offsets`].
    pub async fn delete_offsets(&self, group: &str, partitions: &Partitions) -> Result<()> {
        let topics = partitions.iter().map(|(name, partitions)| {
            let of =
                |&index: &i32| OffsetDeleteRequestPartition::default().with_partition_index(index);
            OffsetDeleteRequestTopic::default()
                .with_name(TopicName(text(name)))
                .with_partitions(partitions.iter().map(of).collect())
        });
        let request = OffsetDeleteRequest::default()
            .with_group_id(id(group))
            .with_topics(topics.collect());
        let delete = async |coordinator: Arc<Connection>| {
            let answer = coordinator.call(&request, 0).await?;
            ClientError::check(answer.error_code, || format!("group {group}"), None)?;
            let slots = answer.topics.iter().flat_map(|topic| {
                let partitions = topic.partitions.iter();
                partitions.map(|slot| (&topic.name, slot.partition_index, slot.error_code))
            });
            check_offsets(group, slots)
        };
        self.ask_group(group, delete).await
    }

    /// Deletes a group that nobody is in, with its offsets.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is none, or when it has members.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![id(group)]);
        let delete = async |coordinator: Arc<Connection>| {
            let answer = coordinator.call(&request, 2).await?;
            for result in &answer.results {
                ClientError::check(result.error_code, || format!("delete group {group}"), None)?;
            }
            Ok(())
        };
        self.ask_group(group, delete).await
    }
}

/// The first error of an answer about a group's offsets: topic, partition, code.
fn check_offsets<'a>(
    group: &str,
    mut slots: impl Iterator<Item = (&'a TopicName, i32, i16)>,
) -> Result<()> {
    slots.try_for_each(|(topic, partition, code)| {
        let what = || format!("offset of {}-{partition} for group {group}", topic.0);
        ClientError::check(code, what, None)
    })
}

async fn committed(coordinator: Arc<Connection>, group: &str) -> Result<CommittedOffsets> {
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(id(group))
        .with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![asked]);
    let answer = coordinator.call(&request, 9).await?;
    let what = || format!("offsets of group {group}");
    let found = answer.groups.into_iter().next();
    let found = found.ok_or_else(|| ClientError::Incomplete { what: what() })?;
    ClientError::check(found.error_code, what, None)?;
    let mut committed = CommittedOffsets::new();
    for topic in found.topics {
        for partition in topic.partitions {
            ClientError::check(partition.error_code, what, None)?;
            let offset = CommittedOffset {
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata.unwrap_or_default().to_string(),
            };
            if offset.offset >= 0 {
                committed.insert((topic.name.to_string(), partition.partition_index), offset);
            }
        }
    }
    Ok(committed)
}

async fn any_group(coordinator: Arc<Connection>, group: &str) -> Result<GroupInfo> {
    if coordinator
        .newest::<ConsumerGroupDescribeRequest>()
        .is_some()
    {
        match consumer_group(&coordinator, group).await {
            // Perhaps it is of the classic protocol.
            Err(error) if error.response_error() == Some(ResponseError::GroupIdNotFound) => {}
            found => return found,
        }
    }
    classic_group(&coordinator, group).await
}

async fn consumer_group(coordinator: &Connection, group: &str) -> Result<GroupInfo> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![id(group)]);
    let answer = coordinator.call(&request, 1).await?;
    let what = || format!("group {group}");
    let found = answer.groups.into_iter().next();
    let found = found.ok_or_else(|| ClientError::Incomplete { what: what() })?;
    ClientError::check(found.error_code, what, found.error_message.as_deref())?;
    Ok(of_consumer_group(found))
}

fn of_consumer_group(found: DescribedGroup) -> GroupInfo {
    let members = found.members.into_iter().map(|member| GroupMember {
        member_id: member.member_id.to_string(),
        instance_id: member.instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        epoch: Some(member.member_epoch),
        assigned: partitions(&member.assignment),
        target: Some(partitions(&member.target_assignment)),
    });
    let mut members: Vec<GroupMember> = members.collect();
    members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
    GroupInfo {
        group: found.group_id.to_string(),
        kind: "consumer",
        state: found.group_state.to_string(),
        assignor: found.assignor_name.to_string(),
        epochs: Some((found.group_epoch, found.assignment_epoch)),
        members,
    }
}

fn partitions(assignment: &Assignment) -> Partitions {
    let topics = assignment.topic_partitions.iter();
    topics
        .map(|topic| (topic.topic_name.to_string(), topic.partitions.clone()))
        .collect()
}

async fn classic_group(coordinator: &Connection, group: &str) -> Result<GroupInfo> {
    let request = DescribeGroupsRequest::default().with_groups(vec![id(group)]);
    let answer = coordinator.call(&request, 6).await?;
    let what = || format!("group {group}");
    let found = answer.groups.into_iter().next();
    let found = found.ok_or_else(|| ClientError::Incomplete { what: what() })?;
    ClientError::check(found.error_code, what, found.error_message.as_deref())?;
    if &*found.group_state == "Dead" {
        // Before version 6 that is how a group is shown that does not exist.
        return ClientError::check(ResponseError::GroupIdNotFound.code(), what, None)
            .map(|()| of_classic_group(found));
    }
    Ok(of_classic_group(found))
}

fn of_classic_group(found: describe_groups_response::DescribedGroup) -> GroupInfo {
    let members = found.members.into_iter().map(|member| GroupMember {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        epoch: None,
        assigned: classic_assignment(&member.member_assignment).unwrap_or_default(),
        target: None,
    });
    let mut members: Vec<GroupMember> = members.collect();
    members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
    GroupInfo {
        group: found.group_id.to_string(),
        kind: "classic",
        state: found.group_state.to_string(),
        assignor: found.protocol_data.to_string(),
        epochs: None,
        members,
    }
}

/// The partitions in a `ConsumerProtocolAssignment`: a version, topics with their partitions, and what is
/// of no interest here. `None` for anything else, as other kinds of clients assign other things.
fn classic_assignment(bytes: &[u8]) -> Option<Partitions> {
    let mut rest = bytes.get(2..)?;
    let int = |rest: &mut &[u8]| -> Option<i32> {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        *rest = tail;
        Some(i32::from_be_bytes(*head))
    };
    let mut topics = Partitions::new();
    for _ in 0..int(&mut rest)? {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let (name, tail) = tail.split_at_checked(len)?;
        rest = tail;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        let mut partitions = Vec::new();
        for _ in 0..int(&mut rest)? {
            partitions.push(int(&mut rest)?);
        }
        topics.insert(name, partitions);
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::classic_assignment;

    #[test]
    fn assignments_of_classic_members_are_read_whatever_they_are() {
        let bytes = [
            0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 5, 0xff, 0xff, 0xff,
            0xff,
        ];
        let read = classic_assignment(&bytes).unwrap();
        assert_eq!(read["t"], [3, 5]);
        for cut in 0..bytes.len() - 4 {
            assert_eq!(classic_assignment(&bytes[..cut]), None, "{cut}");
        }
        // A count below zero is none.
        assert_eq!(
            classic_assignment(&[0xff; 40]),
            Some(super::Partitions::new())
        );
    }
}
