//! A group, whatever protocol it speaks: its offsets, its kind, and the way of its state to the log.
//! What depends on the kind is passed on; a group changes its kind here.

mod convert;
mod restore;
mod share;
mod state;

use std::sync::Arc;

use crate::api::{
    Effect, GroupListing, GroupRecord, GroupType, Heartbeat, JoinGroup, JoinRefused, LeavingMember,
    LeftMember, OffsetCommit, Reply, SyncGroup, Token, WriteId,
};
use crate::classic::Classic;
use crate::codec::{CONSUMER_PROTOCOL_TYPE, kind};
use crate::consumer::{ConsumerGroup, ConsumerHeartbeat, Ctx, LEAVE_EPOCH, STATIC_LEAVE_EPOCH};
use crate::error::{GroupError, PersistError, ToGroupError};
use crate::modern::{Ledger, Refused, StateKey, TopicCatalog};
use crate::offsets::Offsets;
use crate::share::{self as sharing, ShareGroup};
use crate::step::{Purpose, Step};
use crate::transactional::TransactionalOffsets;

pub use state::GroupState;

/// What kind of group it is.
#[derive(Debug)]
pub(crate) enum Kind {
    Classic(Box<Classic>),
    Consumer(Box<ConsumerGroup>),
    Share(Box<ShareGroup>),
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    kind: Kind,
    pub(crate) offsets: Offsets,
    pub(crate) transactional: TransactionalOffsets,
    /// Open writes of offsets.
    pub(crate) offset_writes: usize,
    /// The keys whose tombstones are on their way to the log, when the group is being deleted.
    deleting: Option<Vec<StateKey>>,
    ledger: Ledger,
    /// The deadline under which the coordinator has filed the group.
    pub(crate) filed_deadline_ms: i64,
}

/// The parts of a group that a consumer group's step needs side by side.
macro_rules! consumer_step {
    ($group:ident, $consumer:ident, $ctx:ident, $step:ident) => {
        let Kind::Consumer($consumer) = &mut $group.kind else {
            return Default::default();
        };
        let mut $ctx = Ctx {
            config: &$step.config.consumer,
            topics: $step.topics,
            now_ms: $step.now_ms,
            ledger: &mut $group.ledger,
        };
    };
}

impl Group {
    pub(crate) fn new(id: Arc<str>, now_ms: Option<i64>) -> Self {
        let kind = Kind::Classic(Box::new(Classic::new(id.clone(), now_ms)));
        Self {
            id,
            kind,
            offsets: Offsets::default(),
            transactional: TransactionalOffsets::default(),
            offset_writes: 0,
            deleting: None,
            ledger: Ledger::default(),
            filed_deadline_ms: i64::MAX,
        }
    }

    pub(crate) fn classic(&self) -> Option<&Classic> {
        match &self.kind {
            Kind::Classic(classic) => Some(classic),
            Kind::Consumer(_) | Kind::Share(_) => None,
        }
    }

    pub(crate) fn classic_mut(&mut self) -> Option<&mut Classic> {
        match &mut self.kind {
            Kind::Classic(classic) => Some(classic),
            Kind::Consumer(_) | Kind::Share(_) => None,
        }
    }

    pub(crate) fn consumer(&self) -> Option<&ConsumerGroup> {
        match &self.kind {
            Kind::Consumer(consumer) => Some(consumer),
            Kind::Classic(_) | Kind::Share(_) => None,
        }
    }

    pub(crate) fn state(&self) -> GroupState {
        match &self.kind {
            _ if self.deleting.is_some() => GroupState::Dead,
            Kind::Classic(classic) => classic.state,
            Kind::Consumer(consumer) => consumer.state(),
            Kind::Share(share) => share.state(),
        }
    }

    /// Nothing that would have to be remembered, and nothing on its way.
    pub(crate) fn is_blank(&self) -> bool {
        let blank = match &self.kind {
            Kind::Classic(classic) => classic.is_blank(),
            Kind::Consumer(consumer) => consumer.is_blank(),
            Kind::Share(share) => share.is_blank(),
        };
        blank
            && self.deleting.is_none()
            && self.offsets.is_empty()
            && self.transactional.is_empty()
            && self.offset_writes == 0
            && self.ledger.is_idle()
    }

    /// Nobody is in the group, or about to be.
    pub(crate) fn is_deserted(&self) -> bool {
        self.state() == GroupState::Empty
            && self
                .classic()
                .is_none_or(|classic| !classic.has_pending_members())
    }

