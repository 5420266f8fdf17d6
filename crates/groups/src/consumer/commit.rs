//! Which offset commits and fetches a consumer group accepts from whom.

use crate::api::OffsetCommit;
use crate::error::GroupError;
use crate::modern::TopicCatalog;

use super::ConsumerGroup;

impl ConsumerGroup {
    /// Whether the sender may commit. Those without a member id may while the group is empty. A
    /// member may commit in its epoch, and in an earlier one for what it got in that epoch or
    /// before (KIP-1251).
    pub(crate) fn check_commit(
        &self,
        request: &OffsetCommit,
        transactional: bool,
        topics: &dyn TopicCatalog,
    ) -> Result<(), GroupError> {
        let epoch = request.generation_id;
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let is_nobody = request.member_id.is_empty() && request.group_instance_id.is_none();
        if transactional && epoch < 0 && is_nobody {
            // Clients before KIP-447 do not say which member commits in a transaction.
            return Ok(());
        }
        let member = self
            .members
            .get(request.member_id.as_str())
            .ok_or(GroupError::UnknownMemberId)?;
        if member.classic.is_some() {
            let current = epoch == member.epoch;
            return current.then_some(()).ok_or(GroupError::IllegalGeneration);
        }
        if !request.knows_member_epochs && !transactional {
            return Err(GroupError::UnsupportedVersion);
        }
        if epoch == member.epoch {
            return Ok(());
        }
        if epoch > member.epoch {
            return Err(GroupError::StaleMemberEpoch);
        }
        let holds = |topic: &crate::api::CommitTopic| {
            let id = Some(topic.topic_id)
                .filter(|id| !id.is_nil())
                .or_else(|| topics.topic(&topic.topic).map(|found| found.id));
            id.is_some_and(|id| {
                topic.partitions.iter().all(|partition| {
                    let part = (id, partition.partition);
                    member
                        .assigned
                        .epoch_of(&part)
                        .is_some_and(|got| got <= epoch)
                        || member
                            .revoking
                            .epoch_of(&part)
                            .is_some_and(|got| got <= epoch)
                })
            })
        };
        let all = request.topics.iter().all(holds);
        all.then_some(()).ok_or(GroupError::StaleMemberEpoch)
    }

    /// Whether a member with this id and epoch may read offsets.
    pub(crate) fn check_fetch(&self, member_id: &str, epoch: i32) -> Result<(), GroupError> {
        let member = self
            .members
            .get(member_id)
            .ok_or(GroupError::UnknownMemberId)?;
        if member.epoch == epoch {
            Ok(())
        } else if member.classic.is_some() {
            Err(GroupError::IllegalGeneration)
        } else {
            Err(GroupError::StaleMemberEpoch)
        }
    }
}
