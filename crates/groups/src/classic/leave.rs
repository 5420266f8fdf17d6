//! LeaveGroup, and which offset commits a group accepts from whom.

use crate::api::{LeavingMember, LeftMember, OffsetCommit};
use crate::error::GroupError;
use crate::step::Step;

use super::rebalance::with_client_reason;
use super::{Classic, GroupState};

impl Classic {
    /// Members go; one rebalance follows for all of them.
    pub(crate) fn leave(
        &mut self,
        leaving: Vec<LeavingMember>,
        step: &mut Step<'_>,
    ) -> Result<Vec<LeftMember>, GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let mut any_left = false;
        let mut client_reason = None;
        let mut left = Vec::with_capacity(leaving.len());
        for member in leaving {
            let outcome = self.leave_one(&member, step);
            any_left |= outcome.is_ok();
            client_reason = client_reason.or(member.reason.filter(|_| outcome.is_ok()));
            left.push(LeftMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error: outcome.err(),
            });
        }
        if any_left {
            self.after_removal(&with_client_reason("members left", client_reason), step);
        }
        Ok(left)
    }

    fn leave_one(
        &mut self,
        leaving: &LeavingMember,
        step: &mut Step<'_>,
    ) -> Result<(), GroupError> {
        let member_id = leaving.member_id.as_str();
        let instance_id = leaving.group_instance_id.as_deref();
        if self.pending.contains_key(member_id) {
            if instance_id.is_some() {
                return Err(GroupError::UnknownMemberId);
            }
            self.pending.remove(member_id);
            return Ok(());
        }
        // The admin's way to remove a static member: by its instance id alone.
        let holder = match instance_id {
            Some(instance_id) if member_id.is_empty() => {
                self.static_members.get(instance_id).cloned()
            }
            _ => None,
        };
        let member_id = holder.as_deref().unwrap_or(member_id);
        self.check_member(member_id, instance_id)?;
        self.remove_member(member_id, GroupError::UnknownMemberId, step);
        Ok(())
    }

    /// Whether the sender may commit. Consumers without a group (generation -1, no member id)
    /// may while the group is empty. A member's commit counts as a heartbeat.
    pub(crate) fn check_commit(
        &mut self,
        request: &OffsetCommit,
        transactional: bool,
        now_ms: i64,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let empty = self.state == GroupState::Empty;
        if empty && request.generation_id < 0 {
            return Ok(());
        }
        let instance_id = request.group_instance_id.as_deref();
        if request.generation_id < 0 && request.member_id.is_empty() && instance_id.is_none() {
            // Clients before KIP-447 do not say which member commits in a transaction.
            return if transactional {
                Ok(())
            } else {
                Err(GroupError::UnknownMemberId)
            };
        }
        self.check_member(&request.member_id, instance_id)?;
        if request.generation_id != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if transactional {
            return Ok(());
        }
        if self.state == GroupState::CompletingRebalance {
            // The member does not hold its partitions yet.
            return Err(GroupError::RebalanceInProgress);
        }
        self.refresh_session(&request.member_id, now_ms);
        Ok(())
    }
}
