//! Heartbeat: a member is alive. The answer may wait until there is something to say, so that the member hears
//! of a rebalance when it begins and not with its next heartbeat, seconds later.
//!
//! Invariants: an answer waits only in a stable group; whatever ends that state, or the membership, answers. A
//! member's session begins anew when its heartbeat arrives, not when that is answered.

use crate::api::{Heartbeat, Reply, Token};
use crate::error::GroupError;
use crate::step::Step;

use super::{Classic, GroupState};

/// The protocol of Kafka Streams, whose members go without LeaveGroup.
const STREAMS: &str = "stream";
/// An answer waits for this part of the session at most. Clients may count their interval from it (librdkafka): a
/// heartbeat then comes after the wait and an interval, which is usually a third of the session.
const OF_SESSION: i32 = 6;

impl Classic {
    /// A member is alive; an error tells it what to do next.
    pub(crate) fn heartbeat(&mut self, request: &Heartbeat, now_ms: i64) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.refresh_session(&request.member_id, now_ms);
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            _ => Err(GroupError::UnknownMemberId),
        }
    }

    /// Keeps the answer to a heartbeat in order for later; how long it may wait, in ms. `None`: it may not.
    pub(crate) fn hold_heartbeat(
        &mut self,
        member_id: &str,
        token: Token,
        step: &mut Step<'_>,
    ) -> Option<i32> {
        let patience_ms = self.patience_ms(member_id, step)?;
        // The member has sent another: the one before only must not stay open.
        self.answer_heartbeat(member_id, Ok(()), step);
        self.members.get_mut(member_id)?.heartbeat = Some(token);
        Some(patience_ms)
    }

    /// A member that stays known when its process ends (a static one, one of Kafka Streams) sends nothing then
    /// that would end the waiting, and would wait for its answer while it closes. So does one that is told to stay by
    /// the option of a close, which cannot be known.
    fn patience_ms(&self, member_id: &str, step: &Step<'_>) -> Option<i32> {
        let member = self.members.get(member_id)?;
        let says_goodbye =
            member.instance_id.is_none() && self.protocol.as_deref() != Some(STREAMS);
        let may_wait = self.state == GroupState::Stable && says_goodbye && member.is_patient;
        let most_ms = step.config.heartbeat_max_wait_ms;
        let patience_ms = most_ms.min(member.now.session_timeout_ms / OF_SESSION);
        (may_wait && patience_ms > 0).then_some(patience_ms)
    }

    /// The heartbeat `token` waited long enough, if it still waits. A member that `is_patient` may wait again.
    pub(crate) fn release_heartbeat(
        &mut self,
        member_id: &str,
        token: Token,
        is_patient: bool,
        step: &mut Step<'_>,
    ) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        if member.heartbeat == Some(token) {
            member.is_patient = is_patient;
            self.answer_heartbeat(member_id, Ok(()), step);
        }
    }

    /// Answers the member's heartbeat that waits.
    pub(super) fn answer_heartbeat(
        &mut self,
        member_id: &str,
        answer: Result<(), GroupError>,
        step: &mut Step<'_>,
    ) {
        let member = self.members.get_mut(member_id);
        if let Some(token) = member.and_then(|member| member.heartbeat.take()) {
            step.reply(token, Reply::Heartbeat(answer));
        }
    }

    /// Answers all heartbeats that wait.
    pub(super) fn answer_heartbeats(
        &mut self,
        answer: Result<(), GroupError>,
        step: &mut Step<'_>,
    ) {
        for member in self.members.values_mut() {
            if let Some(token) = member.heartbeat.take() {
                step.reply(token, Reply::Heartbeat(answer));
            }
        }
    }
}
