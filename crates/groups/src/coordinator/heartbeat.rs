//! Heartbeat: checks that need no group, then the group's step.

use dlog_coordination::Phase;

use crate::api::{Effect, Heartbeat, Reply, Token};
use crate::error::GroupError;

use super::{GroupCoordinator, file};

impl GroupCoordinator {
    /// Heartbeat. While the coordinator loads every member is believed.
    pub fn heartbeat(&mut self, now_ms: i64, request: &Heartbeat) -> Result<(), GroupError> {
        match self.check_member_request(&request.group_id) {
            Err(GroupError::CoordinatorLoadInProgress) => return Ok(()),
            checked => checked?,
        }
        let group = self.groups.get_mut(request.group_id.as_str());
        let group = group.ok_or(GroupError::UnknownMemberId)?;
        let outcome = group.heartbeat(request, now_ms);
        file(&mut self.deadlines, group);
        outcome
    }

    /// Heartbeat whose answer, [`Reply::Heartbeat`], may wait: it comes with the next rebalance, or when the
    /// caller asks for it with [`release_heartbeat`](Self::release_heartbeat), which it does after the time that
    /// is returned, in ms, at the latest. `None`: it was answered.
    pub fn hold_heartbeat(
        &mut self,
        now_ms: i64,
        request: &Heartbeat,
        token: Token,
        out: &mut Vec<Effect>,
    ) -> Option<i32> {
        let outcome = self.heartbeat(now_ms, request);
        let mut held = None;
        // Whoever is believed only because the groups are still being read does not wait.
        if outcome.is_ok() && self.phase == Phase::Active {
            let (group_id, member_id) = (&request.group_id, &request.member_id);
            held = self
                .with_group(group_id, now_ms, out, |group, step| {
                    group.hold_heartbeat(member_id, token, step)
                })
                .flatten();
        }
        if held.is_none() {
            self.step(now_ms, out)
                .reply(token, Reply::Heartbeat(outcome));
        }
        held
    }

    /// Answers a heartbeat of [`hold_heartbeat`](Self::hold_heartbeat), unless that has been done. Those of a member
    /// that is not patient do not wait any more.
    pub fn release_heartbeat(
        &mut self,
        now_ms: i64,
        request: &Heartbeat,
        token: Token,
        is_patient: bool,
        out: &mut Vec<Effect>,
    ) {
        self.with_group(&request.group_id, now_ms, out, |group, step| {
            group.release_heartbeat(&request.member_id, token, is_patient, step);
        });
    }
}
