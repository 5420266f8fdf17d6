//! One group of the classic protocol: its members and the book-keeping that every step shares.
//! The steps themselves are in the sibling modules, one per part of the protocol.

mod describe;
mod heartbeat;
mod join;
mod leave;
mod member;
mod migrate;
mod rebalance;
mod replace;
mod stored;
mod sync;
mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::{Protocol, Reply, Token, WriteId};
use crate::codec::{CONSUMER_PROTOCOL_TYPE, subscribed_topics};
use crate::error::GroupError;
use crate::group::GroupState;
use crate::step::Step;

use member::Member;
pub(crate) use member::{MemberId, MemberUpdate};
pub(crate) use migrate::ClassicMember;
use rebalance::JoinPhase;

#[derive(Debug)]
pub(crate) struct Classic {
    pub(crate) id: Arc<str>,
    pub(crate) state: GroupState,
    /// When `state` was entered, Unix ms; unknown for groups stored by old brokers.
    pub(crate) state_since_ms: Option<i64>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
    /// `group.instance.id` → the member that holds it.
    static_members: BTreeMap<Arc<str>, MemberId>,
    /// Ids handed out with MEMBER_ID_REQUIRED → when they lapse, Unix ms.
    pending: BTreeMap<MemberId, i64>,
    /// Members of this generation whose first sync has not come.
    pending_sync: BTreeSet<MemberId>,
    /// How many members offer each protocol.
    offered: BTreeMap<String, usize>,
    /// How many members have a join waiting.
    joins_waiting: usize,
    /// Present exactly while the state is `PreparingRebalance`.
    join_phase: Option<JoinPhase>,
    /// When the members in `pending_sync` are given up, Unix ms.
    sync_deadline_ms: Option<i64>,
    /// The leader's assignments of this generation, on their way to the log.
    assignment_write: Option<WriteId>,
    /// The latest write of the group's record.
    latest_write: Option<WriteId>,
    /// Topics of the members' subscriptions; `None` when they cannot be read.
    subscribed: Option<BTreeSet<String>>,
    rebalance_reason: Option<String>,
    /// No deadline of this group is earlier, Unix ms. It may be too early (heartbeats only
    /// postpone), then the tick finds nothing and corrects it.
    pub(crate) deadline_hint_ms: i64,
}

