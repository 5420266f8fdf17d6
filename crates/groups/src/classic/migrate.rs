//! The group on its way from and to the new protocol (KIP-848's online migration).

use std::sync::Arc;

use bytes::Bytes;

use crate::api::Protocol;
use crate::codec::CONSUMER_PROTOCOL_TYPE;
use crate::error::GroupError;
use crate::step::Step;

use super::member::{Member, MemberUpdate};
use super::{Classic, GroupState, MemberId};

/// A member with all that it takes along.
#[derive(Debug, Clone)]
pub(crate) struct ClassicMember {
    pub(crate) id: MemberId,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
}

impl Classic {
    /// The members as they are.
    pub(crate) fn snapshot(&self) -> Vec<ClassicMember> {
        let members = self.members.values().map(|member| ClassicMember {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.now.client_id.clone(),
            client_host: member.now.client_host.clone(),
            rebalance_timeout_ms: member.now.rebalance_timeout_ms,
            session_timeout_ms: member.now.session_timeout_ms,
            protocols: member.now.protocols.clone(),
            assignment: member.assignment.clone(),
        });
        members.collect()
    }

    /// The leader's assignments are on their way to the log.
    pub(crate) fn is_storing_assignment(&self) -> bool {
        self.assignment_write.is_some()
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// The group goes on under the new protocol: whoever waits joins again, and is known there.
    pub(crate) fn dismiss(&mut self, step: &mut Step<'_>) {
        // What changes for them is not known yet: their next heartbeat tells them.
        self.answer_heartbeats(Ok(()), step);
        self.fail_all_waiting(GroupError::RebalanceInProgress, step);
    }

    /// A stable group of these members, which hold what they held.
    pub(crate) fn adopt(
        id: Arc<str>,
        generation: i32,
        members: Vec<ClassicMember>,
        step: &mut Step<'_>,
    ) -> Self {
        let mut group = Self::new(id, Some(step.now_ms));
        group.generation = generation;
        for adopted in members {
            let update = MemberUpdate {
                client_id: adopted.client_id,
                client_host: adopted.client_host,
                rebalance_timeout_ms: adopted.rebalance_timeout_ms,
                session_timeout_ms: adopted.session_timeout_ms,
                protocols: adopted.protocols,
            };
            let mut member = Member::new(adopted.id, adopted.instance_id, update);
            member.assignment = adopted.assignment;
            group.add_member(member, CONSUMER_PROTOCOL_TYPE);
        }
        group.protocol = group.choose_protocol();
        group.read_subscriptions();
        group.enter(GroupState::Stable, step.now_ms);
        let ids: Vec<MemberId> = group.members.keys().cloned().collect();
        for member_id in ids {
            group.refresh_session(&member_id, step.now_ms);
        }
        group
    }

    /// The members find out with their next heartbeat that they have to join again.
    pub(crate) fn rebalance_after_downgrade(&mut self, step: &mut Step<'_>) {
        let reason = "the group went from the consumer to the classic protocol";
        self.prepare_rebalance(reason.to_owned(), step);
    }

    /// The value of the group's record as the state is now; nothing for a group that never was.
    pub(crate) fn value(&self) -> Option<Bytes> {
        if self.generation == 0 && self.members.is_empty() {
            return None;
        }
        self.record(None).value
    }
}
