//! ListGroups, DescribeGroups, DeleteGroups.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::{Effect, GroupDescription, GroupListing, Reply, Token};
use crate::classic::Classic;
use crate::consumer::{ConsumerDescription, ConsumerGroup};
use crate::error::GroupError;
use crate::group::{Group, GroupState};
use crate::step::{OffsetChange, Purpose, Step};

use super::{GroupCoordinator, offsets};

impl GroupCoordinator {
    /// ListGroups, in the order of the ids. An empty filter lets everything through; names are
    /// compared without regard to case (KIP-518, KIP-848), and unknown ones match nothing.
    pub fn list_groups(
        &self,
        states: &[String],
        types: &[String],
    ) -> Result<Vec<GroupListing>, GroupError> {
        self.check_active()?;
        let passes = |filter: &[String], name: &str| {
            filter.is_empty()
                || filter
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let listings = self.groups.values().map(Group::listing).filter(|listing| {
            passes(states, listing.state.as_str()) && passes(types, listing.group_type.as_str())
        });
        Ok(listings.collect())
    }

    /// DescribeGroups for one group. A group that is not there is
    /// [`GroupError::GroupIdNotFound`]; before version 6 the client is shown a dead group instead.
    pub fn describe_group(&self, group_id: &str) -> Result<GroupDescription, GroupError> {
        self.check_request(group_id)?;
        let group = self.groups.get(group_id).and_then(Group::classic);
        group
            .map(Classic::description)
            .ok_or(GroupError::GroupIdNotFound)
    }

    /// ConsumerGroupDescribe for one group. A group that is not there, or is of another kind, is
    /// [`GroupError::GroupIdNotFound`].
    pub fn describe_consumer_group(
        &self,
        group_id: &str,
    ) -> Result<ConsumerDescription, GroupError> {
        self.check_member_request(group_id)?;
        let group = self.groups.get(group_id).and_then(Group::consumer);
        group
            .map(|group: &ConsumerGroup| {
                group.description(&self.config.consumer.assignors, &*self.topics)
            })
            .ok_or(GroupError::GroupIdNotFound)
    }

    /// Whether there is a group of this name, of whatever kind.
    pub fn has_group(&self, group_id: &str) -> bool {
        self.groups.contains_key(group_id)
    }

    /// DeleteGroups for one group. Answered with [`Reply::DeleteGroup`], once it is durable.
    pub fn delete_group(
        &mut self,
        now_ms: i64,
        group_id: &str,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let state = self.check_request(group_id).and_then(|()| {
            let group = self
                .groups
                .get(group_id)
                .ok_or(GroupError::GroupIdNotFound)?;
            match group.state() {
                GroupState::Empty => Ok(()),
                GroupState::Dead => Err(GroupError::GroupIdNotFound),
                _ => Err(GroupError::NonEmptyGroup),
            }
        });
        match state {
            Err(error) => self
                .step(now_ms, out)
                .reply(token, Reply::DeleteGroup(Err(error))),
            Ok(()) => self.begin_delete(now_ms, group_id, Some(token), out),
        }
    }

    /// Writes tombstones for the group and for all its offsets, those on their way to the log
    /// included. Until that has ended the group is dead and takes nothing in.
    pub(super) fn begin_delete(
        &mut self,
        now_ms: i64,
        group_id: &str,
        token: Option<Token>,
        out: &mut Vec<Effect>,
    ) {
        let Some(group) = self.groups.get_mut(group_id) else {
            return;
        };
        let committed = group
            .offsets
            .iter()
            .map(|(topic, partition, _)| (topic, partition));
        let open = self.writes.open_offsets(group_id);
        let waiting = group.transactional.partitions();
        let keys: BTreeSet<(Arc<str>, i32)> = committed
            .chain(open)
            .chain(waiting)
            .map(|(topic, partition)| (topic.clone(), partition))
            .collect();
        let changes: Vec<OffsetChange> = keys
            .into_iter()
            .map(|(topic, partition)| OffsetChange::delete(topic, partition))
            .collect();
        let mut records = offsets::tombstones(group_id, &changes);
        records.extend(group.begin_delete());
        let mut step = Step {
            config: &self.config,
            topics: &*self.topics,
            now_ms,
            writes: &mut self.writes,
            out,
        };
        step.persist(&group.id, records, Purpose::Delete { token });
    }
}
