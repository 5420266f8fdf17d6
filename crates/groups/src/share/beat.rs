//! ShareGroupHeartbeat: join, go on, leave; the target assignment that follows.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::codec::kind;
use crate::consumer::{JOIN_EPOCH, LEAVE_EPOCH};
use crate::error::GroupError;
use crate::modern::{EpochCheck, Part, Refused, StateKey, check_epoch};

use super::simple::{self, Candidate};
use super::{
    Ctx, Member, MemberId, ShareBeat, ShareGroup, ShareHeartbeat, ShareStateChange, ToInitialize,
};

/// Up to this many members a target is made at once; beyond it targets are
/// `share.assignment.interval.ms` apart (KIP-1263).
const FEW_MEMBERS: usize = 50;

impl ShareGroup {
    /// A member joins or is alive. `request` has passed the checks that need no group.
    pub(crate) fn beat(
        &mut self,
        request: ShareHeartbeat,
        ctx: &mut Ctx<'_>,
    ) -> Result<ShareBeat, Refused> {
        let joins = request.member_epoch == JOIN_EPOCH;
        let member_id: MemberId = request.member_id.as_str().into();
        self.check_room(&member_id, ctx)?;
        let is_new = self.enter(&member_id, request.member_epoch)?;
        self.settings = request.settings;
        let told_all = joins || request.topic_names.is_some();
        let had = self
            .members
            .get(&member_id)
            .map(|member| member.assigned.clone());
        let asks_anew = self.change_member(&member_id, request, ctx) || is_new;
        if self.books.forget_gone(ctx.topics) {
            ctx.ledger
                .mark(StateKey::of_group(kind::SHARE_STATE_PARTITIONS));
        }
        let can_have_more = !self.target.is_behind() && self.has_unassigned();
        self.refresh(asks_anew || can_have_more, ctx);
        self.retarget(ctx);
        self.reconcile(&member_id, asks_anew, ctx);
        self.refresh_session(&member_id, ctx.now_ms);
        let to_initialize = self.find_missing(ctx);
        let Some(member) = self.members.get(&member_id) else {
            return Err(GroupError::UnknownServerError.into());
        };
        let told = told_all || had.as_ref() != Some(&member.assigned);
        Ok(ShareBeat {
            member_id: member_id.to_string(),
            member_epoch: member.epoch,
            heartbeat_interval_ms: self.settings.heartbeat_interval_ms,
            assignment: told.then(|| member.assigned.clone()),
            to_initialize,
        })
    }

    fn check_room(&self, member_id: &str, ctx: &Ctx<'_>) -> Result<(), Refused> {
        if self.members.len() < ctx.config.max_size || self.members.contains_key(member_id) {
            return Ok(());
        }
        Err(Refused::new(
            GroupError::GroupMaxSizeReached,
            format!(
                "The share group has reached its maximum capacity of {} members.",
                ctx.config.max_size
            ),
        ))
    }

    /// Finds the member, or makes it when it joins; whether it is new.
    fn enter(&mut self, member_id: &MemberId, epoch: i32) -> Result<bool, Refused> {
        let Some(member) = self.members.get(member_id) else {
            if epoch != JOIN_EPOCH {
                return Err(self.unknown(member_id));
            }
            let member = Member::new(member_id.clone());
            self.members.insert(member_id.clone(), member);
            return Ok(true);
        };
        if epoch == JOIN_EPOCH {
            return Ok(false);
        }
        match check_epoch(epoch, member.epoch, member.previous_epoch, || true) {
            EpochCheck::Current | EpochCheck::Previous => Ok(false),
            EpochCheck::Fenced(how) => {
                let previous = match how {
                    "smaller" => format!(
                        ", and it does not match the previous member epoch ({})",
                        member.previous_epoch
                    ),
                    _ => String::new(),
                };
                Err(Refused::new(
                    GroupError::FencedMemberEpoch,
                    format!(
                        "The share group member has a {how} member epoch ({epoch}) than the one known by the group coordinator ({}){previous}. The member must abandon all its partitions and rejoin.",
                        member.epoch
                    ),
                ))
            }
        }
    }

