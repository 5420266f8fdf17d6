//! Static membership (KIP-345, KIP-814): a process that comes back under its `group.instance.id`
//! takes the place of its former self. In a stable group whose protocol does not change by it, no
//! rebalance is needed; the new member id is written to the log first.

use crate::api::{JoinGroup, Reply, Token, WriteId};
use crate::error::{GroupError, PersistError, ToGroupError};
use crate::step::{Purpose, StaticReplacement, Step};

use super::member::MemberUpdate;
use super::{Classic, GroupState, MemberId};

impl Classic {
    /// Moves the place of `old_id` to `new_id` and answers, or rebalances.
    pub(super) fn replace_static_member(
        &mut self,
        old_id: &MemberId,
        new_id: MemberId,
        request: &mut JoinGroup,
        token: Token,
        step: &mut Step<'_>,
    ) {
        let old_leader = self.leader.clone();
        self.fail_waiting(old_id, GroupError::FencedInstanceId, step);
        self.rename_member(old_id, &new_id);
        let before = self.update_member(&new_id, MemberUpdate::from_join(request));
        self.wait_for_join(&new_id, token, step);
        self.refresh_session(&new_id, step.now_ms);
        let unchanged = self.state == GroupState::Stable && self.choose_protocol() == self.protocol;
        if let (true, Some(before), Some(old_leader)) = (unchanged, before, old_leader) {
            let replacement = StaticReplacement {
                token,
                old_member_id: old_id.clone(),
                new_member_id: new_id,
                old_leader,
                generation: self.generation,
                before,
                supports_skipping_assignment: request.supports_skipping_assignment,
            };
            let purpose = Purpose::ReplaceStatic(Box::new(replacement));
            self.write_record(None, purpose, step);
            return;
        }
        // Also while the leader computes an assignment: it may contain the old id.
        self.rebalance_or_complete("a static member was replaced", request.reason.take(), step);
    }

    fn rename_member(&mut self, old_id: &str, new_id: &MemberId) {
        let Some(mut member) = self.members.remove(old_id) else {
            return;
        };
        member.id = new_id.clone();
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), new_id.clone());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.clone());
        }
        self.members.insert(new_id.clone(), member);
    }

    /// The new member id is in the log, or could not be written. When a rebalance has begun
    /// meanwhile, it has answered, or will answer, the join.
    pub(crate) fn finish_replacement(
        &mut self,
        write: WriteId,
        replacement: StaticReplacement,
        result: Result<(), PersistError>,
        step: &mut Step<'_>,
    ) {
        let new_id = &replacement.new_member_id;
        let waits = self
            .members
            .get(new_id)
            .is_some_and(|m| m.join == Some(replacement.token));
        if !waits || self.state != GroupState::Stable || self.generation != replacement.generation {
            return;
        }
        self.take_join(new_id);
        self.refresh_session(new_id, step.now_ms);
        if let Err(error) = result {
            step.refuse_join(replacement.token, error.for_group(), "");
            if self.latest_write != Some(write) {
                // A later record names the new id already. The client will come again.
                return;
            }
            self.update_member(new_id, replacement.before);
            self.rename_member(new_id, &replacement.old_member_id);
            return;
        }
        // A client that knows skip_assignment sees that it leads. An older one would compute a
        // new assignment if it were told so: it is shown the leader it replaces.
        let leads = self.is_leader(new_id);
        let skips = replacement.supports_skipping_assignment;
        let mut joined = self.joined(new_id, leads && skips);
        joined.skip_assignment = leads && skips;
        if !skips {
            joined.leader = replacement.old_leader.to_string();
        }
        step.reply(replacement.token, Reply::Join(Ok(joined)));
    }
}