impl Classic {
    pub(crate) fn new(id: Arc<str>, now_ms: Option<i64>) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            state_since_ms: now_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            offered: BTreeMap::new(),
            joins_waiting: 0,
            join_phase: None,
            sync_deadline_ms: None,
            assignment_write: None,
            latest_write: None,
            subscribed: None,
            rebalance_reason: None,
            deadline_hint_ms: i64::MAX,
        }
    }

    /// Nothing that would have to be remembered: no member, neither now nor before.
    pub(crate) fn is_blank(&self) -> bool {
        self.state == GroupState::Empty && self.generation == 0 && self.pending.is_empty()
    }

    pub(crate) fn has_pending_members(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn enter(&mut self, state: GroupState, now_ms: i64) {
        self.state = state;
        self.state_since_ms = Some(now_ms);
    }

    /// Makes sure that a tick comes no later than `deadline_ms`.
    fn arm(&mut self, deadline_ms: i64) {
        self.deadline_hint_ms = self.deadline_hint_ms.min(deadline_ms);
    }

    /// The member's session begins anew.
    fn refresh_session(&mut self, member_id: &str, now_ms: i64) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let deadline_ms = now_ms + i64::from(member.now.session_timeout_ms);
        member.session_deadline_ms = deadline_ms;
        self.arm(deadline_ms);
    }

    /// Checks that a request comes from a current member: FENCED_INSTANCE_ID when another member
    /// has taken over the instance id, else UNKNOWN_MEMBER_ID.
    pub(crate) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                Some(holder) if **holder == *member_id => {}
                Some(_) => return Err(GroupError::FencedInstanceId),
                None => return Err(GroupError::UnknownMemberId),
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(GroupError::UnknownMemberId)
        }
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn add_member(&mut self, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.count_protocols(&member.now.protocols);
        self.joins_waiting += usize::from(member.join.is_some());
        self.pending.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes the member out of all books and answers with `error` what it waits for.
    fn remove_member(&mut self, member_id: &str, error: GroupError, step: &mut Step<'_>) {
        self.fail_waiting(member_id, error, step);
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        self.uncount_protocols(&member.now.protocols);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        self.pending_sync.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Answers with `error` whatever waits.
    fn fail_all_waiting(&mut self, error: GroupError, step: &mut Step<'_>) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for member_id in ids {
            self.fail_waiting(&member_id, error, step);
        }
    }

    fn fail_waiting(&mut self, member_id: &str, error: GroupError, step: &mut Step<'_>) {
        if let Some(token) = self.take_join(member_id) {
            step.refuse_join(token, error, member_id);
        }
        if let Some(token) = self.members.get_mut(member_id).and_then(|m| m.sync.take()) {
            step.reply(token, Reply::Sync(Err(error)));
        }
        self.answer_heartbeat(member_id, Err(error), step);
    }

    fn take_join(&mut self, member_id: &str) -> Option<Token> {
        let token = self.members.get_mut(member_id)?.join.take()?;
        self.joins_waiting -= 1;
        Some(token)
    }

    /// Lets `token` wait for the rebalance. A join that waited already has been given up by its
    /// client; it is answered so that nothing stays open.
    fn wait_for_join(&mut self, member_id: &str, token: Token, step: &mut Step<'_>) {
        if let Some(given_up) = self.take_join(member_id) {
            step.refuse_join(given_up, GroupError::RebalanceInProgress, member_id);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.join = Some(token);
            self.joins_waiting += 1;
        }
    }

    /// Replaces what the member offers.
    fn update_member(&mut self, member_id: &str, update: MemberUpdate) -> Option<MemberUpdate> {
        let member = self.members.get_mut(member_id)?;
        let before = std::mem::replace(&mut member.now, update);
        let added = member.now.protocols.clone();
        self.uncount_protocols(&before.protocols);
        self.count_protocols(&added);
        Some(before)
    }

    fn count_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            *self.offered.entry(protocol.name.clone()).or_default() += 1;
        }
    }

    fn uncount_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.offered.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.offered.remove(&protocol.name);
                }
            }
        }
    }

    fn offered_by_all(&self, protocol: &str) -> bool {
        self.offered.get(protocol) == Some(&self.members.len())
    }

    /// Whether a member with these protocols could be in the group.
    fn fits(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|protocol| self.offered_by_all(&protocol.name))
    }

    /// The protocol that most members prefer among those that all of them offer. Equal votes go to
    /// the first name, so that the choice depends on nothing but the members.
    fn choose_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut names = member
                .now
                .protocols
                .iter()
                .map(|protocol| protocol.name.as_str());
            let choice = names.find(|name| self.offered_by_all(name))?;
            *votes.entry(choice).or_default() += 1;
        }
        let best = *votes.values().max()?;
        votes
            .into_iter()
            .find(|&(_, count)| count == best)
            .map(|(name, _)| name.to_owned())
    }

    /// The longest time any member may take to join again.
    fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self
            .members
            .values()
            .map(|member| member.now.rebalance_timeout_ms);
        timeouts.max().map_or(0, i64::from)
    }

    pub(crate) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    pub(crate) fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Reads the members' subscriptions under the protocol chosen.
    fn read_subscriptions(&mut self) {
        self.subscribed = None;
        if !self.is_consumer_group() {
            return;
        }
        let mut topics = BTreeSet::new();
        if !self.members.is_empty() {
            let Some(protocol) = &self.protocol else {
                return;
            };
            for member in self.members.values() {
                let metadata = member.metadata(protocol);
                let Ok(names) = subscribed_topics(&metadata) else {
                    return;
                };
                topics.extend(names.into_iter().map(str::to_owned));
            }
        }
        self.subscribed = Some(topics);
    }

    /// Whether the members read the topic. A consumer group whose subscriptions cannot be read
    /// counts as subscribed to everything; other kinds of groups to nothing.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer_group(),
        }
    }

    pub(crate) fn knows_subscriptions(&self) -> bool {
        self.is_consumer_group() && self.subscribed.is_some()
    }
}
