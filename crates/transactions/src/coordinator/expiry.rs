//! Transactional ids that did nothing for `transactional.id.expiration.ms` are forgotten. They are
//! swept in slices, a bounded number per tick.

use std::ops::Bound;
use std::sync::Arc;

use crate::api::{Effect, Record};
use crate::step::OpenWrite;

use super::{TransactionCoordinator, key_of};

/// Ids looked at in one tick; as many tombstones are in one write at most.
const SLICE_IDS: usize = 1_000;

/// How far the sweep is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    due_ms: Option<i64>,
    /// The last id seen by a sweep that goes on.
    cursor: Option<Arc<str>>,
}

impl Sweep {
    pub(super) fn due_ms(&self) -> Option<i64> {
        self.due_ms
    }

    pub(super) fn schedule(&mut self, at_ms: i64) {
        self.due_ms = Some(at_ms);
        self.cursor = None;
    }
}

impl TransactionCoordinator {
    pub(super) fn sweep_expired(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        if self.sweep.due_ms.is_none_or(|due_ms| due_ms > now_ms) {
            return;
        }
        let start = self.sweep.cursor.take();
        let from = start.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let oldest_ms = now_ms.saturating_sub(self.config.id_expiration_ms);
        let (mut seen, mut expired) = (0, Vec::new());
        for (id, entry) in self.entries.range_mut::<str, _>((from, Bound::Unbounded)) {
            let now = &entry.now;
            if !entry.pending && now.state.may_expire() && now.last_update_ms <= oldest_ms {
                // Dead, until the tombstone is durable.
                entry.pending = true;
                expired.push(id.clone());
            }
            seen += 1;
            if seen == SLICE_IDS {
                self.sweep.cursor = Some(id.clone());
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
        if self.sweep.cursor.is_none() {
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
