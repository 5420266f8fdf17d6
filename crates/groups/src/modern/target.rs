//! A group's epoch, and the target assignment made for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Assignment;
use super::assignor::Assigned;
use crate::codec::{TargetEpochValue, TargetMemberValue};
use crate::error::CodecError;

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

    /// The record of the assignment epoch.
    pub(crate) fn epoch_record(&self) -> Bytes {
        let value = TargetEpochValue {
            assignment_epoch: self.assignment_epoch,
            timestamp_ms: self.computed_ms,
        };
        value.encode()
    }

    /// The record of a member's part; `None` when the target has none for it.
    pub(crate) fn member_record(&self, member: &str) -> Option<Result<Bytes, CodecError>> {
        let topics = self.members.get(member)?.by_topic();
        Some(TargetMemberValue { topics }.encode())
    }

    /// Takes in a record of the assignment epoch; a tombstone: there is no target.
    pub(crate) fn restore_epoch(&mut self, value: Option<&[u8]>) -> Result<(), CodecError> {
        let value = value.map(TargetEpochValue::decode).transpose()?;
        self.assignment_epoch = value.map_or(0, |value| value.assignment_epoch);
        self.computed_ms = value.map_or(0, |value| value.timestamp_ms);
        Ok(())
    }

    /// Takes in a record of a member's part.
    pub(crate) fn restore_member(
        &mut self,
        member: &str,
        value: Option<&[u8]>,
    ) -> Result<(), CodecError> {
        match value {
            Some(value) => {
                let value = TargetMemberValue::decode(value)?;
                let topics = value.topics.iter().map(|(id, parts)| (*id, &**parts));
                self.set(member.into(), Assignment::from_topics(topics));
            }
            None => drop(self.remove(member)),
        }
        Ok(())
    }
}
