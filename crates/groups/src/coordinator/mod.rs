//! The coordinator: a map of groups, the deadlines of all of them, and the writes under way. It
//! checks what needs no group and passes the rest on.

mod admin;
mod checks;
mod consumer;
mod expiry;
mod heartbeat;
mod load;
mod offsets;
mod share;
mod transactions;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use dlog_coordination::{Action, Deadlines, LogEntry, Phase, StateMachine, Sweep};

use crate::api::{Effect, JoinGroup, LeaveGroup, LeftMember, Reply, SyncGroup, Token, WriteId};
use crate::config::GroupConfig;
use crate::error::{GroupError, PersistError};
use crate::group::Group;
use crate::modern::{NoTopics, TopicCatalog};
use crate::offsets::Names;
use crate::step::{Step, Writes};

pub use load::Applied;

/// The groups of one partition of `__consumer_offsets`. See the crate's documentation for how it
/// is driven.
#[derive(Debug)]
pub struct GroupCoordinator {
    config: GroupConfig,
    topics: Arc<dyn TopicCatalog>,
    phase: Phase,
    /// Ordered, so that the same inputs give the same effects in the same order.
    groups: BTreeMap<Arc<str>, Group>,
    names: Names,
    /// The groups that offsets of a producer's open transaction wait in.
    in_transaction: BTreeMap<i64, BTreeSet<Arc<str>>>,
    /// `Group::filed_deadline_ms` of the groups that have one, with the group's id.
    deadlines: Deadlines,
    writes: Writes,
    sweep: Sweep,
}

impl StateMachine for GroupCoordinator {
    type Reply = Reply;
    type Work = Infallible;
    type Effect = Effect;

    fn finish_loading(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        self.finish_loading(now_ms, out);
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        self.next_deadline_ms()
    }

    fn tick(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        self.tick(now_ms, out);
    }

    fn persisted(
        &mut self,
        now_ms: i64,
        write: WriteId,
        result: Result<(), PersistError>,
        out: &mut Vec<Effect>,
    ) {
        self.persisted(now_ms, write, result, out);
    }
}

impl From<Effect> for Action<Reply, Infallible> {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Reply { token, reply } => Self::Reply { token, reply },
            Effect::Persist { write, records } => Self::Append {
                write,
                entry: LogEntry::Records(records),
            },
            Effect::PersistInTransaction {
                write,
                producer,
                records,
            } => Self::Append {
                write,
                entry: LogEntry::InTransaction { producer, records },
            },
            Effect::PersistMarker { write, marker } => Self::Append {
                write,
                entry: LogEntry::Marker(marker),
            },
        }
    }
}

