//! The group as operators see it.

use crate::modern::{Part, TopicCatalog, by_topic};

use super::{ConsumerDescription, ConsumerGroup, ConsumerMemberDescription, NamedTopic};

impl ConsumerGroup {
    pub(crate) fn description(
        &self,
        assignors: &[crate::modern::Assignor],
        topics: &dyn TopicCatalog,
    ) -> ConsumerDescription {
        let members = self
            .members
            .values()
            .map(|member| ConsumerMemberDescription {
                member_id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                rack_id: member.rack_id.clone(),
                member_epoch: member.epoch,
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                topic_names: member.topic_names.to_vec(),
                topic_regex: member.topic_regex.clone(),
                assigned: named(member.assigned.parts(), topics),
                target: named(self.target.of(&member.id).iter(), topics),
                is_classic: member.classic.is_some(),
            });
        ConsumerDescription {
            state: self.state(),
            group_epoch: self.target.group_epoch,
            assignment_epoch: self.target.assignment_epoch,
            assignor: self.assignor(assignors).name(),
            members: members.collect(),
        }
    }
}

/// Partitions with the names of their topics. A topic that is gone has no name to be told by.
fn named(parts: impl Iterator<Item = Part>, topics: &dyn TopicCatalog) -> Vec<NamedTopic> {
    let topics = by_topic(parts)
        .into_iter()
        .filter_map(|(id, partitions)| Some((id, topics.name_of(id)?, partitions)));
    topics.collect()
}