    fn unknown(&self, member_id: &str) -> Refused {
        Refused::new(
            GroupError::UnknownMemberId,
            format!("Member {member_id} is not a member of group {}.", self.id),
        )
    }

    /// Takes over what the request says. True when the member asks for other topics than before.
    fn change_member(
        &mut self,
        member_id: &str,
        request: ShareHeartbeat,
        ctx: &mut Ctx<'_>,
    ) -> bool {
        let Some(before) = self.members.get(member_id).cloned() else {
            return false;
        };
        let names = request.topic_names.map(|names| self.shared_names(names));
        let next = Member {
            rack_id: request.rack_id.map(Arc::from).or(before.rack_id.clone()),
            client_id: request.client_id.into(),
            client_host: request.client_host.into(),
            topic_names: names.unwrap_or_else(|| before.topic_names.clone()),
            ..before.clone()
        };
        let asks_anew = before.topic_names != next.topic_names;
        let is_same = !asks_anew
            && before.rack_id == next.rack_id
            && before.client_id == next.client_id
            && before.client_host == next.client_host;
        if !is_same {
            Self::mark(ctx, kind::SHARE_MEMBER, &next.id);
        }
        if asks_anew {
            self.subscriptions.add(&next.topic_names, None);
            self.subscriptions.remove(&before.topic_names, None);
        }
        self.members.insert(next.id.clone(), next);
        asks_anew
    }

    /// Sorted, each name once; shared with a member that has the same.
    pub(super) fn shared_names(&self, mut names: Vec<String>) -> Arc<[Arc<str>]> {
        names.sort_unstable();
        names.dedup();
        let same = |member: &&Member| {
            let theirs = member.topic_names.iter().map(|name| &**name);
            theirs.eq(names.iter().map(String::as_str))
        };
        match self.members.values().take(3).find(same) {
            Some(member) => member.topic_names.clone(),
            None => names.into_iter().map(Arc::from).collect(),
        }
    }

    /// Looks at the topics again, when the members ask for others or there are others. The epoch
    /// grows when that may change who gets what.
    pub(super) fn refresh(&mut self, asks_anew: bool, ctx: &mut Ctx<'_>) {
        let version = ctx.topics.version();
        let mut changed = asks_anew;
        if changed || self.checked_version != Some(version) {
            self.checked_version = Some(version);
            let hash = self.subscriptions.metadata_hash(ctx.topics);
            changed |= hash != self.target.metadata_hash;
            self.target.metadata_hash = hash;
        }
        if changed {
            self.bump(ctx);
        }
    }

    /// Whether something is set up, and asked for, that nobody has.
    fn has_unassigned(&self) -> bool {
        let targets = self.target.members();
        let given: BTreeSet<Part> = targets.flat_map(|(_, parts)| parts.iter()).collect();
        self.books
            .initialized_named()
            .any(|(name, part)| self.subscriptions.contains(name) && !given.contains(&part))
    }

    /// Makes the target assignment for the present epoch.
    fn retarget(&mut self, ctx: &mut Ctx<'_>) {
        if !self.target.is_behind() {
            return;
        }
        let interval_ms = i64::from(self.settings.assignment_interval_ms);
        let is_early = ctx.now_ms < self.target.due_ms(interval_ms);
        if is_early && self.members.len() > FEW_MEMBERS {
            return;
        }
        let candidates: Vec<Candidate<'_>> = self
            .members
            .values()
            .map(|member| Candidate {
                id: &member.id,
                topics: topic_ids(member, ctx),
                current: self.target.of(&member.id),
            })
            .collect();
        let asked: BTreeSet<Uuid> = candidates
            .iter()
            .flat_map(|c| c.topics.iter().copied())
            .collect();
        let parts: Vec<Part> = asked
            .into_iter()
            .flat_map(|id| self.books.of_topic(id))
            .filter(|part| self.books.is_initialized(part))
            .collect();
        let assigned = simple::assign(&candidates, &parts);
        for member_id in self.target.install(assigned, ctx.now_ms) {
            Self::mark(ctx, kind::SHARE_TARGET_MEMBER, &member_id);
        }
        ctx.ledger.mark(StateKey::of_group(kind::SHARE_TARGET));
    }