    pub(crate) fn deadline_hint_ms(&self) -> i64 {
        match &self.kind {
            Kind::Classic(classic) => classic.deadline_hint_ms,
            Kind::Consumer(consumer) => consumer.deadline_hint_ms,
            Kind::Share(share) => share.deadline_hint_ms,
        }
    }

    /// Tombstones for all that the log may say of the group, apart from offsets. Until they are
    /// written, or could not be, the group takes nothing in.
    pub(crate) fn begin_delete(&mut self) -> Vec<GroupRecord> {
        match &mut self.kind {
            Kind::Classic(classic) => {
                classic.state = GroupState::Dead;
                self.ledger.mark(StateKey::of_group(kind::CLASSIC_GROUP));
            }
            Kind::Consumer(consumer) => {
                let keys = consumer.keys();
                keys.into_iter().for_each(|key| self.ledger.mark(key));
            }
            Kind::Share(share) => {
                let keys = share.keys();
                keys.into_iter().for_each(|key| self.ledger.mark(key));
            }
        }
        let (keys, records) = self.ledger.take_records(&self.id, |_| None);
        self.deleting = Some(keys);
        records
    }

    /// The tombstones could not be written, or only some: the group stays, and what the log lacks
    /// is written with the next change.
    pub(crate) fn keep(&mut self) {
        for key in self.deleting.take().into_iter().flatten() {
            self.ledger.mark(key);
        }
        if let Kind::Classic(classic) = &mut self.kind {
            // Not a new state, so the time since when it is empty stays.
            classic.state = GroupState::Empty;
        }
    }

    /// JoinGroup. A consumer group that nobody is in becomes a classic one.
    pub(crate) fn join(&mut self, request: JoinGroup, token: Token, step: &mut Step<'_>) {
        if self.deleting.is_some() {
            let error = GroupError::CoordinatorNotAvailable;
            step.refuse_join(token, error, &request.member_id);
            return;
        }
        if self.consumer().is_some_and(ConsumerGroup::is_empty) {
            self.empty_becomes_classic(step);
        }
        match &mut self.kind {
            Kind::Classic(classic) => classic.join(request, token, step),
            Kind::Consumer(_) => {
                let outcome = self.classic_join(request, step);
                self.settle(token, Reply::Join(outcome), step);
            }
            Kind::Share(_) => {
                let error = GroupError::InconsistentGroupProtocol;
                step.refuse_join(token, error, &request.member_id);
            }
        }
    }

    fn classic_join(
        &mut self,
        request: JoinGroup,
        step: &Step<'_>,
    ) -> Result<crate::api::Joined, JoinRefused> {
        match &mut self.kind {
            Kind::Consumer(consumer) => {
                let mut ctx = Ctx {
                    config: &step.config.consumer,
                    topics: step.topics,
                    now_ms: step.now_ms,
                    ledger: &mut self.ledger,
                };
                consumer.classic_join(request, &mut ctx)
            }
            Kind::Classic(_) | Kind::Share(_) => Err(JoinRefused {
                error: GroupError::UnknownServerError,
                member_id: request.member_id,
            }),
        }
    }

    pub(crate) fn sync(&mut self, request: SyncGroup, token: Token, step: &mut Step<'_>) {
        match &mut self.kind {
            Kind::Classic(classic) => classic.sync(request, token, step),
            Kind::Consumer(consumer) => {
                let ctx = Ctx {
                    config: &step.config.consumer,
                    topics: step.topics,
                    now_ms: step.now_ms,
                    ledger: &mut self.ledger,
                };
                let outcome = consumer.classic_sync(&request, &ctx);
                self.settle(token, Reply::Sync(outcome), step);
            }
            Kind::Share(_) => step.reply(token, Reply::Sync(Err(GroupError::UnknownMemberId))),
        }
    }

    pub(crate) fn heartbeat(&mut self, request: &Heartbeat, now_ms: i64) -> Result<(), GroupError> {
        match &mut self.kind {
            Kind::Classic(classic) => classic.heartbeat(request, now_ms),
            Kind::Consumer(consumer) => consumer.classic_heartbeat(request, now_ms),
            Kind::Share(_) => Err(GroupError::UnknownMemberId),
        }
    }

