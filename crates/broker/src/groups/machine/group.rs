//! One group: members, generations, rebalances.
//!
//! ```text
//! member A            member B            group
//!   │ Join ─────────────────────────────▶ PreparingRebalance (waits for members)
//!   │                   │ Join ─────────▶
//!   ◀── generation 1, leader, members ──  CompletingRebalance
//!   │                   ◀── generation 1
//!   │ Sync(assignments) ────────────────▶ persisted, then Stable
//!   │                   │ Sync ─────────▶
//!   ◀── assignment ────◀── assignment ──
//!   │ Heartbeat …       │ Heartbeat …
//! ```
//!
//! Invariants: the leader is a member; in `CompletingRebalance` and `Stable` all members share one
//! generation and one protocol, which each of them supports; a token is answered exactly once.

use std::collections::{BTreeMap, BTreeSet};

use crate::groups::machine::GroupError;
use crate::groups::machine::api::{GroupState, Join, Joined, JoinedMember, Reply, Synced, Token};
use crate::groups::machine::codec::{GroupMetadata, StoredMember, subscribed_topics};
use crate::groups::machine::member::Member;

/// A new member that never finishes its first rebalance is dropped after this long, in ms.
const NEW_MEMBER_TIMEOUT_MS: i64 = 5 * 60 * 1000;

/// Answers made by a step.
pub(crate) type Replies = Vec<(Token, Reply)>;

/// A rebalance that is collecting members.
#[derive(Clone, Copy, Debug)]
struct Collecting {
    until_ms: i64,
    /// Of the first rebalance of an empty group: how much longer it may be put off for newcomers.
    initial_left_ms: Option<i64>,
    newcomers: bool,
}

/// A group of the classic protocol.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) state: GroupState,
    pub(crate) state_since_ms: i64,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Static instance id to member id.
    instances: BTreeMap<String, String>,
    /// Ids handed out to members that have not joined with them yet, with their deadline.
    pending: BTreeMap<String, i64>,
    collecting: Option<Collecting>,
    /// Members that have not synced are removed then.
    sync_deadline_ms: Option<i64>,
    unsynced: BTreeSet<String>,
    /// The leader's assignment is being written.
    pub(crate) assigning: bool,
    initial_delay_ms: i64,
}

impl Group {
    pub(crate) fn new(id: &str, initial_delay_ms: i64, now_ms: i64) -> Self {
        Self {
            id: id.to_owned(),
            state: GroupState::Empty,
            state_since_ms: now_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            collecting: None,
            sync_deadline_ms: None,
            unsynced: BTreeSet::new(),
            assigning: false,
            initial_delay_ms,
        }
    }

    /// A group as it was stored.
    pub(crate) fn stored(
        id: &str,
        stored: GroupMetadata,
        initial_delay_ms: i64,
        now_ms: i64,
    ) -> Self {
        let mut group = Self::new(id, initial_delay_ms, now_ms);
        group.generation = stored.generation;
        group.protocol_type = Some(stored.protocol_type).filter(|kind| !kind.is_empty());
        if stored.state_timestamp_ms >= 0 {
            group.state_since_ms = stored.state_timestamp_ms;
        }
        let protocol = stored.protocol.unwrap_or_default();
        for member in stored.members {
            if let Some(instance) = &member.instance_id {
                group
                    .instances
                    .insert(instance.clone(), member.member_id.clone());
            }
            group.members.insert(
                member.member_id.clone(),
                Member::stored(member, &protocol, now_ms),
            );
        }
        if !group.members.is_empty() {
            group.state = GroupState::Stable;
            group.leader = stored
                .leader
                .filter(|leader| group.members.contains_key(leader));
            group.protocol = Some(protocol);
        }
        group
    }