    /// The member is where it shall be.
    fn reconcile(&mut self, member_id: &str, asks_anew: bool, ctx: &mut Ctx<'_>) {
        let epoch = self.target.assignment_epoch;
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        if member.epoch == epoch && !asks_anew {
            return;
        }
        // Of a target that is older than its subscription it takes what it still asks for.
        let asked = topic_ids(member, ctx);
        let target = self.target.of(member_id);
        let assigned = target
            .iter()
            .filter(|part| asked.contains(&part.0))
            .collect();
        if member.epoch == epoch && member.assigned == assigned {
            return;
        }
        if member.epoch != epoch {
            member.previous_epoch = member.epoch;
            member.epoch = epoch;
        }
        member.assigned = assigned;
        let id = member.id.clone();
        Self::mark(ctx, kind::SHARE_CURRENT, &id);
    }

    pub(super) fn refresh_session(&mut self, member_id: &str, now_ms: i64) {
        let session_ms = i64::from(self.settings.session_timeout_ms.max(0));
        let deadline_ms = now_ms.saturating_add(session_ms);
        if let Some(member) = self.members.get_mut(member_id) {
            member.session_deadline_ms = deadline_ms;
            self.arm(deadline_ms);
        }
    }

    /// Partitions that are asked for and whose state is not set up; somebody is being asked now.
    fn find_missing(&mut self, ctx: &mut Ctx<'_>) -> ToInitialize {
        let retry_ms = ctx.config.initialize_retry_interval_ms;
        let names = self.subscriptions.names();
        let topics = names.filter_map(|name| ctx.topics.topic(name));
        let missing: Vec<(Part, i64)> = topics
            .flat_map(|topic| {
                let topic = (topic.id, topic.partitions);
                self.books.missing(topic, ctx.now_ms, retry_ms)
            })
            .collect();
        if !missing.is_empty() {
            let parts: Vec<Part> = missing.iter().map(|(part, _)| *part).collect();
            self.change_state(&ShareStateChange::Initializing(parts), ctx);
        }
        ToInitialize {
            state_epoch: self.target.group_epoch,
            parts: missing,
        }
    }

    /// Keeps book of the state of share-partitions.
    pub(crate) fn change_state(&mut self, change: &ShareStateChange, ctx: &mut Ctx<'_>) {
        match change {
            ShareStateChange::Initializing(parts) => {
                self.books.begin(parts, ctx.topics, ctx.now_ms);
            }
            ShareStateChange::Initialized(parts) => self.books.finish(parts, ctx.topics),
            ShareStateChange::NotInitialized(parts) => self.books.give_up(parts),
            ShareStateChange::Deleting(ids) => self.books.begin_delete(ids, ctx.topics),
            ShareStateChange::Deleted(ids) => self.books.finish_delete(ids),
        }
        self.books.is_stored = true;
        ctx.ledger
            .mark(StateKey::of_group(kind::SHARE_STATE_PARTITIONS));
    }

    /// A member leaves.
    pub(crate) fn leave(
        &mut self,
        member_id: &str,
        ctx: &mut Ctx<'_>,
    ) -> Result<ShareBeat, Refused> {
        if !self.members.contains_key(member_id) {
            return Err(self.unknown(member_id));
        }
        self.remove(member_id, ctx);
        self.refresh(true, ctx);
        if self.members.is_empty() {
            // There is nobody to make a target for.
            self.target.assignment_epoch = self.target.group_epoch;
            ctx.ledger.mark(StateKey::of_group(kind::SHARE_TARGET));
        }
        Ok(ShareBeat {
            member_id: member_id.to_owned(),
            member_epoch: LEAVE_EPOCH,
            heartbeat_interval_ms: 0,
            assignment: None,
            to_initialize: ToInitialize::default(),
        })
    }
}

fn topic_ids(member: &Member, ctx: &Ctx<'_>) -> BTreeSet<Uuid> {
    let found = member
        .topic_names
        .iter()
        .filter_map(|name| ctx.topics.topic(name));
    found.map(|topic| topic.id).collect()
}
