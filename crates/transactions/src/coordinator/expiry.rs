//! Transactional ids that did nothing for `transactional.id.expiration.ms` are forgotten. They are
//! swept in slices, a bounded number per tick.

use std::ops::Bound::Unbounded;
use std::sync::Arc;

use dlog_coordination::behind;

use crate::api::{Effect, Record};
use crate::step::OpenWrite;

use super::{TransactionCoordinator, key_of};

/// Ids looked at in one tick; as many tombstones are in one write at most.
const SLICE_IDS: usize = 1_000;

impl TransactionCoordinator {
    pub(super) fn sweep_expired(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        if !self.sweep.is_due(now_ms) {
            return;
        }
        let start = self.sweep.take_cursor();
        let from = behind(start.as_ref());
        let oldest_ms = now_ms.saturating_sub(self.config.id_expiration_ms);
        let (mut seen, mut expired) = (0, Vec::new());
        for (id, entry) in self.entries.range_mut::<str, _>((from, Unbounded)) {
            let now = &entry.now;
            if !entry.pending && now.state.may_expire() && now.last_update_ms <= oldest_ms {
                // Dead, until the tombstone is durable.
                entry.pending = true;
                expired.push(id.clone());
            }
            seen += 1;
            if seen == SLICE_IDS {
                self.sweep.stop_at(id.clone());
                break;
            }
        }
        if !expired.is_empty() {
            let tombstones = expired.iter().map(|id| Record {
                key: key_of(id),
                value: None,
            });
            let records = tombstones.collect();
            self.persist(records, OpenWrite::Expire { ids: expired }, out);
        }
        if self.sweep.is_done() {
            let interval_ms = self.config.id_expiration_check_interval_ms.max(1);
            self.sweep.schedule(now_ms.saturating_add(interval_ms));
        }
    }

    pub(super) fn finish_expiry(&mut self, ids: &[Arc<str>], gone: bool) {
        for id in ids {
            if gone {
                self.entries.remove(id);
            } else if let Some(entry) = self.entries.get_mut(id) {
                entry.pending = false;
            }
        }
    }
}
