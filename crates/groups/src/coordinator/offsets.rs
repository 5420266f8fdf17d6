//! OffsetCommit, OffsetFetch and OffsetDelete. An offset can be read once it is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::{
    CommitPartition, Effect, FetchedOffset, GroupRecord, OffsetCommit, OffsetDelete, Reply, Token,
    TopicResult,
};
use crate::codec::{OffsetCommitValue, RecordKey};
use crate::error::GroupError;
use crate::group::{Group, GroupState};
use crate::offsets::CommittedOffset;
use crate::step::{OffsetChange, OffsetsThen, Purpose, Step};

use super::GroupCoordinator;

/// Results, changes and records of a commit that is about to be written.
type Prepared = (Vec<TopicResult>, Vec<OffsetChange>, Vec<GroupRecord>);

impl GroupCoordinator {
    /// OffsetCommit. Answered with [`Reply::OffsetCommit`], once the offsets are stored.
    pub fn commit_offsets(
        &mut self,
        now_ms: i64,
        request: &OffsetCommit,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let prepared = self.prepare_commit(now_ms, request, false, token, out);
        let Some((results, changes, records)) = prepared else {
            return;
        };
        let group_id = request.group_id.as_str();
        self.with_group(group_id, now_ms, out, |group, step| {
            if records.is_empty() {
                step.reply(token, Reply::OffsetCommit(results));
                return;
            }
            let then = OffsetsThen::Commit { token, results };
            write_offsets(group, records, changes, then, step);
        });
    }

    /// Judges a commit: the result of each partition, and the changes and records of those that are
    /// fine. `None` where the sender may not commit, and has been told.
    pub(super) fn prepare_commit(
        &mut self,
        now_ms: i64,
        request: &OffsetCommit,
        transactional: bool,
        token: Token,
        out: &mut Vec<Effect>,
    ) -> Option<Prepared> {
        if let Err(error) = self.admit_commit(request, transactional, now_ms) {
            let results = results_of(request, |_| Some(error));
            self.step(now_ms, out)
                .reply(token, Reply::OffsetCommit(results));
            return None;
        }
        let results = results_of(request, |partition| {
            let fits = self.metadata_fits(&partition.metadata);
            (!fits).then_some(GroupError::OffsetMetadataTooLarge)
        });
        let (changes, records) = self.commit_records(request, &results, now_ms);
        Some((results, changes, records))
    }

    /// Finds out whether the sender may commit; makes the group of a simple consumer.
    fn admit_commit(
        &mut self,
        request: &OffsetCommit,
        transactional: bool,
        now_ms: i64,
    ) -> Result<(), GroupError> {
        self.check_offset_commit(request)?;
        let group_id: Arc<str> = request.group_id.as_str().into();
        if !self.groups.contains_key(&group_id) {
            if request.generation_id >= 0 {
                return Err(if request.knows_member_epochs {
                    GroupError::GroupIdNotFound
                } else {
                    GroupError::IllegalGeneration
                });
            }
            self.create_group(&group_id, now_ms)?;
        }
        let group = self
            .groups
            .get_mut(&group_id)
            .ok_or(GroupError::UnknownServerError)?;
        let admitted = group.check_commit(request, transactional, &*self.topics, now_ms);
        super::file(&mut self.deadlines, group);
        match admitted {
            // Transactional producers before KIP-848 do not know it.
            Err(GroupError::StaleMemberEpoch) if transactional && !request.knows_member_epochs => {
                Err(GroupError::IllegalGeneration)
            }
            admitted => admitted,
        }
    }

    fn commit_records(
        &mut self,
        request: &OffsetCommit,
        results: &[TopicResult],
        now_ms: i64,
    ) -> (Vec<OffsetChange>, Vec<GroupRecord>) {
        let expire_timestamp_ms = request
            .retention_ms
            .map_or(-1, |retention_ms| now_ms.saturating_add(retention_ms));
        let (mut changes, mut records) = (Vec::new(), Vec::new());
        for (topic, result) in request.topics.iter().zip(results) {
            let name = self.names.intern(&topic.topic);
            for (partition, (_, error)) in topic.partitions.iter().zip(&result.partitions) {
                if error.is_some() {
                    continue;
                }
                let value = OffsetCommitValue {
                    offset: partition.offset,
                    leader_epoch: partition.leader_epoch,
                    metadata: &partition.metadata,
                    commit_timestamp_ms: now_ms,
                    expire_timestamp_ms,
                    topic_id: topic.topic_id,
                };
                let bytes = value
                    .encode(value.preferred_version())
                    .expect("the metadata was bounded when it came in");
                let key = offset_key(&request.group_id, &name, partition.partition);
                records.push(GroupRecord {
                    key,
                    value: Some(bytes),
                });
                changes.push(OffsetChange::set(
                    name.clone(),
                    partition.partition,
                    CommittedOffset::new(&value),
                ));
            }
        }
        (changes, records)
    }

