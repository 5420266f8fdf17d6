//! Members of the classic protocol within a consumer group (KIP-848's online migration): JoinGroup,
//! SyncGroup, Heartbeat and LeaveGroup, with the member's epoch as its generation. Such a member
//! never leads: the server assigns.

use std::sync::Arc;

use crate::api::{
    Heartbeat, JoinGroup, JoinRefused, Joined, LeavingMember, LeftMember, Protocol, SyncGroup,
    Synced,
};
use crate::codec::{CONSUMER_PROTOCOL_TYPE, NamedPartitions, Subscription, assignment_of};
use crate::error::GroupError;
use crate::modern::{Assignment, TopicCatalog};

use super::member::{ClassicPart, Duty, Member, MemberId, MemberState};
use super::update::MemberChange;
use super::{ConsumerGroup, Ctx};

impl ConsumerGroup {
    /// A classic member joins. `request` has passed the checks that need no group.
    pub(crate) fn classic_join(
        &mut self,
        mut request: JoinGroup,
        ctx: &mut Ctx<'_>,
    ) -> Result<Joined, JoinRefused> {
        let (member_id, is_new) = match self.classic_enter(&request, ctx) {
            Ok(entered) => entered,
            Err((error, member_id)) => {
                let member_id = member_id.unwrap_or(request.member_id);
                return Err(JoinRefused { error, member_id });
            }
        };
        let protocols = std::mem::take(&mut request.protocols);
        let protocol_name = protocols.first().map(|protocol| protocol.name.clone());
        let (change, owned) = classic_change(request, protocols, ctx.topics);
        let changed = self.change_member(&member_id, change, ctx) || is_new;
        self.refresh(changed, ctx);
        // A member that is sent away to join again would do so at once.
        self.retarget(false, ctx);
        self.reconcile(&member_id, Some(&owned), changed && !is_new, ctx);
        self.refresh_session(&member_id, ctx.now_ms);
        let mut epoch = 0;
        if let Some(member) = self.members.get_mut(&member_id) {
            epoch = member.epoch;
            member.set_duty(Duty::Sync, ctx.now_ms);
            let deadline_ms = member.deadline_ms();
            self.arm(deadline_ms);
        }
        Ok(Joined {
            member_id: member_id.to_string(),
            generation_id: epoch,
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.to_owned()),
            protocol_name,
            leader: String::new(),
            members: Vec::new(),
            skip_assignment: false,
        })
    }

    /// Who joins, and whether it is new; or why not, with the id to come back with.
    fn classic_enter(
        &mut self,
        request: &JoinGroup,
        ctx: &mut Ctx<'_>,
    ) -> Result<(MemberId, bool), (GroupError, Option<String>)> {
        if !self.fits(&request.protocol_type, &request.protocols) {
            return Err((GroupError::InconsistentGroupProtocol, None));
        }
        let instance_id = request.group_instance_id.as_deref();
        let holder = instance_id
            .and_then(|id| self.static_members.get(id))
            .cloned();
        if !request.member_id.is_empty() {
            let member_id: MemberId = request.member_id.as_str().into();
            return match holder {
                Some(holder) if holder != member_id => Err((GroupError::FencedInstanceId, None)),
                None if instance_id.is_some() => Err((GroupError::UnknownMemberId, None)),
                _ => self.classic_known_or_new(member_id, ctx),
            };
        }
        let prefix = instance_id.unwrap_or(&request.client_id);
        let member_id: MemberId = format!("{prefix}-{}", request.member_uuid).into();
        if self.members.contains_key(&member_id) {
            // The randomness handed in repeats; nobody may take over a member that way.
            return Err((GroupError::UnknownServerError, None));
        }
        if let Some(holder) = holder {
            self.replace(&holder, &member_id, ctx);
            return Ok((member_id, false));
        }
        if instance_id.is_none() && request.require_known_member_id {
            if self.pending.len() >= ctx.config.max_pending_members {
                return Err((GroupError::GroupMaxSizeReached, None));
            }
            let lapses_ms = ctx.now_ms + i64::from(request.session_timeout_ms);
            self.pending.insert(member_id.clone(), lapses_ms);
            self.arm(lapses_ms);
            return Err((GroupError::MemberIdRequired, Some(member_id.to_string())));
        }
        self.classic_new(member_id, ctx)
    }

    /// A member that was removed must hear of it, or it would go on reading what others have by
    /// now: only ids that were handed out lately are let in.
    fn classic_known_or_new(
        &mut self,
        member_id: MemberId,
        ctx: &mut Ctx<'_>,
    ) -> Result<(MemberId, bool), (GroupError, Option<String>)> {
        if self.members.contains_key(&member_id) {
            return Ok((member_id, false));
        }
        if !self.pending.contains_key(&member_id) {
            return Err((GroupError::UnknownMemberId, None));
        }
        self.classic_new(member_id, ctx)
    }

    fn classic_new(
        &mut self,
        member_id: MemberId,
        ctx: &mut Ctx<'_>,
    ) -> Result<(MemberId, bool), (GroupError, Option<String>)> {
        self.check_room(ctx)
            .map_err(|refused| (refused.error, None))?;
        self.pending.remove(&member_id);
        self.insert(Member::new(member_id.clone()), ctx);
        Ok((member_id, true))
    }

    /// Whether a member with these protocols could be in the group: its metadata can be read, and
    /// all classic members have a protocol in common.
    fn fits(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        let readable = protocols
            .first()
            .is_some_and(|protocol| Subscription::decode(&protocol.metadata).is_ok());
        protocol_type == CONSUMER_PROTOCOL_TYPE
            && readable
            && protocols.iter().any(|protocol| {
                let classic = self.members.values().filter_map(|m| m.classic.as_ref());
                let mut offered = classic.map(|classic| &classic.protocols);
                offered.all(|theirs| theirs.iter().any(|other| other.name == protocol.name))
            })
    }

    fn classic_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<&Member, GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(holder) if **holder != *member_id => {
                    return Err(GroupError::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        self.members
            .get(member_id)
            .filter(|member| member.classic.is_some())
            .ok_or(GroupError::UnknownMemberId)
    }

    /// A classic member asks for its assignment.
    pub(crate) fn classic_sync(
        &mut self,
        request: &SyncGroup,
        ctx: &Ctx<'_>,
    ) -> Result<Synced, GroupError> {
        let instance_id = request.group_instance_id.as_deref();
        let member = self.classic_member(&request.member_id, instance_id)?;
        if request.generation_id != member.epoch {
            return Err(GroupError::IllegalGeneration);
        }
        let classic = member.classic.as_ref();
        let first = classic.and_then(|classic| classic.protocols.first());
        let name = first.map(|protocol| protocol.name.as_str());
        let type_differs = request
            .protocol_type
            .as_deref()
            .is_some_and(|asked| asked != CONSUMER_PROTOCOL_TYPE);
        let name_differs = request
            .protocol_name
            .as_deref()
            .is_some_and(|asked| Some(asked) != name);
        if type_differs || name_differs {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        // A member that gives partitions back joins again by itself, when it has.
        if member.epoch < self.target.group_epoch && member.state != MemberState::Unrevoked {
            let id = member.id.clone();
            self.must_join(&id, ctx.now_ms);
            return Err(GroupError::RebalanceInProgress);
        }
        let version = first
            .and_then(|protocol| Subscription::decode(&protocol.metadata).ok())
            .map_or(0, |subscription| subscription.version);
        let synced = Synced {
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.to_owned()),
            protocol_name: name.map(str::to_owned),
            assignment: encode_assignment(version, &member.assigned.assignment(), ctx.topics)?,
        };
        let id = member.id.clone();
        if let Some(member) = self.members.get_mut(&id) {
            member.clear_duty(Duty::Sync);
            if member.state == MemberState::Unrevoked {
                member.set_duty(Duty::Revoke, ctx.now_ms);
            }
        }
        self.refresh_session(&id, ctx.now_ms);
        Ok(synced)
    }

    fn must_join(&mut self, member_id: &MemberId, now_ms: i64) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        if member.duty.is_none() {
            member.set_duty(Duty::Join, now_ms);
        }
        let deadline_ms = member.deadline_ms();
        self.arm(deadline_ms);
    }

    /// A classic member is alive; an error tells it what to do next.
    pub(crate) fn classic_heartbeat(
        &mut self,
        request: &Heartbeat,
        now_ms: i64,
    ) -> Result<(), GroupError> {
        let instance_id = request.group_instance_id.as_deref();
        let member = self.classic_member(&request.member_id, instance_id)?;
        if request.generation_id != member.epoch {
            return Err(GroupError::IllegalGeneration);
        }
        let id = member.id.clone();
        let must_join = member.epoch < self.target.group_epoch
            || member.state == MemberState::Unrevoked
            || self.can_get_more(member);
        self.refresh_session(&id, now_ms);
        if must_join {
            self.must_join(&id, now_ms);
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Members go. An admin may remove a static member of either protocol by its instance id. Tells
    /// who is gone; the next assignment has still to be asked for.
    pub(crate) fn classic_leave(
        &mut self,
        leaving: Vec<LeavingMember>,
        ctx: &mut Ctx<'_>,
    ) -> Vec<LeftMember> {
        let mut left = Vec::with_capacity(leaving.len());
        for leaver in leaving {
            let error = match self.leaver(&leaver) {
                Ok(member_id) => {
                    self.remove(&member_id, ctx);
                    None
                }
                Err(error) => Some(error),
            };
            left.push(LeftMember {
                member_id: leaver.member_id,
                group_instance_id: leaver.group_instance_id,
                error,
            });
        }
        left
    }

    fn leaver(&self, leaver: &LeavingMember) -> Result<MemberId, GroupError> {
        let instance_id = leaver.group_instance_id.as_deref();
        if leaver.member_id.is_empty() {
            return instance_id
                .and_then(|id| self.static_members.get(id))
                .cloned()
                .ok_or(GroupError::UnknownMemberId);
        }
        let member = self.classic_member(&leaver.member_id, instance_id)?;
        Ok(member.id.clone())
    }
}

fn classic_change(
    request: JoinGroup,
    protocols: Vec<Protocol>,
    topics: &dyn TopicCatalog,
) -> (MemberChange, Assignment) {
    let subscription = protocols
        .first()
        .and_then(|protocol| Subscription::decode(&protocol.metadata).ok());
    let owned = subscription
        .as_ref()
        .map(|subscription| to_parts(&subscription.owned, topics))
        .unwrap_or_default();
    let names = subscription.iter().flat_map(|s| &s.topics);
    let change = MemberChange {
        topic_names: Some(names.map(|&name| name.to_owned()).collect()),
        rack_id: subscription
            .as_ref()
            .and_then(|s| s.rack_id.map(str::to_owned)),
        topic_regex: Some(String::new()),
        instance_id: request.group_instance_id,
        client_id: request.client_id,
        client_host: request.client_host,
        rebalance_timeout_ms: Some(match request.rebalance_timeout_ms {
            ..0 => request.session_timeout_ms,
            timeout => timeout,
        }),
        assignor: None,
        classic: Some(Box::new(ClassicPart {
            session_timeout_ms: request.session_timeout_ms,
            protocols,
        })),
    };
    (change, owned)
}

/// Partitions by id. Topics that are gone do not count.
pub(super) fn to_parts(named: &NamedPartitions<'_>, topics: &dyn TopicCatalog) -> Assignment {
    let known = named
        .iter()
        .filter_map(|(name, partitions)| Some((topics.topic(name)?.id, &**partitions)));
    Assignment::from_topics(known)
}

/// Partitions as a classic member reads them.
pub(super) fn encode_assignment(
    version: i16,
    assignment: &Assignment,
    topics: &dyn TopicCatalog,
) -> Result<bytes::Bytes, GroupError> {
    let named: Vec<(Arc<str>, Vec<i32>)> = assignment
        .by_topic()
        .into_iter()
        .filter_map(|(id, partitions)| Some((topics.name_of(id)?, partitions)))
        .collect();
    let borrowed: NamedPartitions<'_> = named
        .iter()
        .map(|(name, partitions)| (&**name, partitions.clone()))
        .collect();
    assignment_of(version, &borrowed).map_err(|_| GroupError::UnknownServerError)
}