    /// Keeps the answer to a heartbeat in order for later; how long it may wait, in ms. `None`: it may not. In a group
    /// that the coordinator assigns it does not: members learn of changes there by more than one heartbeat.
    pub(crate) fn hold_heartbeat(
        &mut self,
        member_id: &str,
        token: Token,
        step: &mut Step<'_>,
    ) -> Option<i32> {
        match &mut self.kind {
            Kind::Classic(classic) => classic.hold_heartbeat(member_id, token, step),
            Kind::Consumer(_) | Kind::Share(_) => None,
        }
    }

    pub(crate) fn release_heartbeat(
        &mut self,
        member_id: &str,
        token: Token,
        is_patient: bool,
        step: &mut Step<'_>,
    ) {
        if let Kind::Classic(classic) = &mut self.kind {
            classic.release_heartbeat(member_id, token, is_patient, step);
        }
    }

    pub(crate) fn leave(
        &mut self,
        leaving: Vec<LeavingMember>,
        step: &mut Step<'_>,
    ) -> Result<Vec<LeftMember>, GroupError> {
        if let Kind::Classic(classic) = &mut self.kind {
            return classic.leave(leaving, step);
        }
        if let Kind::Share(_) = &self.kind {
            return Err(GroupError::UnknownMemberId);
        }
        let left = self.consumer_leave(leaving, step);
        if left.iter().any(|member| member.error.is_none()) {
            self.departed(step);
        }
        self.flush(step);
        Ok(left)
    }

    fn consumer_leave(&mut self, leaving: Vec<LeavingMember>, step: &Step<'_>) -> Vec<LeftMember> {
        consumer_step!(self, consumer, ctx, step);
        consumer.classic_leave(leaving, &mut ctx)
    }

    /// ConsumerGroupHeartbeat. A classic group becomes a consumer group when that can be.
    pub(crate) fn beat(&mut self, request: &ConsumerHeartbeat, token: Token, step: &mut Step<'_>) {
        let outcome = if self.deleting.is_some() {
            Err(GroupError::CoordinatorNotAvailable.into())
        } else {
            self.try_beat(request, step)
        };
        self.settle(token, Reply::ConsumerHeartbeat(outcome), step);
    }

    fn try_beat(
        &mut self,
        request: &ConsumerHeartbeat,
        step: &mut Step<'_>,
    ) -> Result<crate::consumer::ConsumerBeat, Refused> {
        if request.member_epoch == crate::consumer::JOIN_EPOCH {
            self.become_consumer(request, step)?;
        }
        let Kind::Consumer(consumer) = &mut self.kind else {
            let message = format!("Group {} is not a consumer group.", self.id);
            return Err(Refused::new(GroupError::GroupIdNotFound, message));
        };
        let mut ctx = Ctx {
            config: &step.config.consumer,
            topics: step.topics,
            now_ms: step.now_ms,
            ledger: &mut self.ledger,
        };
        if !matches!(request.member_epoch, LEAVE_EPOCH | STATIC_LEAVE_EPOCH) {
            return consumer.beat(request, &mut ctx);
        }
        let (beat, is_gone) = consumer.leave(request, &mut ctx)?;
        if is_gone {
            self.departed(step);
        }
        Ok(beat)
    }

    pub(crate) fn tick(&mut self, step: &mut Step<'_>) {
        if let Kind::Classic(classic) = &mut self.kind {
            classic.tick(step);
        } else if self.consumer_tick(step) {
            self.departed(step);
        }
        self.share_tick(step);
        self.flush(step);
    }

    fn consumer_tick(&mut self, step: &Step<'_>) -> bool {
        consumer_step!(self, consumer, ctx, step);
        consumer.tick(&mut ctx)
    }

