//! What time does to a group.

use crate::error::GroupError;
use crate::step::Step;

use super::{Classic, MemberId};

impl Classic {
    /// Acts on every deadline that has passed, then finds the next one.
    pub(crate) fn tick(&mut self, step: &mut Step<'_>) {
        self.expire_pending(step);
        self.expire_sessions(step);
        // Before the joins: a generation that begins now has all its time to sync.
        if self
            .sync_deadline_ms
            .is_some_and(|deadline_ms| deadline_ms <= step.now_ms)
        {
            self.sync_deadline_passed(step);
        }
        if self
            .join_phase
            .as_ref()
            .is_some_and(|phase| phase.deadline_ms <= step.now_ms)
        {
            self.join_deadline_passed(step);
        }
        self.deadline_hint_ms = self.find_deadline();
    }

    fn expire_pending(&mut self, step: &mut Step<'_>) {
        let before = self.pending.len();
        self.pending.retain(|_, lapses_ms| *lapses_ms > step.now_ms);
        if self.pending.len() < before {
            self.complete_join_if_all_came(step);
        }
    }

    fn expire_sessions(&mut self, step: &mut Step<'_>) {
        let gone = self
            .members
            .values()
            .filter(|member| !member.is_waiting() && member.session_deadline_ms <= step.now_ms);
        let gone: Vec<MemberId> = gone.map(|member| member.id.clone()).collect();
        if gone.is_empty() {
            return;
        }
        for member_id in gone {
            self.remove_member(&member_id, GroupError::UnknownMemberId, step);
        }
        self.after_removal("sessions expired", step);
    }

    fn find_deadline(&self) -> i64 {
        let sessions = self.members.values().filter(|member| !member.is_waiting());
        let phase = self.join_phase.as_ref().map(|phase| phase.deadline_ms);
        sessions
            .map(|member| member.session_deadline_ms)
            .chain(self.pending.values().copied())
            .chain(phase)
            .chain(self.sync_deadline_ms)
            .min()
            .unwrap_or(i64::MAX)
    }
}
