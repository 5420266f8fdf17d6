//! All groups of one partition of `__consumer_offsets`, with their committed offsets.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::groups::machine::GroupError;
use crate::groups::machine::api::{
    CommitResult, CommittedOffset, Effect, GroupConfig, GroupDescription, GroupListing, GroupState,
    Identity, Join, Joined, MemberDescription, OffsetToCommit, OffsetsRecord, Reply, Sync, Synced,
    Token,
};
use crate::groups::machine::codec::{self, DecodeError, Key};
use crate::groups::machine::group::{Group, Replies};

/// Offsets of one group: topic, then partition.
type Offsets = BTreeMap<String, BTreeMap<i32, CommittedOffset>>;

#[derive(Debug, Default)]
struct Entry {
    group: Option<Group>,
    offsets: Offsets,
}

/// What happens once a write is acknowledged.
#[derive(Debug)]
enum Then {
    Assign {
        group_id: String,
        generation: i32,
        assignments: Vec<(String, Bytes)>,
    },
    Rejoined {
        token: Token,
        joined: Joined,
    },
    Commit {
        group_id: String,
        token: Token,
        offsets: Vec<(OffsetToCommit, i64)>,
        result: CommitResult,
    },
    Forget {
        token: Option<Token>,
    },
    Nothing,
}

/// The coordinator of the groups of one partition of `__consumer_offsets`. Pure: no clock, no I/O.
#[derive(Debug)]
pub struct Coordinator {
    config: GroupConfig,
    groups: BTreeMap<String, Entry>,
    writes: HashMap<u64, Then>,
    next_write: u64,
    effects: Vec<Effect>,
}