    /// OffsetFetch: the offsets of these partitions, in their order (-1 where none is committed),
    /// or with `None` all of the group's.
    pub fn fetch_offsets(
        &self,
        group_id: &str,
        topics: Option<&[(String, Vec<i32>)]>,
    ) -> Result<Vec<FetchedOffset>, GroupError> {
        self.find_offsets(group_id, topics, false)
    }

    /// The same, but partitions whose offset depends on a transaction that is still open are only
    /// marked so (KIP-447).
    pub fn fetch_stable_offsets(
        &self,
        group_id: &str,
        topics: Option<&[(String, Vec<i32>)]>,
    ) -> Result<Vec<FetchedOffset>, GroupError> {
        self.find_offsets(group_id, topics, true)
    }

    fn find_offsets(
        &self,
        group_id: &str,
        topics: Option<&[(String, Vec<i32>)]>,
        stable: bool,
    ) -> Result<Vec<FetchedOffset>, GroupError> {
        self.check_request(group_id)?;
        let group = self.groups.get(group_id);
        let is_unstable = |topic: &str, partition: i32| {
            stable && group.is_some_and(|group| self.is_in_transaction(group, topic, partition))
        };
        let found = |topic: &Arc<str>, partition: i32, offset: &CommittedOffset| {
            if is_unstable(topic, partition) {
                return FetchedOffset::unstable(topic, partition);
            }
            FetchedOffset {
                topic: topic.clone(),
                partition,
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata().to_owned(),
                unstable: false,
            }
        };
        let Some(topics) = topics else {
            let all = group.into_iter().flat_map(|group| group.offsets.iter());
            return Ok(all
                .map(|(topic, partition, offset)| found(topic, partition, offset))
                .collect());
        };
        let mut fetched = Vec::new();
        for (topic, partitions) in topics {
            let topic: Arc<str> = topic.as_str().into();
            fetched.extend(partitions.iter().map(|&partition| {
                match group.and_then(|group| group.offsets.get(&topic, partition)) {
                    Some(offset) => found(&topic, partition, offset),
                    None if is_unstable(&topic, partition) => {
                        FetchedOffset::unstable(&topic, partition)
                    }
                    None => FetchedOffset::none(&topic, partition),
                }
            }));
        }
        Ok(fetched)
    }

    /// Whether a member may fetch offsets in this epoch (OffsetFetch 9). A group that is not there
    /// has no members.
    pub fn check_offset_fetch(
        &self,
        group_id: &str,
        member_id: Option<&str>,
        member_epoch: i32,
    ) -> Result<(), GroupError> {
        self.check_request(group_id)?;
        let Some(group) = self.groups.get(group_id).and_then(Group::consumer) else {
            return Ok(());
        };
        if member_id.is_none_or(str::is_empty) && member_epoch < 0 {
            return Ok(());
        }
        group.check_fetch(member_id.unwrap_or_default(), member_epoch)
    }

    /// OffsetDelete (KIP-496). Answered with [`Reply::OffsetDelete`], once it is durable.
    pub fn delete_offsets(
        &mut self,
        now_ms: i64,
        request: &OffsetDelete,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        match self.plan_offset_delete(request) {
            Err(error) => self
                .step(now_ms, out)
                .reply(token, Reply::OffsetDelete(Err(error))),
            Ok((results, changes)) => {
                self.with_group(&request.group_id, now_ms, out, |group, step| {
                    if changes.is_empty() {
                        step.reply(token, Reply::OffsetDelete(Ok(results)));
                        return;
                    }
                    let records = tombstones(&group.id, &changes);
                    let then = OffsetsThen::Delete { token, results };
                    write_offsets(group, records, changes, then, step);
                });
            }
        }
    }

