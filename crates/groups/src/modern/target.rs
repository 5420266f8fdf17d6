//! A group's epoch, and the target assignment made for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Assignment;
use super::assignor::Assigned;

type MemberId = Arc<str>;

/// The group's epoch grows with every change that asks for a new assignment; the assignment epoch
/// is the group epoch that the target was made for.
#[derive(Debug, Default)]
pub(crate) struct Target {
    pub(crate) group_epoch: i32,
    pub(crate) metadata_hash: i64,
    pub(crate) assignment_epoch: i32,
    /// When the target was computed, Unix ms; 0: never.
    pub(crate) computed_ms: i64,
    members: BTreeMap<MemberId, Assignment>,
}

impl Target {
    /// Something changed that asks for a new assignment.
    pub(crate) fn bump(&mut self) {
        self.group_epoch = self.group_epoch.saturating_add(1);
    }

    /// The target belongs to an older epoch.
    pub(crate) fn is_behind(&self) -> bool {
        self.assignment_epoch < self.group_epoch
    }

    /// When the next target may be made, Unix ms: targets are at least `interval_ms` apart
    /// (KIP-1263), so that many members that come at the same time cost one computation.
    pub(crate) fn due_ms(&self, interval_ms: i64) -> i64 {
        self.computed_ms.saturating_add(interval_ms)
    }

    /// What the member shall have; nothing for one that is newer than the target.
    pub(crate) fn of(&self, member: &str) -> &Assignment {
        const NOTHING: &Assignment = &Assignment::new();
        self.members.get(member).unwrap_or(NOTHING)
    }

    pub(crate) fn has(&self, member: &str) -> bool {
        self.members.contains_key(member)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&MemberId, &Assignment)> {
        self.members.iter()
    }

    pub(crate) fn set(&mut self, member: MemberId, assignment: Assignment) {
        self.members.insert(member, assignment);
    }

    pub(crate) fn remove(&mut self, member: &str) -> Option<Assignment> {
        self.members.remove(member)
    }

    /// Takes over a new target for the present group epoch. The members whose part differs.
    pub(crate) fn install(&mut self, assigned: Assigned, now_ms: i64) -> Vec<MemberId> {
        let mut changed = Vec::new();
        for (member, assignment) in assigned {
            let differs = self.members.get(&member) != Some(&assignment);
            if differs {
                self.members.insert(member.clone(), assignment);
                changed.push(member);
            }
        }
        self.assignment_epoch = self.group_epoch;
        self.computed_ms = now_ms;
        changed
    }
}