impl Coordinator {
    /// A coordinator without groups.
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            writes: HashMap::new(),
            next_write: 0,
            effects: Vec::new(),
        }
    }

    /// Takes what the shell must do since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn reply(&mut self, token: Token, reply: Reply) {
        self.effects.push(Effect::Reply(token, reply));
    }

    fn persist(&mut self, records: Vec<OffsetsRecord>, then: Then) {
        self.next_write += 1;
        let id = self.next_write;
        self.writes.insert(id, then);
        self.effects.push(Effect::Persist { id, records });
    }

    /// Runs a step on a group and turns its answers into effects; an emptied group is written.
    fn step<T>(
        &mut self,
        group_id: &str,
        f: impl FnOnce(&mut Group, &mut Replies) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(group_id)?.group.as_mut()?;
        let mut out = Replies::new();
        let before = (group.state, group.generation);
        let result = f(group, &mut out);
        let emptied = group.state == GroupState::Empty && before != (group.state, group.generation);
        let record = emptied.then(|| group_record(group));
        self.effects.extend(
            out.into_iter()
                .map(|(token, reply)| Effect::Reply(token, reply)),
        );
        if let Some(record) = record {
            self.persist(vec![record], Then::Nothing);
        }
        Some(result)
    }

    fn group(&self, group_id: &str) -> Option<&Group> {
        self.groups.get(group_id)?.group.as_ref()
    }

    fn group_or_new(&mut self, group_id: &str, now_ms: i64) -> &mut Group {
        let delay = self.config.initial_rebalance_delay_ms;
        let entry = self.groups.entry(group_id.to_owned()).or_default();
        entry
            .group
            .get_or_insert_with(|| Group::new(group_id, delay, now_ms))
    }

    /// A member joins. `new_id` is a member id that is used if the member needs one: the client id
    /// and a random UUID, as in Kafka.
    pub fn join(&mut self, join: &Join, new_id: String, token: Token, now_ms: i64) {
        if let Err(error) = self.check_join(join) {
            return self.reply(token, Reply::Join(Joined::refused(error, &join.member_id)));
        }
        if join.member_id.is_empty() {
            self.join_new(join, new_id, token, now_ms);
        } else {
            self.join_known(join, token, now_ms);
        }
    }

    fn check_join(&self, join: &Join) -> Result<(), GroupError> {
        if join.group_id.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let allowed = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        if !allowed.contains(&join.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let group = self.group(&join.group_id);
        if group.is_none() && !join.member_id.is_empty() {
            return Err(GroupError::UnknownMemberId);
        }
        let fits = match group {
            // A member that is alone may change what it supports.
            Some(group)
                if group.members.len() == 1 && group.members.contains_key(&join.member_id) =>
            {
                !join.protocols.is_empty() && !join.protocol_type.is_empty()
            }
            Some(group) => group.supports(&join.protocol_type, &join.protocols),
            None => !join.protocols.is_empty() && !join.protocol_type.is_empty(),
        };
        if !fits {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let known = group.is_some_and(|group| {
            group.members.contains_key(&join.member_id)
                || group.is_pending(&join.member_id)
                || join
                    .instance_id
                    .as_ref()
                    .is_some_and(|id| group.member_of_instance(id).is_some())
        });
        if !known && group.is_some_and(|group| group.size() >= self.config.max_size) {
            return Err(GroupError::GroupMaxSizeReached);
        }
        Ok(())
    }

    fn join_new(&mut self, join: &Join, new_id: String, token: Token, now_ms: i64) {
        let group = self.group_or_new(&join.group_id, now_ms);
        let replaced = join
            .instance_id
            .as_ref()
            .and_then(|id| group.member_of_instance(id))
            .cloned();
        if let Some(old_id) = replaced {
            return self.replace_static(join, &old_id, &new_id, token, now_ms);
        }
        if join.instance_id.is_none() && join.member_id_required {
            group.await_member(new_id.clone(), now_ms + i64::from(join.session_timeout_ms));
            return self.reply(
                token,
                Reply::Join(Joined::refused(GroupError::MemberIdRequired, &new_id)),
            );
        }
        self.step(&join.group_id, |group, out| {
            group.add_joining(new_id, join, token, now_ms, out);
        });
    }

    fn replace_static(
        &mut self,
        join: &Join,
        old_id: &str,
        new_id: &str,
        token: Token,
        now_ms: i64,
    ) {
        let was_leader = self
            .group(&join.group_id)
            .is_some_and(|group| group.leader.as_deref() == Some(old_id));
        let same = self.step(&join.group_id, |group, out| {
            let same = group.replace_static(old_id, new_id, join, now_ms, out);
            if !same {
                group.rejoin(new_id, join, token, now_ms, out);
            }
            same
        });
        let Some(group) = self.group(&join.group_id).filter(|_| same == Some(true)) else {
            return;
        };
        let mut joined = group.joined(new_id);
        if was_leader && join.knows_skip_assignment {
            joined.skip_assignment = true;
        } else if was_leader {
            // A client that would assign again is not told that it leads (KIP-345).
            joined.leader = old_id.to_owned();
            joined.members.clear();
        }
        let record = group_record(group);
        self.persist(vec![record], Then::Rejoined { token, joined });
    }

    fn join_known(&mut self, join: &Join, token: Token, now_ms: i64) {
        let id = join.member_id.clone();
        let answered = self.step(&join.group_id, |group, out| {
            if group.is_pending(&id) && join.instance_id.is_none() {
                group.add_joining(id.clone(), join, token, now_ms, out);
                return Ok(None);
            }
            group.check_member(&id, join.instance_id.as_deref())?;
            let same = group.says_the_same(&id, join);
            let is_leader = group.leader.as_deref() == Some(&id);
            match group.state {
                GroupState::PreparingRebalance => group.rejoin(&id, join, token, now_ms, out),
                // It did not get the answer to its join.
                GroupState::CompletingRebalance if same => return Ok(Some(group.joined(&id))),
                GroupState::Stable if same && !is_leader => return Ok(Some(group.joined(&id))),
                GroupState::CompletingRebalance | GroupState::Stable => {
                    group.rejoin(&id, join, token, now_ms, out);
                }
                GroupState::Empty | GroupState::Dead => return Err(GroupError::UnknownMemberId),
            }
            Ok(None)
        });
        match answered {
            Some(Ok(None)) => {}
            Some(Ok(Some(joined))) => self.reply(token, Reply::Join(joined)),
            Some(Err(error)) => self.reply(token, Reply::Join(Joined::refused(error, &id))),
            None => self.reply(
                token,
                Reply::Join(Joined::refused(GroupError::UnknownMemberId, &id)),
            ),
        }
    }

    /// A member asks for its assignment.
    pub fn sync(&mut self, sync: Sync, token: Token, now_ms: i64) {
        match self.check_sync(&sync) {
            Err(error) => return self.reply(token, Reply::Sync(Synced::refused(error))),
            Ok(GroupState::Stable) => {
                let synced = self.step(&sync.group_id, |group, _| {
                    group.has_synced(&sync.member_id, now_ms);
                    group.synced(&sync.member_id)
                });
                if let Some(synced) = synced {
                    self.reply(token, Reply::Sync(synced));
                }
                return;
            }
            Ok(_) => {}
        }
        let begins = self.step(&sync.group_id, |group, out| {
            group.wait_for_assignment(&sync.member_id, token, out);
            let begins = group.leader.as_deref() == Some(&sync.member_id) && !group.assigning;
            group.assigning |= begins;
            begins
        });
        if begins == Some(true) {
            self.write_assignment(sync, now_ms);
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<GroupState, GroupError> {
        let group = self
            .group(&sync.group_id)
            .ok_or(GroupError::UnknownMemberId)?;
        group.check_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != group.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        if differs(&sync.protocol_type, &group.protocol_type)
            || differs(&sync.protocol, &group.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match group.state {
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMemberId),
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            state => Ok(state),
        }
    }

    /// Writes the group as it will be when the assignment is known.
    fn write_assignment(&mut self, sync: Sync, now_ms: i64) {
        let Some(group) = self.group(&sync.group_id) else {
            return;
        };
        let mut stored = group.to_stored();
        stored.state_timestamp_ms = now_ms;
        for member in &mut stored.members {
            let found = sync
                .assignments
                .iter()
                .find(|(id, _)| *id == member.member_id);
            member.assignment = found
                .map(|(_, assignment)| assignment.clone())
                .unwrap_or_default();
        }
        let record = (
            codec::group_key(&group.id),
            Some(codec::group_value(&stored)),
        );
        let then = Then::Assign {
            group_id: sync.group_id,
            generation: group.generation,
            assignments: sync.assignments,
        };
        self.persist(vec![record], then);
    }

    /// A sign of life.
    ///
    /// # Errors
    /// What the member must know: that it is unknown, fenced, of an old generation, or must rejoin.
    pub fn heartbeat(&mut self, who: &Identity, now_ms: i64) -> Result<(), GroupError> {
        let beat = self.step(&who.group_id, |group, _| {
            group.check_member(&who.member_id, who.instance_id.as_deref())?;
            if who.generation != group.generation {
                return Err(GroupError::IllegalGeneration);
            }
            if let Some(member) = group.members.get_mut(&who.member_id) {
                member.alive(now_ms);
            }
            match group.state {
                GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
                GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMemberId),
                GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            }
        });
        beat.unwrap_or(Err(GroupError::UnknownMemberId))
    }

    /// Members leave; the answers are in the order of `members` (member id and instance id).
    pub fn leave(
        &mut self,
        group_id: &str,
        members: &[(String, Option<String>)],
        now_ms: i64,
    ) -> Vec<Result<(), GroupError>> {
        let mut leave = |(member_id, instance_id): &(String, Option<String>)| {
            self.step(group_id, |group, out| {
                let named = match (instance_id, member_id.is_empty()) {
                    // An administrator removes a static member by its instance id (KIP-345).
                    (Some(instance), true) => group.member_of_instance(instance).cloned(),
                    _ => None,
                };
                let id = named.unwrap_or_else(|| member_id.clone());
                if !group.is_pending(&id) {
                    group.check_member(&id, instance_id.as_deref())?;
                }
                group.remove(&id, now_ms, out);
                Ok(())
            })
            .unwrap_or(Err(GroupError::UnknownMemberId))
        };
        members.iter().map(&mut leave).collect()
    }

    /// Commits offsets: answered with [`Reply::Commit`] once they are written.
    pub fn commit(
        &mut self,
        who: &Identity,
        offsets: Vec<OffsetToCommit>,
        token: Token,
        now_ms: i64,
    ) {
        if let Err(error) = self.check_commit(who, now_ms) {
            let refused = offsets
                .into_iter()
                .map(|o| (o.topic, o.partition, Some(error)))
                .collect();
            return self.reply(token, Reply::Commit(refused));
        }
        let mut result = CommitResult::new();
        let mut accepted = Vec::new();
        let mut records = Vec::new();
        for offset in offsets {
            if offset.metadata.len() > self.config.max_offset_metadata_bytes {
                result.push((
                    offset.topic,
                    offset.partition,
                    Some(GroupError::OffsetMetadataTooLarge),
                ));
                continue;
            }
            result.push((offset.topic.clone(), offset.partition, None));
            let key = codec::offset_key(&who.group_id, &offset.topic, offset.partition);
            records.push((key, Some(codec::offset_value(&committed(&offset, now_ms)))));
            accepted.push((offset, now_ms));
        }
        if records.is_empty() {
            return self.reply(token, Reply::Commit(result));
        }
        let then = Then::Commit {
            group_id: who.group_id.clone(),
            token,
            offsets: accepted,
            result,
        };
        self.persist(records, then);
    }

    fn check_commit(&mut self, who: &Identity, now_ms: i64) -> Result<(), GroupError> {
        if self.group(&who.group_id).is_none() {
            if who.generation >= 0 {
                return Err(GroupError::IllegalGeneration);
            }
            self.group_or_new(&who.group_id, now_ms);
        }
        let checked = self.step(&who.group_id, |group, _| {
            // A consumer that only commits.
            if who.generation < 0 && who.member_id.is_empty() && group.members.is_empty() {
                return Ok(());
            }
            group.check_member(&who.member_id, who.instance_id.as_deref())?;
            if who.generation != group.generation {
                return Err(GroupError::IllegalGeneration);
            }
            if group.state == GroupState::CompletingRebalance {
                return Err(GroupError::RebalanceInProgress);
            }
            if let Some(member) = group.members.get_mut(&who.member_id) {
                member.alive(now_ms);
            }
            Ok(())
        });
        checked.unwrap_or(Err(GroupError::UnknownMemberId))
    }

    /// A committed offset.
    pub fn offset(&self, group_id: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups
            .get(group_id)?
            .offsets
            .get(topic)?
            .get(&partition)
    }

    /// All committed offsets of a group.
    pub fn offsets(&self, group_id: &str) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        let topics = self
            .groups
            .get(group_id)
            .into_iter()
            .flat_map(|entry| &entry.offsets);
        topics.flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(index, o)| (topic.as_str(), *index, o))
        })
    }

    /// All groups.
    pub fn list(&self) -> Vec<GroupListing> {
        let listed = |(id, entry): (&String, &Entry)| GroupListing {
            group_id: id.clone(),
            protocol_type: entry
                .group
                .as_ref()
                .and_then(|g| g.protocol_type.clone())
                .unwrap_or_default(),
            state: entry
                .group
                .as_ref()
                .map_or(GroupState::Empty, |group| group.state),
        };
        self.groups.iter().map(listed).collect()
    }

    /// A group in full; `None` when there is none.
    pub fn describe(&self, group_id: &str) -> Option<GroupDescription> {
        let entry = self.groups.get(group_id)?;
        let Some(group) = &entry.group else {
            return Some(GroupDescription {
                state: GroupState::Empty,
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            });
        };
        let protocol = group.protocol.clone().unwrap_or_default();
        let settled = group.state == GroupState::Stable;
        let members = group.members.values().map(|member| MemberDescription {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if settled {
                member.metadata(&protocol)
            } else {
                Bytes::new()
            },
            assignment: if settled {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        });
        Some(GroupDescription {
            state: group.state,
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            protocol: if settled {
                protocol.clone()
            } else {
                String::new()
            },
            members: members.collect(),
        })
    }

    /// Deletes an empty group with its offsets: answered with [`Reply::Deleted`].
    pub fn delete_group(&mut self, group_id: &str, token: Token) {
        let refused = match self.groups.get(group_id) {
            None => Some(GroupError::GroupIdNotFound),
            Some(entry)
                if entry
                    .group
                    .as_ref()
                    .is_some_and(|group| group.state != GroupState::Empty) =>
            {
                Some(GroupError::NonEmptyGroup)
            }
            Some(_) => None,
        };
        if refused.is_some() {
            return self.reply(token, Reply::Deleted(refused));
        }
        let records = self.tombstones(group_id, |_, _| true, true);
        self.groups.remove(group_id);
        self.persist(records, Then::Forget { token: Some(token) });
    }

    /// Deletes offsets of a group: answered with [`Reply::Commit`], in the order asked.
    pub fn delete_offsets(&mut self, group_id: &str, partitions: &[(String, i32)], token: Token) {
        let Some(entry) = self.groups.get_mut(group_id) else {
            return self.reply(token, Reply::Deleted(Some(GroupError::GroupIdNotFound)));
        };
        let group = entry
            .group
            .as_ref()
            .filter(|group| group.state != GroupState::Empty);
        if group.is_some_and(|group| group.is_subscribed("").is_none()) {
            return self.reply(token, Reply::Deleted(Some(GroupError::NonEmptyGroup)));
        }
        let mut result = CommitResult::new();
        let mut records = Vec::new();
        for (topic, partition) in partitions {
            let in_use = group.is_some_and(|group| group.is_subscribed(topic) != Some(false));
            result.push((
                topic.clone(),
                *partition,
                in_use.then_some(GroupError::GroupSubscribedToTopic),
            ));
            if !in_use
                && entry
                    .offsets
                    .get_mut(topic)
                    .and_then(|of| of.remove(partition))
                    .is_some()
            {
                records.push((codec::offset_key(group_id, topic, *partition), None));
            }
        }
        entry.offsets.retain(|_, of| !of.is_empty());
        if records.is_empty() {
            return self.reply(token, Reply::Commit(result));
        }
        let then = Then::Commit {
            group_id: group_id.to_owned(),
            token,
            offsets: Vec::new(),
            result,
        };
        self.persist(records, then);
    }

    fn tombstones(
        &self,
        group_id: &str,
        which: impl Fn(&str, &CommittedOffset) -> bool,
        group: bool,
    ) -> Vec<OffsetsRecord> {
        let gone = self
            .offsets(group_id)
            .filter(|(topic, _, offset)| which(topic, offset));
        let mut records: Vec<_> = gone
            .map(|(topic, index, _)| (codec::offset_key(group_id, topic, index), None))
            .collect();
        if group {
            records.push((codec::group_key(group_id), None));
        }
        records
    }

    /// Forgets offsets that nobody has used for the retention time, and groups without any.
    pub fn expire_offsets(&mut self, now_ms: i64) {
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        for id in ids {
            self.expire_group(&id, now_ms);
        }
    }

    fn expire_group(&mut self, group_id: &str, now_ms: i64) {
        let Some(entry) = self.groups.get(group_id) else {
            return;
        };
        let group = entry.group.as_ref();
        let retention_ms = self.config.offsets_retention_ms;
        let expired = |topic: &str, offset: &CommittedOffset| {
            let since_ms = match group {
                Some(group)
                    if group.state == GroupState::Empty && group.protocol_type.is_some() =>
                {
                    group.state_since_ms.max(offset.commit_timestamp_ms)
                }
                Some(group)
                    if group.state != GroupState::Empty
                        && group.is_subscribed(topic) != Some(false) =>
                {
                    return false;
                }
                _ => offset.commit_timestamp_ms,
            };
            now_ms
                >= offset
                    .expire_timestamp_ms
                    .unwrap_or_else(|| since_ms.saturating_add(retention_ms))
        };
        let left = self
            .offsets(group_id)
            .any(|(topic, _, offset)| !expired(topic, offset));
        let empty = group.is_none_or(|group| group.state == GroupState::Empty && group.size() == 0);
        let had_any = !entry.offsets.is_empty();
        let old =
            group.is_none_or(|group| now_ms >= group.state_since_ms.saturating_add(retention_ms));
        let gone = empty && !left && (had_any || old);
        let records = self.tombstones(group_id, expired, gone);
        if records.is_empty() {
            return;
        }
        if gone {
            self.groups.remove(group_id);
        } else {
            let keys: Vec<(String, i32)> = records
                .iter()
                .filter_map(|(key, _)| offset_of(key))
                .collect();
            if let Some(entry) = self.groups.get_mut(group_id) {
                for (topic, partition) in keys {
                    entry
                        .offsets
                        .get_mut(&topic)
                        .map(|of| of.remove(&partition));
                }
                entry.offsets.retain(|_, of| !of.is_empty());
            }
        }
        self.persist(records, Then::Forget { token: None });
    }

    /// Next time at which [`Coordinator::tick`] has something to do, Unix ms.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.groups
            .values()
            .filter_map(|entry| entry.group.as_ref()?.next_deadline_ms())
            .min()
    }

    /// Lets time pass: sessions end, rebalances complete.
    pub fn tick(&mut self, now_ms: i64) {
        let due = |entry: &Entry| {
            entry
                .group
                .as_ref()
                .and_then(Group::next_deadline_ms)
                .is_some_and(|deadline| deadline <= now_ms)
        };
        let ids: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, entry)| due(entry))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.step(&id, |group, out| group.tick(now_ms, out));
        }
    }

    /// Tells that a write is acknowledged (`ok`) or failed.
    pub fn persisted(&mut self, id: u64, ok: bool, now_ms: i64) {
        match self.writes.remove(&id) {
            Some(Then::Assign {
                group_id,
                generation,
                assignments,
            }) => {
                self.step(&group_id, |group, out| {
                    // A rebalance may have begun meanwhile.
                    if group.generation != generation
                        || group.state != GroupState::CompletingRebalance
                    {
                        return;
                    }
                    if ok {
                        group.assigned(&assignments, now_ms, out);
                    } else {
                        group.assignment_failed(GroupError::CoordinatorNotAvailable, now_ms, out);
                    }
                });
            }
            Some(Then::Rejoined { token, joined }) => {
                let refused =
                    Joined::refused(GroupError::CoordinatorNotAvailable, &joined.member_id);
                self.reply(token, Reply::Join(if ok { joined } else { refused }));
            }
            Some(Then::Commit {
                group_id,
                token,
                offsets,
                mut result,
            }) => {
                if ok {
                    self.store(&group_id, offsets);
                } else {
                    for (_, _, error) in &mut result {
                        error.get_or_insert(GroupError::CoordinatorNotAvailable);
                    }
                }
                self.reply(token, Reply::Commit(result));
            }
            Some(Then::Forget { token: Some(token) }) => {
                let error = (!ok).then_some(GroupError::CoordinatorNotAvailable);
                self.reply(token, Reply::Deleted(error));
            }
            Some(Then::Forget { token: None } | Then::Nothing) | None => {}
        }
    }

    fn store(&mut self, group_id: &str, offsets: Vec<(OffsetToCommit, i64)>) {
        if offsets.is_empty() {
            return;
        }
        let entry = self.groups.entry(group_id.to_owned()).or_default();
        for (offset, at_ms) in offsets {
            let stored = committed(&offset, at_ms);
            entry
                .offsets
                .entry(offset.topic)
                .or_default()
                .insert(offset.partition, stored);
        }
    }

    /// Replays one record of `__consumer_offsets`, in the order of the log.
    ///
    /// # Errors
    /// [`DecodeError`] for a record that cannot be read; the caller reports and goes on.
    pub fn apply_record(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        now_ms: i64,
    ) -> Result<(), DecodeError> {
        match (codec::decode_key(key)?, value) {
            (
                Key::Offset {
                    group_id,
                    topic,
                    partition,
                },
                Some(value),
            ) => {
                let offset = codec::decode_offset(value)?;
                let entry = self.groups.entry(group_id).or_default();
                entry
                    .offsets
                    .entry(topic)
                    .or_default()
                    .insert(partition, offset);
            }
            (
                Key::Offset {
                    group_id,
                    topic,
                    partition,
                },
                None,
            ) => {
                if let Some(entry) = self.groups.get_mut(&group_id) {
                    entry
                        .offsets
                        .get_mut(&topic)
                        .map(|of| of.remove(&partition));
                    entry.offsets.retain(|_, of| !of.is_empty());
                }
            }
            (Key::Group { group_id }, Some(value)) => {
                let stored = codec::decode_group(value)?;
                let group = Group::stored(
                    &group_id,
                    stored,
                    self.config.initial_rebalance_delay_ms,
                    now_ms,
                );
                self.groups.entry(group_id).or_default().group = Some(group);
            }
            (Key::Group { group_id }, None) => {
                if let Some(entry) = self.groups.get_mut(&group_id) {
                    entry.group = None;
                }
            }
            (Key::Other(_), _) => {}
        }
        Ok(())
    }

    /// Ends a replay: what is left without group and offsets is gone.
    pub fn finish_loading(&mut self) {
        self.groups
            .retain(|_, entry| entry.group.is_some() || !entry.offsets.is_empty());
    }
}

fn committed(offset: &OffsetToCommit, now_ms: i64) -> CommittedOffset {
    CommittedOffset {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        commit_timestamp_ms: now_ms,
        expire_timestamp_ms: None,
    }
}

fn group_record(group: &Group) -> OffsetsRecord {
    (
        codec::group_key(&group.id),
        Some(codec::group_value(&group.to_stored())),
    )
}

fn offset_of(key: &[u8]) -> Option<(String, i32)> {
    match codec::decode_key(key) {
        Ok(Key::Offset {
            topic, partition, ..
        }) => Some((topic, partition)),
        _ => None,
    }
}
