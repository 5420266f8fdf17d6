//! The group as operators see it.

use uuid::Uuid;

use crate::modern::{Part, TopicCatalog};

use super::{ShareDescription, ShareGroup, ShareMemberDescription};

impl ShareGroup {
    pub(crate) fn description(&self, topics: &dyn TopicCatalog) -> ShareDescription {
        let members = self.members.values().map(|member| ShareMemberDescription {
            member_id: member.id.clone(),
            rack_id: member.rack_id.clone(),
            member_epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topic_names: member.topic_names.to_vec(),
            assigned: member
                .assigned
                .by_topic()
                .into_iter()
                .filter_map(|(id, partitions)| Some((id, topics.name_of(id)?, partitions)))
                .collect(),
        });
        ShareDescription {
            state: self.state(),
            group_epoch: self.target.group_epoch,
            assignment_epoch: self.target.assignment_epoch,
            members: members.collect(),
        }
    }

    /// The group's epoch: the state of share-partitions that is begun anew gets it.
    pub(crate) fn epoch(&self) -> i32 {
        self.target.group_epoch
    }

    /// Partitions whose state is set up.
    pub(crate) fn initialized(&self, topics: &dyn TopicCatalog) -> Vec<Part> {
        self.books.initialized(topics)
    }

    /// Topics whose state may be there.
    pub(crate) fn state_topics(&self) -> Vec<Uuid> {
        self.books.topics()
    }

    /// Partitions of a topic whose state may be there; `None`: nothing is known of the topic. When it
    /// is being deleted already that may be any of `count` partitions.
    pub(crate) fn state_parts(&self, id: Uuid, count: u32) -> Option<Vec<Part>> {
        let parts = self.books.of_topic(id);
        if !parts.is_empty() {
            return Some(parts);
        }
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let all = || (0..count).map(|partition| (id, partition)).collect();
        self.books.is_deleting(id).then(all)
    }
}
