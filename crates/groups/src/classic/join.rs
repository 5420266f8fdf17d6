//! JoinGroup: who may come in, under which id, and whether it starts a rebalance.

use std::sync::Arc;

use crate::api::{JoinGroup, Joined, JoinedMember, Protocol, Reply, Token};
use crate::error::GroupError;
use crate::step::Step;

use super::member::{Member, MemberUpdate};
use super::{Classic, GroupState, MemberId};

impl Classic {
    /// A member joins. `request` has passed the checks that need no group.
    pub(crate) fn join(&mut self, mut request: JoinGroup, token: Token, step: &mut Step<'_>) {
        let outcome = self.try_join(&mut request, token, step);
        if let Err(error) = outcome {
            step.refuse_join(token, error, &request.member_id);
        }
    }

    fn try_join(
        &mut self,
        request: &mut JoinGroup,
        token: Token,
        step: &mut Step<'_>,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        if !self.has_room_for(request, step.config.max_group_size) {
            let was_member = self.members.contains_key(request.member_id.as_str());
            self.pending.remove(request.member_id.as_str());
            self.remove_member(&request.member_id, GroupError::GroupMaxSizeReached, step);
            if was_member {
                self.after_removal("a member was turned away from the full group", step);
            }
            return Err(GroupError::GroupMaxSizeReached);
        }
        if !self.fits(&request.protocol_type, &request.protocols) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        if request.member_id.is_empty() {
            self.join_as_new(request, token, step)
        } else {
            self.join_again(request, token, step)
        }
    }

    /// While the group prepares a rebalance only those who wait count: the last to come back are
    /// those who find no room, also when the limit was lowered below the number of members. A
    /// static member that returns takes the room it has.
    fn has_room_for(&self, request: &JoinGroup, max_size: usize) -> bool {
        let holder = request
            .group_instance_id
            .as_deref()
            .and_then(|id| self.static_members.get(id));
        let known_id = holder.map_or(request.member_id.as_str(), |id| id);
        let member = self.members.get(known_id);
        match self.state {
            GroupState::PreparingRebalance => {
                member.is_some_and(|m| m.join.is_some()) || self.joins_waiting < max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || self.members.len() < max_size
            }
            _ => true,
        }
    }

    fn join_as_new(
        &mut self,
        request: &mut JoinGroup,
        token: Token,
        step: &mut Step<'_>,
    ) -> Result<(), GroupError> {
        let instance_id: Option<Arc<str>> = request.group_instance_id.as_deref().map(Arc::from);
        let prefix = instance_id.as_deref().unwrap_or(&request.client_id);
        let new_id: MemberId = format!("{prefix}-{}", request.member_uuid).into();
        if self.members.contains_key(&new_id) || self.pending.contains_key(&new_id) {
            // The randomness handed in repeats; nobody may take over a member that way.
            return Err(GroupError::UnknownServerError);
        }
        let holder = instance_id
            .as_ref()
            .and_then(|id| self.static_members.get(id))
            .cloned();
        if let Some(old_id) = holder {
            self.replace_static_member(&old_id, new_id, request, token, step);
            return Ok(());
        }
        if instance_id.is_none() && request.require_known_member_id {
            if self.pending.len() >= step.config.max_pending_members {
                return Err(GroupError::GroupMaxSizeReached);
            }
            let lapses_ms = step.now_ms + i64::from(request.session_timeout_ms);
            step.refuse_join(token, GroupError::MemberIdRequired, &new_id);
            self.pending.insert(new_id, lapses_ms);
            self.arm(lapses_ms);
            return Ok(());
        }
        self.admit(new_id, instance_id, request, token, step);
        Ok(())
    }

    fn admit(
        &mut self,
        member_id: MemberId,
        instance_id: Option<Arc<str>>,
        request: &mut JoinGroup,
        token: Token,
        step: &mut Step<'_>,
    ) {
        let update = MemberUpdate::from_join(request);
        let mut member = Member::new(member_id, instance_id, update);
        member.join = Some(token);
        member.is_new = true;
        member.session_deadline_ms =
            step.now_ms + i64::from(step.config.new_member_join_timeout_ms);
        self.arm(member.session_deadline_ms);
        if let Some(phase) = &mut self.join_phase {
            phase.new_members = true;
        }
        self.add_member(member, &request.protocol_type);
        self.rebalance_or_complete("a new member joined", request.reason.take(), step);
    }

    fn join_again(
        &mut self,
        request: &mut JoinGroup,
        token: Token,
        step: &mut Step<'_>,
    ) -> Result<(), GroupError> {
        let instance_id = request.group_instance_id.as_deref();
        if let Some((pending_id, _)) = self.pending.get_key_value(request.member_id.as_str()) {
            if instance_id.is_some() {
                return Err(GroupError::UnknownMemberId);
            }
            let member_id = pending_id.clone();
            self.admit(member_id, None, request, token, step);
            return Ok(());
        }
        self.check_member(&request.member_id, instance_id)?;
        let leads = self.is_leader(&request.member_id);
        let same = self.offers_the_same(&request.member_id, &request.protocols);
        let reason = match self.state {
            // The member lost our answer: it gets the same again.
            GroupState::CompletingRebalance if same => {
                return self.repeat_generation(request, token, leads, step);
            }
            // A follower that has nothing new to say need not disturb the others.
            GroupState::Stable if same && !leads => {
                return self.repeat_generation(request, token, false, step);
            }
            GroupState::Stable if leads => "the leader joined again",
            GroupState::PreparingRebalance => "a member joined again",
            GroupState::CompletingRebalance | GroupState::Stable => {
                "a member changed its protocols"
            }
            _ => return Err(GroupError::UnknownMemberId),
        };
        let member_id = std::mem::take(&mut request.member_id);
        self.update_member(&member_id, MemberUpdate::from_join(request));
        self.wait_for_join(&member_id, token, step);
        self.rebalance_or_complete(reason, request.reason.take(), step);
        Ok(())
    }

    fn offers_the_same(&self, member_id: &str, protocols: &[Protocol]) -> bool {
        self.members
            .get(member_id)
            .is_some_and(|member| member.now.protocols == protocols)
    }

    fn repeat_generation(
        &mut self,
        request: &JoinGroup,
        token: Token,
        with_members: bool,
        step: &mut Step<'_>,
    ) -> Result<(), GroupError> {
        self.refresh_session(&request.member_id, step.now_ms);
        let joined = self.joined(&request.member_id, with_members);
        step.reply(token, Reply::Join(Ok(joined)));
        Ok(())
    }

    pub(super) fn joined(&self, member_id: &str, with_members: bool) -> Joined {
        Joined {
            member_id: member_id.to_owned(),
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            members: if with_members {
                self.joined_members()
            } else {
                Vec::new()
            },
            skip_assignment: false,
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| JoinedMember {
            member_id: member.id.to_string(),
            group_instance_id: member.instance_id.as_deref().map(str::to_owned),
            metadata: member.metadata(protocol),
        });
        members.collect()
    }
}
