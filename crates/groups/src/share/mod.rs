//! One share group (KIP-932): its members, their epochs, what each of them may fetch, and for which
//! partitions the state of the share-partition is set up.
//!
//! Members share partitions, so nothing has to be given back before somebody else gets it: a member
//! is where it shall be as soon as it hears of it. *A partition is assigned only once its state is
//! set up. A member's epoch never goes back, and is never ahead of the target's. Every change of
//! state marks the keys of its records.*

mod api;
mod beat;
mod books;
mod describe;
mod simple;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use api::{
    ShareBeat, ShareDescription, ShareHeartbeat, ShareMemberDescription, ShareStateChange,
    ToInitialize,
};

use crate::codec::kind;
use crate::config::{ShareConfig, ShareSettings};
use crate::group::GroupState;
use crate::modern::{Assignment, Ledger, StateKey, Subscriptions, Target, TopicCatalog};
use books::Books;

type MemberId = Arc<str>;

/// What ListGroups calls the protocol.
pub(crate) const PROTOCOL_TYPE: &str = "share";

/// What a share group may touch while it takes a step.
pub(crate) struct Ctx<'a> {
    pub(crate) config: &'a ShareConfig,
    pub(crate) topics: &'a dyn TopicCatalog,
    pub(crate) now_ms: i64,
    pub(crate) ledger: &'a mut Ledger,
}

#[derive(Debug, Clone)]
struct Member {
    id: MemberId,
    rack_id: Option<Arc<str>>,
    client_id: Arc<str>,
    client_host: Arc<str>,
    /// Sorted, each once.
    topic_names: Arc<[Arc<str>]>,
    epoch: i32,
    previous_epoch: i32,
    assigned: Assignment,
    /// Unix ms.
    session_deadline_ms: i64,
}

impl Member {
    fn new(id: MemberId) -> Self {
        Self {
            id,
            rack_id: None,
            client_id: Arc::default(),
            client_host: Arc::default(),
            topic_names: Arc::default(),
            epoch: 0,
            previous_epoch: 0,
            assigned: Assignment::new(),
            session_deadline_ms: i64::MAX,
        }
    }
}

#[derive(Debug)]
pub(crate) struct ShareGroup {
    id: Arc<str>,
    members: BTreeMap<MemberId, Member>,
    target: Target,
    subscriptions: Subscriptions,
    books: Books,
    /// As the group's own settings were when last heard of.
    settings: ShareSettings,
    /// Version of the topics that the metadata hash was last made of.
    checked_version: Option<u64>,
    /// No deadline of this group is earlier, Unix ms; it may be too early.
    pub(crate) deadline_hint_ms: i64,
}

impl ShareGroup {
    pub(crate) fn new(id: Arc<str>, settings: ShareSettings) -> Self {
        Self {
            id,
            members: BTreeMap::new(),
            target: Target::default(),
            subscriptions: Subscriptions::default(),
            books: Books::default(),
            settings,
            checked_version: None,
            deadline_hint_ms: i64::MAX,
        }
    }

    /// Nothing that would have to be remembered.
    pub(crate) fn is_blank(&self) -> bool {
        self.members.is_empty() && self.target.group_epoch == 0 && self.books.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
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
        ctx.ledger.mark(StateKey::of_group(kind::SHARE_GROUP));
    }

    /// Takes a member out. The group's epoch has still to grow.
    fn remove(&mut self, member_id: &str, ctx: &mut Ctx<'_>) {
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        self.subscriptions.remove(&member.topic_names, None);
        self.target.remove(member_id);
        for kind in [
            kind::SHARE_CURRENT,
            kind::SHARE_TARGET_MEMBER,
            kind::SHARE_MEMBER,
        ] {
            Self::mark(ctx, kind, &member.id);
        }
    }

    /// Removes every member whose time is up; who they are.
    pub(crate) fn tick(&mut self, ctx: &mut Ctx<'_>) -> Vec<MemberId> {
        let late = self
            .members
            .values()
            .filter(|member| member.session_deadline_ms <= ctx.now_ms);
        let late: Vec<MemberId> = late.map(|member| member.id.clone()).collect();
        for member_id in &late {
            self.remove(member_id, ctx);
        }
        if !late.is_empty() {
            self.refresh(true, ctx);
        }
        let deadlines = self.members.values().map(|m| m.session_deadline_ms);
        self.deadline_hint_ms = deadlines.min().unwrap_or(i64::MAX);
        late
    }
}