    fn plan_offset_delete(
        &self,
        request: &OffsetDelete,
    ) -> Result<(Vec<TopicResult>, Vec<OffsetChange>), GroupError> {
        self.check_member_request(&request.group_id)?;
        let group = self.groups.get(request.group_id.as_str());
        let group = group.filter(|group| group.state() != GroupState::Dead);
        let group = group.ok_or(GroupError::GroupIdNotFound)?;
        if group.state() != GroupState::Empty && !group.is_consumer_group() {
            return Err(GroupError::NonEmptyGroup);
        }
        let (mut results, mut changes) = (Vec::new(), Vec::new());
        for (topic, partitions) in &request.topics {
            let subscribed = group.is_subscribed(topic);
            let error = subscribed.then_some(GroupError::GroupSubscribedToTopic);
            results.push(TopicResult {
                topic: topic.clone(),
                topic_id: uuid::Uuid::nil(),
                partitions: partitions
                    .iter()
                    .map(|&partition| (partition, error))
                    .collect(),
            });
            let name: Arc<str> = topic.as_str().into();
            changes.extend(
                partitions
                    .iter()
                    .filter(|&&partition| !subscribed && self.has_offset(group, topic, partition))
                    .map(|&partition| OffsetChange::delete(name.clone(), partition)),
            );
        }
        Ok((results, changes))
    }

    /// Whether an open transaction has committed an offset of the partition.
    fn is_in_transaction(&self, group: &Group, topic: &str, partition: i32) -> bool {
        group.transactional.has(topic, partition)
            || (group.offset_writes > 0
                && self.writes.is_in_transaction(&group.id, topic, partition))
    }

    /// Committed, or about to be.
    fn has_offset(&self, group: &Group, topic: &str, partition: i32) -> bool {
        let mut open = self.writes.open_offsets(&group.id);
        group.offsets.get(topic, partition).is_some()
            || group.transactional.has(topic, partition)
            || (group.offset_writes > 0 && open.any(|(name, p)| **name == *topic && p == partition))
    }
}

impl GroupCoordinator {
    /// A topic is deleted: its offsets mean nothing any more, in whatever group, and would stand in
    /// the way of a topic of the same name. Does nothing while the coordinator loads.
    pub fn forget_topic(&mut self, now_ms: i64, topic: &str, out: &mut Vec<Effect>) {
        if self.check_active().is_err() {
            return;
        }
        let mut found = self.writes.open_of_topic(topic);
        for group in self.groups.values() {
            let waiting = group.transactional.partitions();
            let waiting = waiting.filter(|(name, _)| ***name == *topic);
            let partitions = group.offsets.partitions_of(topic);
            let partitions = partitions.chain(waiting.map(|(_, partition)| partition));
            found.extend(partitions.map(|partition| (group.id.clone(), partition)));
        }
        let name = self.names.intern(topic);
        let mut by_group: BTreeMap<Arc<str>, Vec<OffsetChange>> = BTreeMap::new();
        for (group_id, partition) in found {
            let changes = by_group.entry(group_id).or_default();
            changes.push(OffsetChange::delete(name.clone(), partition));
        }
        for (group_id, changes) in by_group {
            self.with_group(&group_id, now_ms, out, |group, step| {
                if group.state() != GroupState::Dead {
                    let records = tombstones(&group.id, &changes);
                    write_offsets(group, records, changes, OffsetsThen::Nobody, step);
                }
            });
        }
    }
}

pub(super) fn write_offsets(
    group: &mut Group,
    records: Vec<GroupRecord>,
    changes: Vec<OffsetChange>,
    then: OffsetsThen,
    step: &mut Step<'_>,
) {
    group.offset_writes += 1;
    step.persist(&group.id, records, Purpose::Offsets { changes, then });
}

pub(super) fn tombstones(group_id: &str, changes: &[OffsetChange]) -> Vec<GroupRecord> {
    let keys = changes
        .iter()
        .map(|change| offset_key(group_id, &change.topic, change.partition));
    keys.map(|key| GroupRecord { key, value: None }).collect()
}

fn offset_key(group: &str, topic: &str, partition: i32) -> bytes::Bytes {
    let key = RecordKey::Offset {
        group,
        topic,
        partition,
    };
    key.encode()
        .expect("group id and topic were bounded when they came in")
}

fn results_of(
    request: &OffsetCommit,
    error_of: impl Fn(&CommitPartition) -> Option<GroupError>,
) -> Vec<TopicResult> {
    let topics = request.topics.iter().map(|topic| TopicResult {
        topic: topic.topic.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|p| (p.partition, error_of(p)))
            .collect(),
    });
    topics.collect()
}
