//! One consumer group of the new protocol (KIP-848): its members, their epochs, and the way of each
//! member to the target assignment. The steps are in the sibling modules, one per part.
//!
//! *A partition is held by at most one member, from the moment the member is told of it until the
//! member has said that it gave it back, or is gone. A member's epoch never goes back, and is never
//! ahead of the target's. Every change of state marks the keys of its records.*

mod api;
mod beat;
mod classic;
mod commit;
mod describe;
mod member;
mod migrate;
mod reconcile;
mod stored;
mod timers;
mod update;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use api::{
    ConsumerBeat, ConsumerDescription, ConsumerHeartbeat, ConsumerMemberDescription, JOIN_EPOCH,
    LEAVE_EPOCH, NamedTopic, STATIC_LEAVE_EPOCH,
};
pub(crate) use member::MemberId;
pub(crate) use update::check_regex;

use crate::codec::kind;
use crate::config::{ConsumerConfig, ConsumerSettings};
use crate::group::GroupState;
use crate::modern::{Held, Ledger, Part, StateKey, Subscriptions, Target, TopicCatalog};

use member::{Member, MemberState};

/// What a consumer group may touch while it takes a step.
pub(crate) struct Ctx<'a> {
    pub(crate) config: &'a ConsumerConfig,
    pub(crate) topics: &'a dyn TopicCatalog,
    pub(crate) now_ms: i64,
    pub(crate) ledger: &'a mut Ledger,
}

#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    id: Arc<str>,
    members: BTreeMap<MemberId, Member>,
    /// `group.instance.id` → the member that holds it.
    static_members: BTreeMap<Arc<str>, MemberId>,
    /// Ids handed out to classic members with MEMBER_ID_REQUIRED → when they lapse, Unix ms.
    pending: BTreeMap<MemberId, i64>,
    target: Target,
    subscriptions: Subscriptions,
    /// Who has each partition, to read it or to give it back.
    holders: HashMap<Part, MemberId>,
    /// As the group's own settings were when last heard of.
    settings: ConsumerSettings,
    /// Version of the topics that the metadata hash was last made of.
    checked_version: Option<u64>,
    /// The log has a record of the type that Kafka 4.1 and later no longer write.
    has_old_partitions: bool,
    /// No deadline of this group is earlier, Unix ms; it may be too early.
    pub(crate) deadline_hint_ms: i64,
}

impl ConsumerGroup {
    pub(crate) fn new(id: Arc<str>, settings: ConsumerSettings) -> Self {
        Self {
            id,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            target: Target::default(),
            subscriptions: Subscriptions::default(),
            holders: HashMap::new(),
            settings,
            checked_version: None,
            has_old_partitions: false,
            deadline_hint_ms: i64::MAX,
        }
    }

    /// Nothing that would have to be remembered.
    pub(crate) fn is_blank(&self) -> bool {
        self.members.is_empty() && self.target.group_epoch == 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn state(&self) -> GroupState {
        let epoch = self.target.assignment_epoch;
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.target.is_behind() {
            GroupState::Assigning
        } else if self
            .members
            .values()
            .any(|member| member.epoch != epoch || member.state != MemberState::Stable)
        {
            GroupState::Reconciling
        } else {
            GroupState::Stable
        }
    }

    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        self.subscriptions.contains(topic)
    }

    fn arm(&mut self, deadline_ms: i64) {
        self.deadline_hint_ms = self.deadline_hint_ms.min(deadline_ms);
    }

    /// Marks the record of a member's own data.
    fn mark(ctx: &mut Ctx<'_>, kind: i16, part: &Arc<str>) {
        ctx.ledger.mark(StateKey::of_part(kind, part));
    }

    /// The group's epoch grows.
    fn bump(&mut self, ctx: &mut Ctx<'_>) {
        self.target.bump();
        ctx.ledger.mark(StateKey::of_group(kind::CONSUMER_GROUP));
    }

    /// Puts a new member into all books.
    fn insert(&mut self, member: Member, ctx: &mut Ctx<'_>) {
        self.subscriptions
            .add(&member.topic_names, member.topic_regex.as_ref());
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member.id.clone());
        }
        Self::mark(ctx, kind::CONSUMER_MEMBER, &member.id);
        self.arm(member.deadline_ms());
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out of all books. The group's epoch has still to grow.
    fn remove(&mut self, member_id: &str, ctx: &mut Ctx<'_>) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        let unused = self
            .subscriptions
            .remove(&member.topic_names, member.topic_regex.as_ref());
        if let Some(regex) = unused {
            Self::mark(ctx, kind::CONSUMER_REGEX, &regex);
        }
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id) == Some(&member.id)
        {
            self.static_members.remove(instance_id);
        }
        self.release(&member.id, &member.assigned);
        self.release(&member.id, &member.revoking);
        self.target.remove(member_id);
        for kind in [
            kind::CONSUMER_CURRENT,
            kind::CONSUMER_TARGET_MEMBER,
            kind::CONSUMER_MEMBER,
        ] {
            Self::mark(ctx, kind, &member.id);
        }
        Some(member)
    }

    /// The member has these partitions no more.
    fn release(&mut self, member_id: &MemberId, held: &Held) {
        for part in held.parts() {
            if self.holders.get(&part) == Some(member_id) {
                self.holders.remove(&part);
            }
        }
    }

    /// The place of a static member goes to the process that comes back under its instance id, with
    /// all that belonged to it.
    fn replace(&mut self, old_id: &MemberId, new_id: &MemberId, ctx: &mut Ctx<'_>) {
        let target = self.target.remove(old_id);
        let Some(mut member) = self.members.remove(old_id) else {
            return;
        };
        for kind in [
            kind::CONSUMER_CURRENT,
            kind::CONSUMER_TARGET_MEMBER,
            kind::CONSUMER_MEMBER,
        ] {
            Self::mark(ctx, kind, old_id);
            Self::mark(ctx, kind, new_id);
        }
        for part in member.assigned.parts().chain(member.revoking.parts()) {
            if let Some(holder) = self.holders.get_mut(&part)
                && holder == old_id
            {
                *holder = new_id.clone();
            }
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), new_id.clone());
        }
        if let Some(target) = target {
            self.target.set(new_id.clone(), target);
        }
        member.id = new_id.clone();
        self.members.insert(new_id.clone(), member);
    }
}
