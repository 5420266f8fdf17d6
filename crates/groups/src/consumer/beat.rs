//! ConsumerGroupHeartbeat: join, go on, leave.

use std::sync::Arc;

use crate::error::GroupError;
use crate::modern::{Assignor, EpochCheck, Refused, StateKey, check_epoch};

use super::member::{Member, MemberId, MemberState};
use super::update::MemberChange;
use super::{
    ConsumerBeat, ConsumerGroup, ConsumerHeartbeat, Ctx, JOIN_EPOCH, LEAVE_EPOCH,
    STATIC_LEAVE_EPOCH,
};

impl ConsumerGroup {
    /// A member joins or is alive. `request` has passed the checks that need no group.
    pub(crate) fn beat(
        &mut self,
        request: &ConsumerHeartbeat,
        ctx: &mut Ctx<'_>,
    ) -> Result<ConsumerBeat, Refused> {
        self.settings = request.settings;
        let joins = request.member_epoch == JOIN_EPOCH;
        let complete = is_complete(request);
        let change = MemberChange {
            instance_id: request.instance_id.clone(),
            rack_id: request.rack_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|&ms| ms >= 0),
            topic_names: request.topic_names.clone(),
            topic_regex: request.topic_regex.clone(),
            assignor: request.server_assignor.as_deref().and_then(Assignor::find),
            classic: None,
        };
        self.check_regex(&change)?;
        let (member_id, is_new) = if joins {
            self.enter(request, ctx)?
        } else {
            (self.known(request)?, false)
        };
        let had = self.members.get(&member_id).map(|m| m.assigned.clone());
        let changed = self.change_member(&member_id, change, ctx) || is_new;
        self.refresh(changed, ctx);
        self.retarget(true, ctx);
        let owned = request.owned.as_ref();
        self.reconcile(&member_id, owned, changed && !is_new, ctx);
        self.refresh_session(&member_id, ctx.now_ms);
        let Some(member) = self.members.get(&member_id) else {
            return Err(GroupError::UnknownServerError.into());
        };
        let told = joins || complete || had.as_ref() != Some(&member.assigned);
        Ok(ConsumerBeat {
            member_id: member_id.to_string(),
            member_epoch: member.epoch,
            heartbeat_interval_ms: self.interval_for(member, ctx),
            assignment: told.then(|| member.assigned.assignment()),
        })
    }

    /// While the member is not where it shall be it comes more often, so that rebalances end soon.
    fn interval_for(&self, member: &Member, ctx: &Ctx<'_>) -> i32 {
        let interval_ms = self.settings.heartbeat_interval_ms;
        let moves = self.target.is_behind() || member.state != MemberState::Stable;
        if moves {
            interval_ms.min(ctx.config.hurried_heartbeat_interval_ms)
        } else {
            interval_ms
        }
    }

    pub(super) fn refresh_session(&mut self, member_id: &str, now_ms: i64) {
        let session_ms = self.settings.session_timeout_ms;
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let session_ms = match &member.classic {
            Some(classic) => classic.session_timeout_ms,
            None => session_ms,
        };
        member.session_deadline_ms = now_ms + i64::from(session_ms.max(0));
        let deadline_ms = member.deadline_ms();
        self.arm(deadline_ms);
    }

    /// The member that joins: one that is there, one that takes the place of another, or a new one.
    fn enter(
        &mut self,
        request: &ConsumerHeartbeat,
        ctx: &mut Ctx<'_>,
    ) -> Result<(MemberId, bool), Refused> {
        let member_id: MemberId = if request.member_id.is_empty() {
            request.member_uuid.to_string().into()
        } else {
            request.member_id.as_str().into()
        };
        let holder = request
            .instance_id
            .as_deref()
            .and_then(|id| self.static_members.get(id))
            .cloned();
        match holder {
            Some(holder) if holder == member_id => Ok((member_id, false)),
            Some(holder) => {
                let free = self.members.get(&holder).is_none_or(|member| {
                    member.epoch == STATIC_LEAVE_EPOCH || member.classic.is_some()
                });
                if !free {
                    let instance = request.instance_id.as_deref().unwrap_or_default();
                    return Err(Refused::new(
                        GroupError::UnreleasedInstanceId,
                        format!(
                            "Static member {member_id} with instance id {instance} cannot join the group because the instance id is owned by {holder} member."
                        ),
                    ));
                }
                if self.members.contains_key(&member_id) {
                    return Err(GroupError::UnknownMemberId.into());
                }
                self.replace(&holder, &member_id, ctx);
                Ok((member_id, false))
            }
            None if self.members.contains_key(&member_id) => Ok((member_id, false)),
            None => {
                self.check_room(ctx)?;
                self.insert(Member::new(member_id.clone()), ctx);
                Ok((member_id, true))
            }
        }
    }

    pub(super) fn check_room(&self, ctx: &Ctx<'_>) -> Result<(), Refused> {
        if self.members.len() < ctx.config.max_size {
            return Ok(());
        }
        Err(Refused::new(
            GroupError::GroupMaxSizeReached,
            format!(
                "The consumer group has reached its maximum capacity of {} members.",
                ctx.config.max_size
            ),
        ))
    }

    /// The member that a request names, when it is who it says it is.
    fn member_of(&self, member_id: &str, instance_id: Option<&str>) -> Result<&Member, Refused> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => {
                    return Err(Refused::new(
                        GroupError::UnknownMemberId,
                        format!("Instance id {instance_id} is unknown."),
                    ));
                }
                Some(holder) if **holder != *member_id => {
                    return Err(Refused::new(
                        GroupError::FencedInstanceId,
                        format!(
                            "Static member {member_id} with instance id {instance_id} was fenced by member {holder}."
                        ),
                    ));
                }
                Some(_) => {}
            }
        }
        self.members.get(member_id).ok_or_else(|| {
            Refused::new(
                GroupError::UnknownMemberId,
                format!("Member {member_id} is not a member of group {}.", self.id),
            )
        })
    }

    fn known(&self, request: &ConsumerHeartbeat) -> Result<MemberId, Refused> {
        let member = self.member_of(&request.member_id, request.instance_id.as_deref())?;
        let owned = request.owned.as_ref();
        let checked = check_epoch(
            request.member_epoch,
            member.epoch,
            member.previous_epoch,
            || owned.is_some_and(|owned| member.assigned.covers(owned)),
        );
        match checked {
            EpochCheck::Current | EpochCheck::Previous => Ok(member.id.clone()),
            EpochCheck::Fenced(how) => Err(Refused::new(
                GroupError::FencedMemberEpoch,
                format!(
                    "The consumer group member has a {how} member epoch ({}) than the one known by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
                    request.member_epoch, member.epoch
                ),
            )),
        }
    }

    /// A member goes: for good, or a static one for a while. Tells whether it is gone: then its
    /// partitions are to be assigned anew.
    pub(crate) fn leave(
        &mut self,
        request: &ConsumerHeartbeat,
        ctx: &mut Ctx<'_>,
    ) -> Result<(ConsumerBeat, bool), Refused> {
        self.settings = request.settings;
        let member_id = {
            let member = self.member_of(&request.member_id, request.instance_id.as_deref())?;
            member.id.clone()
        };
        let is_gone = request.member_epoch == LEAVE_EPOCH;
        if is_gone {
            self.remove(&member_id, ctx);
        } else {
            self.step_aside(&member_id, ctx);
        }
        let beat = ConsumerBeat {
            member_id: member_id.to_string(),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        Ok((beat, is_gone))
    }

    /// A static member will be back: it keeps what it has until its session ends.
    fn step_aside(&mut self, member_id: &MemberId, ctx: &mut Ctx<'_>) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        member.previous_epoch = member.epoch;
        member.epoch = STATIC_LEAVE_EPOCH;
        member.state = MemberState::Stable;
        member.duty = None;
        let revoking = std::mem::take(&mut member.revoking);
        self.release(member_id, &revoking);
        Self::mark(ctx, crate::codec::kind::CONSUMER_CURRENT, member_id);
    }

    /// Members are gone: the next assignment is made without them.
    pub(crate) fn after_departure(&mut self, ctx: &mut Ctx<'_>) {
        self.refresh(true, ctx);
        if self.members.is_empty() {
            // Nobody is left to make an assignment for.
            self.target.assignment_epoch = self.target.group_epoch;
            ctx.ledger
                .mark(StateKey::of_group(crate::codec::kind::CONSUMER_TARGET));
        }
    }

    /// Takes members out of the group, whoever they are.
    pub(crate) fn remove_all<'a>(
        &mut self,
        member_ids: impl IntoIterator<Item = &'a Arc<str>>,
        ctx: &mut Ctx<'_>,
    ) {
        for member_id in member_ids {
            self.remove(member_id, ctx);
        }
    }
}

/// A request that says everything is answered with everything: the member starts anew, or has lost
/// our last answer.
fn is_complete(request: &ConsumerHeartbeat) -> bool {
    request.member_epoch == JOIN_EPOCH
        || (request.rebalance_timeout_ms >= 0
            && (request.topic_names.is_some() || request.topic_regex.is_some())
            && request.owned.is_some())
}
