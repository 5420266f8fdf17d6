//! Offset expiry (KIP-211): offsets of a group that has been empty for the retention time, of a
//! simple consumer that has not committed for that long, or of topics that a stable group no
//! longer reads. A group that is empty and has no offsets left goes too.
//!
//! The groups are swept in slices, a bounded number per tick.

use std::ops::Bound::Unbounded;
use std::sync::Arc;

use dlog_coordination::behind;

use crate::api::Effect;
use crate::group::{Group, GroupState};
use crate::offsets::CommittedOffset;
use crate::step::{OffsetChange, OffsetsThen, Step};

use super::{GroupCoordinator, offsets};

/// Groups looked at in one tick.
const SLICE_GROUPS: usize = 1_000;
/// Offsets looked at in one tick, as far as groups are not cut.
const SLICE_OFFSETS: usize = 50_000;
/// Tombstones in one write.
const WRITE_TOMBSTONES: usize = 1_000;

/// From when on the retention time counts.
enum Base {
    Commit,
    EmptySince(i64),
}

impl GroupCoordinator {
    pub(super) fn sweep_expired(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        if !self.sweep.is_due(now_ms) {
            return;
        }
        let start = self.sweep.take_cursor();
        let from = behind(start.as_ref());
        let mut seen_offsets = 0;
        let mut slice: Vec<Arc<str>> = Vec::new();
        for (group_id, group) in self.groups.range::<str, _>((from, Unbounded)) {
            if slice.len() == SLICE_GROUPS || seen_offsets > SLICE_OFFSETS {
                if let Some(last) = slice.last() {
                    self.sweep.stop_at(last.clone());
                }
                break;
            }
            seen_offsets += group
                .offsets
                .topics()
                .map(|(_, offsets)| offsets.len())
                .sum::<usize>();
            slice.push(group_id.clone());
        }
        for group_id in slice {
            self.expire_group(now_ms, &group_id, out);
        }
        if self.sweep.is_done() {
            self.names.forget_unused();
            self.sweep
                .schedule(now_ms + self.config.offsets_retention_check_interval_ms.max(1));
        }
    }

    fn expire_group(&mut self, now_ms: i64, group_id: &str, out: &mut Vec<Effect>) {
        let Some(group) = self.groups.get_mut(group_id) else {
            return;
        };
        // What is on its way to the log is younger than what is looked at here.
        if group.offset_writes > 0 || group.state() == GroupState::Dead {
            return;
        }
        let retention_ms = self.config.offsets_retention_ms;
        let (expired, all) = expired_offsets(group, retention_ms, now_ms);
        if all && group.is_deserted() {
            self.begin_delete(now_ms, group_id, None, out);
            return;
        }
        let mut step = Step {
            config: &self.config,
            topics: &*self.topics,
            now_ms,
            writes: &mut self.writes,
            out,
        };
        let mut expired = expired.into_iter().peekable();
        while expired.peek().is_some() {
            let changes: Vec<OffsetChange> = expired.by_ref().take(WRITE_TOMBSTONES).collect();
            let records = offsets::tombstones(&group.id, &changes);
            offsets::write_offsets(group, records, changes, OffsetsThen::Nobody, &mut step);
        }
    }
}

/// The offsets that have expired, and whether these are all the group has.
fn expired_offsets(group: &Group, retention_ms: i64, now_ms: i64) -> (Vec<OffsetChange>, bool) {
    let base = match group.classic() {
        // The server knows what a group of the new protocol reads, in whatever state it is.
        None => Base::Commit,
        Some(classic) => match classic.state {
            _ if classic.protocol_type.is_none() => Base::Commit,
            GroupState::Empty => classic
                .state_since_ms
                .map_or(Base::Commit, Base::EmptySince),
            GroupState::Stable if classic.knows_subscriptions() => Base::Commit,
            _ => return (Vec::new(), false),
        },
    };
    let is_expired = |offset: &CommittedOffset| match (offset.expire_timestamp_ms(), &base) {
        (Some(expires_ms), _) => now_ms >= expires_ms,
        (None, Base::Commit) => now_ms.saturating_sub(offset.commit_timestamp_ms) >= retention_ms,
        (None, Base::EmptySince(since_ms)) => now_ms.saturating_sub(*since_ms) >= retention_ms,
    };
    let mut expired = Vec::new();
    // As long as a transaction is open, the group stays.
    let mut all = group.transactional.is_empty();
    for (topic, partitions) in group.offsets.topics() {
        if group.is_subscribed(topic) {
            all = false;
            continue;
        }
        for (&partition, offset) in partitions {
            if is_expired(offset) && !group.transactional.has(topic, partition) {
                expired.push(OffsetChange::delete(topic.clone(), partition));
            } else {
                all = false;
            }
        }
    }
    (expired, all)
}