impl GroupCoordinator {
    /// A coordinator that has still to be told what the log contains: see
    /// [`apply_record`](Self::apply_record) and [`finish_loading`](Self::finish_loading).
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            topics: Arc::new(NoTopics),
            phase: Phase::Loading,
            groups: BTreeMap::new(),
            names: Names::default(),
            in_transaction: BTreeMap::new(),
            deadlines: Deadlines::default(),
            writes: Writes::default(),
            sweep: Sweep::default(),
        }
    }

    /// The settings in force.
    pub fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// Replaces the settings; they apply to what happens from now on.
    pub fn set_config(&mut self, config: GroupConfig) {
        self.config = config;
    }

    /// The topics are these from now on. Groups look at them when their members are next heard of.
    pub fn set_topics(&mut self, topics: Arc<dyn TopicCatalog>) {
        self.topics = topics;
    }

    /// How many groups there are.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// JoinGroup. Answered with [`Reply::Join`], when the rebalance completes at the latest.
    pub fn join_group(
        &mut self,
        now_ms: i64,
        mut request: JoinGroup,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let group_id: Arc<str> = request.group_id.as_str().into();
        let admitted = self
            .check_join(&mut request)
            .and_then(|()| self.group_for_join(&group_id, &request.member_id, now_ms));
        if let Err(error) = admitted {
            self.step(now_ms, out)
                .refuse_join(token, error, &request.member_id);
            return;
        }
        self.with_group(&group_id, now_ms, out, |group, step| {
            group.join(request, token, step);
        });
    }

    fn group_for_join(
        &mut self,
        group_id: &Arc<str>,
        member_id: &str,
        now_ms: i64,
    ) -> Result<(), GroupError> {
        if self.groups.contains_key(group_id) {
            return Ok(());
        }
        if !member_id.is_empty() {
            return Err(GroupError::UnknownMemberId);
        }
        self.create_group(group_id, now_ms)
    }

    fn create_group(&mut self, group_id: &Arc<str>, now_ms: i64) -> Result<(), GroupError> {
        if self.groups.len() >= self.config.max_groups {
            return Err(GroupError::PolicyViolation);
        }
        self.groups
            .insert(group_id.clone(), Group::new(group_id.clone(), Some(now_ms)));
        Ok(())
    }

    /// SyncGroup. Answered with [`Reply::Sync`], once the leader's assignment is stored.
    pub fn sync_group(
        &mut self,
        now_ms: i64,
        request: SyncGroup,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        // What was under way before the coordinator moved here is lost: the member has to join
        // again, and need not look for the coordinator first.
        let checked = match self.check_member_request(&request.group_id) {
            Err(GroupError::CoordinatorLoadInProgress) => Err(GroupError::RebalanceInProgress),
            Ok(()) if !self.groups.contains_key(request.group_id.as_str()) => {
                Err(GroupError::UnknownMemberId)
            }
            checked => checked,
        };
        if let Err(error) = checked {
            self.step(now_ms, out).reply(token, Reply::Sync(Err(error)));
            return;
        }
        let group_id = request.group_id.clone();
        self.with_group(&group_id, now_ms, out, |group, step| {
            group.sync(request, token, step);
        });
    }

    /// LeaveGroup. The effects are answers to others and writes that nothing waits for.
    pub fn leave_group(
        &mut self,
        now_ms: i64,
        request: LeaveGroup,
        out: &mut Vec<Effect>,
    ) -> Result<Vec<LeftMember>, GroupError> {
        self.check_member_request(&request.group_id)?;
        let LeaveGroup { group_id, members } = request;
        if !self.groups.contains_key(group_id.as_str()) {
            let unknown = members.into_iter().map(|member| LeftMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error: Some(GroupError::UnknownMemberId),
            });
            return Ok(unknown.collect());
        }
        self.with_group(&group_id, now_ms, out, |group, step| {
            group.leave(members, step)
        })
        .unwrap_or(Err(GroupError::UnknownMemberId))
    }

    /// When [`tick`](Self::tick) must be called next, Unix ms. The time may turn out to be too
    /// early, never too late.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        if self.phase != Phase::Active {
            return None;
        }
        let group = self.deadlines.first_ms();
        group.into_iter().chain(self.sweep.due_ms()).min()
    }

    /// Acts on what time has brought: sessions and rebalances that have run out, offsets to
    /// expire.
    pub fn tick(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        if self.phase != Phase::Active {
            return;
        }
        for group_id in self.deadlines.take_due(now_ms) {
            self.with_group(&group_id, now_ms, out, |group, step| {
                group.filed_deadline_ms = i64::MAX;
                group.tick(step);
            });
        }
        self.sweep_expired(now_ms, out);
    }

    fn step<'a>(&'a mut self, now_ms: i64, out: &'a mut Vec<Effect>) -> Step<'a> {
        Step {
            config: &self.config,
            topics: &*self.topics,
            now_ms,
            writes: &mut self.writes,
            out,
        }
    }

    /// Lets the group take a step, then files its deadline, and drops it when nothing is left
    /// that would have to be remembered.
    fn with_group<R>(
        &mut self,
        group_id: &str,
        now_ms: i64,
        out: &mut Vec<Effect>,
        take: impl FnOnce(&mut Group, &mut Step<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(group_id)?;
        let mut step = Step {
            config: &self.config,
            topics: &*self.topics,
            now_ms,
            writes: &mut self.writes,
            out,
        };
        let result = take(group, &mut step);
        file(&mut self.deadlines, group);
        if group.is_blank() {
            self.remove_group(group_id);
        }
        Some(result)
    }

    fn remove_group(&mut self, group_id: &str) -> Option<Group> {
        let group = self.groups.remove(group_id)?;
        self.deadlines
            .remove(group.filed_deadline_ms, group.id.clone());
        Some(group)
    }
}

/// Files the group under its deadline. Postponed deadlines stay filed where they are until the
/// tick comes: a heartbeat then costs nothing here.
fn file(deadlines: &mut Deadlines, group: &mut Group) {
    let hint_ms = group.deadline_hint_ms();
    if hint_ms < group.filed_deadline_ms {
        deadlines.remove(group.filed_deadline_ms, group.id.clone());
        deadlines.add(hint_ms, group.id.clone());
        group.filed_deadline_ms = hint_ms;
    }
}