    /// Whether the sender may commit.
    pub(crate) fn check_commit(
        &mut self,
        request: &OffsetCommit,
        transactional: bool,
        topics: &dyn TopicCatalog,
        now_ms: i64,
    ) -> Result<(), GroupError> {
        if self.deleting.is_some() {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        match &mut self.kind {
            Kind::Classic(classic) => classic.check_commit(request, transactional, now_ms),
            Kind::Consumer(consumer) => consumer.check_commit(request, transactional, topics),
            Kind::Share(_) => Err(GroupError::GroupIdNotFound),
        }
    }

    pub(crate) fn listing(&self) -> GroupListing {
        let (protocol_type, group_type) = match &self.kind {
            Kind::Classic(classic) => (
                classic.protocol_type.clone().unwrap_or_default(),
                GroupType::Classic,
            ),
            Kind::Consumer(_) => (CONSUMER_PROTOCOL_TYPE.to_owned(), GroupType::Consumer),
            Kind::Share(_) => (sharing::PROTOCOL_TYPE.to_owned(), GroupType::Share),
        };
        GroupListing {
            group_id: self.id.clone(),
            protocol_type,
            state: self.state(),
            group_type,
        }
    }

    /// Whether its members read the topic.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.kind {
            Kind::Classic(classic) => classic.is_subscribed(topic),
            Kind::Consumer(consumer) => consumer.is_subscribed(topic),
            Kind::Share(share) => share.is_subscribed(topic),
        }
    }

    /// Whether the server knows what its members read.
    pub(crate) fn is_consumer_group(&self) -> bool {
        match &self.kind {
            Kind::Classic(classic) => classic.is_consumer_group(),
            Kind::Consumer(_) => true,
            Kind::Share(_) => false,
        }
    }

    /// This broker no longer answers for the group.
    pub(crate) fn resign(&mut self, step: &mut Step<'_>) {
        if let Kind::Classic(classic) = &mut self.kind {
            classic.resign(step);
        }
        for (token, reply) in self.ledger.abandon() {
            let reply = failed(reply, GroupError::NotCoordinator);
            step.reply(token, reply);
        }
    }

    /// The group is gone from the log; whoever still waits hears what would have been.
    pub(crate) fn bury(mut self, out: &mut Vec<Effect>) {
        for (token, reply) in self.ledger.abandon() {
            out.push(Effect::Reply { token, reply });
        }
    }

    /// Writes what has changed, and answers when that and all before it is in the log.
    fn settle(&mut self, token: Token, reply: Reply, step: &mut Step<'_>) {
        self.flush(step);
        let at_once = match &reply {
            Reply::Join(outcome) => outcome.is_err(),
            Reply::Sync(outcome) => outcome.is_err(),
            Reply::ConsumerHeartbeat(outcome) => outcome.is_err(),
            Reply::ShareHeartbeat(outcome) => outcome.is_err(),
            Reply::ShareState(outcome) => outcome.is_err(),
            _ => false,
        };
        if at_once {
            step.reply(token, reply);
        } else if let Some(reply) = self.ledger.hold(token, reply) {
            step.reply(token, reply);
        }
    }

    /// Writes the records of all marked keys.
    fn flush(&mut self, step: &mut Step<'_>) {
        if self.ledger.is_clean() || self.deleting.is_some() {
            return;
        }
        // A record made now would take back the assignment that is on its way to the log.
        let assigns = self.classic().is_some_and(Classic::is_storing_assignment);
        let later = assigns && self.ledger.unmark(&StateKey::of_group(kind::CLASSIC_GROUP));
        if !self.ledger.is_clean() {
            self.write_marked(step);
        }
        if later {
            self.ledger.mark(StateKey::of_group(kind::CLASSIC_GROUP));
        }
    }

    fn write_marked(&mut self, step: &mut Step<'_>) {
        let state = &self.kind;
        let (keys, records) = self.ledger.take_records(&self.id, |key| match state {
            Kind::Classic(classic) if key.kind == kind::CLASSIC_GROUP => classic.value(),
            Kind::Classic(_) => None,
            Kind::Consumer(consumer) => consumer.value_of(key),
            Kind::Share(share) => share.value_of(key),
        });
        let write = step.persist(&self.id, records, Purpose::State);
        self.ledger.wrote(write, keys);
    }

    /// A write of the group's state has ended.
    pub(crate) fn state_written(
        &mut self,
        write: WriteId,
        result: Result<(), PersistError>,
        step: &mut Step<'_>,
    ) {
        for (token, reply, error) in self.ledger.ended(write, result) {
            let reply = match error {
                Some(error) => failed(reply, error.for_group()),
                None => reply,
            };
            step.reply(token, reply);
        }
    }
}

/// The same answer with an error in its place.
fn failed(reply: Reply, error: GroupError) -> Reply {
    match reply {
        Reply::Join(Ok(joined)) => Reply::Join(Err(JoinRefused {
            error,
            member_id: joined.member_id,
        })),
        Reply::Sync(_) => Reply::Sync(Err(error)),
        Reply::ConsumerHeartbeat(_) => Reply::ConsumerHeartbeat(Err(error.into())),
        Reply::ShareHeartbeat(_) => Reply::ShareHeartbeat(Err(error.into())),
        Reply::ShareState(_) => Reply::ShareState(Err(error)),
        other => other,
    }
}