    /// What is stored of the group.
    pub(crate) fn to_stored(&self) -> GroupMetadata {
        let protocol = self.protocol.clone().unwrap_or_default();
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_since_ms,
            members: self
                .members
                .values()
                .map(|member| StoredMember {
                    member_id: member.id.clone(),
                    instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    session_timeout_ms: member.session_timeout_ms,
                    subscription: member.metadata(&protocol),
                    assignment: member.assignment.clone(),
                })
                .collect(),
        }
    }

    fn become_state(&mut self, state: GroupState, now_ms: i64) {
        self.state = state;
        self.state_since_ms = now_ms;
    }

    /// Members and ids handed out.
    pub(crate) fn size(&self) -> usize {
        self.members.len() + self.pending.len()
    }

    pub(crate) fn is_pending(&self, member_id: &str) -> bool {
        self.pending.contains_key(member_id)
    }

    pub(crate) fn await_member(&mut self, member_id: String, deadline_ms: i64) {
        self.pending.insert(member_id, deadline_ms);
    }

    pub(crate) fn member_of_instance(&self, instance_id: &str) -> Option<&String> {
        self.instances.get(instance_id)
    }

    /// Checks that a member is who it says it is.
    pub(crate) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.instances.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(current) if current != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(GroupError::UnknownMemberId)
        }
    }

    /// Whether a member with these protocols could be part of the group.
    pub(crate) fn supports(
        &self,
        protocol_type: &str,
        protocols: &[(String, bytes::Bytes)],
    ) -> bool {
        if protocol_type.is_empty() || protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|(name, _)| self.all_support(name, None))
    }

    fn all_support(&self, protocol: &str, except: Option<&str>) -> bool {
        self.members
            .values()
            .filter(|member| except != Some(&member.id))
            .all(|member| member.protocols.iter().any(|(name, _)| name == protocol))
    }

    /// Adds a member that joins, and begins a rebalance.
    pub(crate) fn add_joining(
        &mut self,
        member_id: String,
        join: &Join,
        token: Token,
        now_ms: i64,
        out: &mut Replies,
    ) {
        self.pending.remove(&member_id);
        let mut member = Member::new(member_id.clone(), join, now_ms);
        member.joining = Some(token);
        member.deadline_ms = now_ms + NEW_MEMBER_TIMEOUT_MS;
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), member_id.clone());
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        self.members.insert(member_id, member);
        if let Some(collecting) = &mut self.collecting {
            collecting.newcomers = true;
        }
        self.rebalance(now_ms, out);
    }

    /// A known member joins again and wants a rebalance.
    pub(crate) fn rejoin(
        &mut self,
        member_id: &str,
        join: &Join,
        token: Token,
        now_ms: i64,
        out: &mut Replies,
    ) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.update(join);
            if let Some(older) = member.joining.replace(token) {
                out.push((
                    older,
                    Reply::Join(Joined::refused(GroupError::RebalanceInProgress, member_id)),
                ));
            }
        }
        self.rebalance(now_ms, out);
    }

    /// Whether a rejoining member says the same as before.
    pub(crate) fn says_the_same(&self, member_id: &str, join: &Join) -> bool {
        self.members
            .get(member_id)
            .is_some_and(|member| member.protocols == join.protocols)
    }

    /// Replaces a static member that came back under a new member id (KIP-345). True when the
    /// assignment can stay as it is: the caller then writes the group and answers.
    pub(crate) fn replace_static(
        &mut self,
        old_id: &str,
        new_id: &str,
        join: &Join,
        now_ms: i64,
        out: &mut Replies,
    ) -> bool {
        let Some(mut member) = self.members.remove(old_id) else {
            return false;
        };
        let fenced = GroupError::FencedInstanceId;
        if let Some(token) = member.joining.take() {
            out.push((token, Reply::Join(Joined::refused(fenced, old_id))));
        }
        if let Some(token) = member.syncing.take() {
            out.push((token, Reply::Sync(Synced::refused(fenced))));
        }
        if self.unsynced.remove(old_id) {
            self.unsynced.insert(new_id.to_owned());
        }
        let same = self.state == GroupState::Stable && member.protocols == join.protocols;
        member.update(join);
        member.id = new_id.to_owned();
        member.alive(now_ms);
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), new_id.to_owned());
        }
        if self.leader.as_deref() == Some(old_id) {
            self.leader = Some(new_id.to_owned());
        }
        self.members.insert(new_id.to_owned(), member);
        same
    }

    /// Begins a rebalance, or sees whether the one under way can complete.
    pub(crate) fn rebalance(&mut self, now_ms: i64, out: &mut Replies) {
        match self.state {
            GroupState::Empty => {
                let longest = i64::from(self.longest_rebalance_timeout_ms());
                let delay = self.initial_delay_ms.min(longest).max(0);
                self.collecting = Some(Collecting {
                    until_ms: now_ms + delay,
                    initial_left_ms: Some(longest - delay),
                    newcomers: false,
                });
                self.become_state(GroupState::PreparingRebalance, now_ms);
                if delay == 0 {
                    self.complete_join(now_ms, out);
                }
            }
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.refuse_syncs(GroupError::RebalanceInProgress, now_ms, out);
                self.collecting = Some(Collecting {
                    until_ms: now_ms + i64::from(self.longest_rebalance_timeout_ms()),
                    initial_left_ms: None,
                    newcomers: false,
                });
                self.become_state(GroupState::PreparingRebalance, now_ms);
                self.try_complete_join(now_ms, out);
            }
            GroupState::PreparingRebalance => self.try_complete_join(now_ms, out),
            GroupState::Dead => {}
        }
    }

    fn refuse_syncs(&mut self, error: GroupError, now_ms: i64, out: &mut Replies) {
        self.sync_deadline_ms = None;
        self.unsynced.clear();
        self.assigning = false;
        for member in self.members.values_mut() {
            if let Some(token) = member.syncing.take() {
                member.alive(now_ms);
                out.push((token, Reply::Sync(Synced::refused(error))));
            }
        }
    }

    /// Sends the members that wait for an assignment back to join, after it could not be written.
    pub(crate) fn assignment_failed(&mut self, error: GroupError, now_ms: i64, out: &mut Replies) {
        self.refuse_syncs(error, now_ms, out);
        self.rebalance(now_ms, out);
    }

    fn longest_rebalance_timeout_ms(&self) -> i32 {
        self.members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
    }

    /// Completes the collection when nobody is missing; the first one of a group waits its delay out.
    pub(crate) fn try_complete_join(&mut self, now_ms: i64, out: &mut Replies) {
        let Some(collecting) = self.collecting else {
            return;
        };
        let everybody =
            self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
        if everybody && (collecting.initial_left_ms.is_none() || self.members.is_empty()) {
            self.complete_join(now_ms, out);
        }
    }

    /// The generation begins with those who joined.
    fn complete_join(&mut self, now_ms: i64, out: &mut Replies) {
        let missing: Vec<String> = self
            .members
            .values()
            // Static members may be away until their session ends.
            .filter(|member| member.joining.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for member_id in missing {
            self.take_out(&member_id);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members that are away: give them another round.
            let until_ms = now_ms + i64::from(self.longest_rebalance_timeout_ms());
            self.collecting = Some(Collecting {
                until_ms,
                initial_left_ms: None,
                newcomers: false,
            });
            return;
        }
        self.collecting = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.become_state(GroupState::Empty, now_ms);
            return;
        }
        self.protocol = self.vote();
        self.become_state(GroupState::CompletingRebalance, now_ms);
        self.sync_deadline_ms = Some(now_ms + i64::from(self.longest_rebalance_timeout_ms()));
        self.unsynced = self.members.keys().cloned().collect();
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let token = self.members.get_mut(&id).and_then(|member| {
                member.alive(now_ms);
                member.joining.take()
            });
            if let Some(token) = token {
                out.push((token, Reply::Join(self.joined(&id))));
            }
        }
    }

    /// Keeps the leader if it joined, else takes another one that did.
    fn elect_leader(&mut self) -> bool {
        let joined = |id: &String| {
            self.members
                .get(id)
                .is_some_and(|member| member.joining.is_some())
        };
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let elected = self
            .members
            .values()
            .find(|member| member.joining.is_some())
            .map(|member| member.id.clone());
        if elected.is_some() {
            self.leader = elected;
        }
        self.leader.as_ref().is_some_and(|id| {
            self.members
                .get(id)
                .is_some_and(|member| member.joining.is_some())
        })
    }

    /// Each member votes for the first of its protocols that all support; the most votes win.
    fn vote(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find(|(name, _)| self.all_support(name, None));
            if let Some((name, _)) = choice {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map(|(name, _)| name.to_owned())
    }

    /// The answer to a member that is part of the current generation.
    pub(crate) fn joined(&self, member_id: &str) -> Joined {
        let is_leader = self.leader.as_deref() == Some(member_id);
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = if is_leader {
            let of = |member: &Member| JoinedMember {
                member_id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(&protocol),
            };
            self.members.values().map(of).collect()
        } else {
            Vec::new()
        };
        Joined {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members,
        }
    }

    /// The answer to a member that has an assignment.
    pub(crate) fn synced(&self, member_id: &str) -> Synced {
        Synced {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// Notes that a member waits for its assignment.
    pub(crate) fn wait_for_assignment(&mut self, member_id: &str, token: Token, out: &mut Replies) {
        self.unsynced.remove(member_id);
        if let Some(member) = self.members.get_mut(member_id)
            && let Some(older) = member.syncing.replace(token)
        {
            out.push((
                older,
                Reply::Sync(Synced::refused(GroupError::RebalanceInProgress)),
            ));
        }
    }

    /// The assignment is written: everybody who waits gets theirs.
    pub(crate) fn assigned(
        &mut self,
        assignments: &[(String, bytes::Bytes)],
        now_ms: i64,
        out: &mut Replies,
    ) {
        self.assigning = false;
        for member in self.members.values_mut() {
            let found = assignments.iter().find(|(id, _)| *id == member.id);
            member.assignment = found
                .map(|(_, assignment)| assignment.clone())
                .unwrap_or_default();
        }
        self.become_state(GroupState::Stable, now_ms);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let token = self.members.get_mut(&id).and_then(|member| {
                let token = member.syncing.take();
                if token.is_some() {
                    member.alive(now_ms);
                }
                token
            });
            if let Some(token) = token {
                out.push((token, Reply::Sync(self.synced(&id))));
            }
        }
    }

    /// Removes a member and rebalances the rest.
    pub(crate) fn remove(&mut self, member_id: &str, now_ms: i64, out: &mut Replies) {
        if self.pending.remove(member_id).is_some() {
            self.try_complete_join(now_ms, out);
            return;
        }
        let Some(member) = self.take_out(member_id) else {
            return;
        };
        let unknown = GroupError::UnknownMemberId;
        if let Some(token) = member.joining {
            out.push((token, Reply::Join(Joined::refused(unknown, member_id))));
        }
        if let Some(token) = member.syncing {
            out.push((token, Reply::Sync(Synced::refused(unknown))));
        }
        self.rebalance(now_ms, out);
    }

    fn take_out(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        if let Some(instance) = &member.instance_id
            && self
                .instances
                .get(instance)
                .is_some_and(|id| id == member_id)
        {
            self.instances.remove(instance);
        }
        self.unsynced.remove(member_id);
        if self.leader.as_deref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Next time at which [`Self::tick`] has something to do.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        let members = self
            .members
            .values()
            .filter(|m| !m.is_waiting() || m.joining.is_some());
        members
            .map(|member| member.deadline_ms)
            .chain(self.pending.values().copied())
            .chain(self.collecting.map(|collecting| collecting.until_ms))
            .chain(self.sync_deadline_ms.filter(|_| !self.unsynced.is_empty()))
            .min()
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now_ms: i64, out: &mut Replies) {
        let expired: Vec<String> = self
            .pending
            .iter()
            .filter(|(_, deadline)| **deadline <= now_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in expired {
            self.remove(&id, now_ms, out);
        }
        let silent: Vec<String> = self
            .members
            .values_mut()
            .filter_map(|member| {
                if member.deadline_ms > now_ms || member.syncing.is_some() {
                    return None;
                }
                if member.joining.is_some() && self.state == GroupState::PreparingRebalance {
                    // A rebalance may take longer than a session; who waits is alive.
                    member.deadline_ms = now_ms + NEW_MEMBER_TIMEOUT_MS;
                    return None;
                }
                Some(member.id.clone())
            })
            .collect();
        for id in silent {
            self.remove(&id, now_ms, out);
        }
        self.tick_join(now_ms, out);
        self.tick_sync(now_ms, out);
    }

    fn tick_join(&mut self, now_ms: i64, out: &mut Replies) {
        let Some(collecting) = self
            .collecting
            .filter(|collecting| collecting.until_ms <= now_ms)
        else {
            return;
        };
        match collecting.initial_left_ms {
            // More may come: the first rebalance is put off once more.
            Some(left) if left > 0 && collecting.newcomers => {
                let delay = self.initial_delay_ms.min(left);
                self.collecting = Some(Collecting {
                    until_ms: now_ms + delay,
                    initial_left_ms: Some(left - delay),
                    newcomers: false,
                });
            }
            _ => {
                self.pending.clear();
                self.complete_join(now_ms, out);
            }
        }
    }

    /// Members that got a generation but did not come for their assignment are removed.
    fn tick_sync(&mut self, now_ms: i64, out: &mut Replies) {
        if self
            .sync_deadline_ms
            .is_none_or(|deadline| deadline > now_ms)
        {
            return;
        }
        self.sync_deadline_ms = None;
        if !matches!(
            self.state,
            GroupState::CompletingRebalance | GroupState::Stable
        ) || self.unsynced.is_empty()
        {
            return;
        }
        for id in std::mem::take(&mut self.unsynced) {
            self.take_out(&id);
        }
        self.rebalance(now_ms, out);
    }

    /// Notes that a member has its assignment.
    pub(crate) fn has_synced(&mut self, member_id: &str, now_ms: i64) {
        self.unsynced.remove(member_id);
        if let Some(member) = self.members.get_mut(member_id) {
            member.alive(now_ms);
        }
    }

    /// Whether some member reads the topic; `None` when the group is not one of consumers.
    pub(crate) fn is_subscribed(&self, topic: &str) -> Option<bool> {
        if self.protocol_type.as_deref() != Some("consumer") {
            return None;
        }
        let protocol = self.protocol.clone().unwrap_or_default();
        let reads = |member: &Member| {
            // Metadata that cannot be read may name any topic.
            subscribed_topics(&member.metadata(&protocol))
                .is_none_or(|topics| topics.iter().any(|name| name == topic))
        };
        Some(self.members.values().any(reads))
    }
}
