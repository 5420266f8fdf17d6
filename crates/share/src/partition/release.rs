//! What happens to acquired records without their consumer's word: locks run out, sessions are lost,
//! writes end.

use super::acknowledge::end;
use super::runs::{End, Fate, Run};
use super::{ShareLimits, SharePartition, StateWrite, note};
use crate::state::{Delivered, DeliveryState};

/// A record that was not processed is given up when it was handed out often enough.
pub(super) fn after_release(run: &Run, limits: &ShareLimits) -> DeliveryState {
    if run.deliveries >= limits.max_deliveries {
        DeliveryState::Archived
    } else {
        DeliveryState::Available
    }
}

impl SharePartition {
    /// Everything that `member` holds can be acquired again, once that is stored (see
    /// [`acknowledge`](Self::acknowledge)).
    pub fn release_member(
        &mut self,
        member: &str,
        limits: &ShareLimits,
        write: u64,
    ) -> Option<StateWrite> {
        let mut changed = Vec::new();
        self.runs.update_all(|first, run| {
            let Fate::Acquired(lock) = &run.fate else {
                return;
            };
            if *lock.member != *member {
                return;
            }
            let lock = lock.clone();
            let state = after_release(run, limits);
            let delivered = Delivered {
                state,
                count: run.deliveries,
            };
            note(&mut changed, first, run.last, delivered);
            end(run, lock, state, write);
        });
        let ranges: Vec<_> = changed.iter().map(|b| (b.first, b.last)).collect();
        if !ranges.is_empty() {
            self.open.insert(write, ranges);
        }
        self.state_write(changed)
    }

    /// Ends the locks that have run out. That holds at once: what is returned should be stored, and
    /// whether it could be does not matter.
    pub fn expire(&mut self, limits: &ShareLimits, now_ms: i64) -> Option<StateWrite> {
        if self.earliest_lock_ms > now_ms {
            return None;
        }
        let mut changed = Vec::new();
        let mut earliest_ms = i64::MAX;
        self.runs.update_all(|first, run| match &run.fate {
            Fate::Acquired(lock) if lock.until_ms <= now_ms => {
                let delivered = Delivered {
                    state: after_release(run, limits),
                    count: run.deliveries,
                };
                note(&mut changed, first, run.last, delivered);
                match delivered.state {
                    DeliveryState::Available => run.fate = Fate::Available,
                    DeliveryState::Acknowledged | DeliveryState::Archived => run.finish(),
                }
            }
            // Should the write fail, the lock counts again.
            Fate::Acquired(lock) => earliest_ms = earliest_ms.min(lock.until_ms),
            Fate::Ending { .. } | Fate::Available | Fate::Done => {}
        });
        self.earliest_lock_ms = earliest_ms;
        self.settle(changed.first().map(|batch| batch.first));
        for batch in &changed {
            self.runs.update(batch.first, batch.last, |_, _| {});
        }
        // The start moves after the write is made: what it names lies behind the start it names.
        let write = self.state_write(changed);
        self.advance();
        write
    }

    /// The end of a write. Returns whether there may be something to acquire that was not before.
    pub fn persisted(
        &mut self,
        write: u64,
        stored: bool,
        limits: &ShareLimits,
        now_ms: i64,
    ) -> bool {
        let Some(ranges) = self.open.remove(&write) else {
            return false;
        };
        let mut lowest_available = None;
        let mut earliest_ms = self.earliest_lock_ms;
        for (first, last) in ranges {
            self.runs.update(first, last, |at, run| {
                let Fate::Ending {
                    lock,
                    end,
                    write: of,
                } = &run.fate
                else {
                    return;
                };
                if *of != write {
                    return;
                }
                let end = match (stored, lock.until_ms <= now_ms) {
                    (true, _) => *end,
                    (false, false) => {
                        earliest_ms = earliest_ms.min(lock.until_ms);
                        run.fate = Fate::Acquired(lock.clone());
                        return;
                    }
                    (false, true) => match after_release(run, limits) {
                        DeliveryState::Available => End::Available,
                        DeliveryState::Acknowledged | DeliveryState::Archived => End::Done,
                    },
                };
                match end {
                    End::Available => {
                        lowest_available =
                            Some(lowest_available.map_or(at, |low: i64| low.min(at)));
                        run.fate = Fate::Available;
                    }
                    End::Done => run.finish(),
                }
            });
        }
        self.earliest_lock_ms = earliest_ms;
        self.settle(lowest_available);
        let start = self.start;
        self.advance();
        lowest_available.is_some() || self.start != start
    }

    /// Remembers that something from this offset on may be available.
    fn settle(&mut self, available_from: Option<i64>) {
        if let Some(from) = available_from {
            self.search_from = self.search_from.min(from);
        }
    }
}
