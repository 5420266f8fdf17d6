//! A share-partition: one partition of a topic as one share group sees it.
//!
//! All offsets from `start` up to (not including) `next` are in flight, in [`runs`]; below `start`
//! everything is done with, from `next` on nothing was handed out yet. `acquire` hands records out,
//! `acknowledge` takes their fate from the consumer, `release` from time and from lost sessions.
//!
//! *Offsets that hold no record (compacted away, a transaction's marker, an aborted transaction)
//! count like records until they are done with, so that nothing is skipped by mistake.*

mod acknowledge;
mod acquire;
mod release;
mod runs;

use std::collections::HashMap;

use thiserror::Error;

use crate::state::{Delivered, DeliveryState, StateBatch};
pub use acknowledge::{
    AcknowledgeError, AcknowledgeKind, AcknowledgementBatch, check_acknowledgements,
};
pub use acquire::{Acquire, AcquireMode, Acquired, Span};
use runs::{Fate, Run, Runs};

/// What the settings of a group say (`group.share.*`, `share.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareLimits {
    /// `share.delivery.count.limit`: a record that was handed out this often is given up.
    pub max_deliveries: u16,
    /// `share.record.lock.duration.ms`.
    pub lock_ms: i64,
    /// `share.partition.max.record.locks`: offsets in flight.
    pub max_in_flight: i64,
    /// `share.renew.acknowledge.enable` (KIP-1222).
    pub may_renew: bool,
}

impl Default for ShareLimits {
    fn default() -> Self {
        Self {
            max_deliveries: 5,
            lock_ms: 30_000,
            max_in_flight: 2000,
            may_renew: true,
        }
    }
}

/// What must be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateWrite {
    /// First offset that is not done with.
    pub start_offset: i64,
    /// Offsets from there on that are done with (KIP-1226).
    pub delivery_complete_count: i32,
    /// What changed, ascending.
    pub batches: Vec<StateBatch>,
}

/// Why stored state cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// A batch begins before the start offset or the end of the one before.
    #[error("the stored batch {first}..={last} begins before {expected}")]
    Overlaps {
        /// Its first offset.
        first: i64,
        /// Its last offset.
        last: i64,
        /// Where it may begin at the earliest.
        expected: i64,
    },
    /// A batch ends before it begins, or at the end of all offsets.
    #[error("the stored batch {first}..={last} has no offsets")]
    Empty {
        /// Its first offset.
        first: i64,
        /// Its last offset.
        last: i64,
    },
}

/// One partition as one group sees it.
#[derive(Debug, Clone)]
pub struct SharePartition {
    start: i64,
    /// The offset behind the last one in flight.
    next: i64,
    runs: Runs,
    /// Nothing below this offset is available.
    search_from: i64,
    /// No lock ends before this, Unix ms.
    earliest_lock_ms: i64,
    /// What the open writes end.
    open: HashMap<u64, Vec<(i64, i64)>>,
}

impl SharePartition {
    /// Takes over what was stored: nothing below `start_offset`, and these batches, ascending. What
    /// lies between batches was handed out when the state was lost, and is available.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(start_offset: i64, batches: &[StateBatch]) -> Result<Self, LoadError> {
        let start = start_offset.max(0);
        let mut partition = Self {
            start,
            next: start,
            runs: Runs::default(),
            search_from: start,
            earliest_lock_ms: i64::MAX,
            open: HashMap::new(),
        };
        for batch in batches {
            let (first, last) = (batch.first, batch.last);
            if last < first || last == i64::MAX {
                return Err(LoadError::Empty { first, last });
            }
            if first < partition.next {
                let expected = partition.next;
                return Err(LoadError::Overlaps {
                    first,
                    last,
                    expected,
                });
            }
            partition.push(first - 1, available(first - 1, 0, first - partition.next));
            let run = match batch.delivered.state {
                DeliveryState::Available => {
                    available(last, batch.delivered.count, last - first + 1)
                }
                DeliveryState::Acknowledged | DeliveryState::Archived => Run::done(last),
            };
            partition.push(last, run);
        }
        partition.advance();
        Ok(partition)
    }

    /// First offset that is not done with.
    pub fn start_offset(&self) -> i64 {
        self.start
    }

    /// Offsets in flight: handed out or to be handed out again, and what is done with among them.
    pub fn in_flight(&self) -> i64 {
        self.next - self.start
    }

    /// Entries that this partition is kept in; for metrics and tests.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Where to read next: the first offset that can be acquired.
    pub fn next_fetch_offset(&mut self) -> i64 {
        let from = self.search_from.max(self.start);
        let found = self
            .runs
            .touching(from, self.next - 1)
            .find(|(_, run)| run.fate == Fate::Available);
        self.search_from = found.map_or(self.next, |(first, _)| first.max(from));
        self.search_from
    }

    /// Whether anything may be acquired now.
    pub fn can_acquire(&mut self, limits: &ShareLimits) -> bool {
        self.next_fetch_offset() < self.next || self.in_flight() < limits.max_in_flight
    }

    /// When [`expire`](Self::expire) should be called next, Unix ms.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        (self.earliest_lock_ms != i64::MAX).then_some(self.earliest_lock_ms)
    }

    /// The log begins at `log_start` now: nothing below it exists, whoever holds it.
    pub fn raise_start(&mut self, log_start: i64) {
        if log_start <= self.start {
            return;
        }
        self.runs.cut_below(log_start);
        self.start = log_start;
        self.next = self.next.max(log_start);
        self.advance();
    }

    /// Whether a member holds records here.
    pub fn is_held_by(&self, member: &str) -> bool {
        self.runs.iter().any(|(_, run)| match &run.fate {
            Fate::Acquired(lock) | Fate::Ending { lock, .. } => *lock.member == *member,
            Fate::Available | Fate::Done => false,
        })
    }

    /// Puts a run up to `last` behind the others.
    fn push(&mut self, last: i64, run: Run) {
        if last >= self.next {
            self.runs.push(self.next, run);
            self.next = last + 1;
        }
    }

    /// Moves the start behind what is done with.
    fn advance(&mut self) {
        while let Some(behind) = self.runs.pop_done() {
            self.start = behind;
        }
        if self.runs.is_empty() {
            self.start = self.next;
        }
    }

    /// Offsets from the start on that are done with, or on their way to it.
    fn complete_count(&self) -> i32 {
        let complete = self.runs.iter().filter_map(|(first, run)| {
            let done = match run.fate {
                Fate::Done => true,
                Fate::Ending { end, .. } => end == runs::End::Done,
                Fate::Available | Fate::Acquired(_) => false,
            };
            done.then_some(run.last - first + 1)
        });
        i32::try_from(complete.sum::<i64>()).unwrap_or(i32::MAX)
    }

    fn state_write(&self, batches: Vec<StateBatch>) -> Option<StateWrite> {
        (!batches.is_empty()).then(|| StateWrite {
            start_offset: self.start,
            delivery_complete_count: self.complete_count(),
            batches,
        })
    }
}

fn available(last: i64, deliveries: u16, count: i64) -> Run {
    Run {
        last,
        fate: Fate::Available,
        deliveries,
        cohort: u32::try_from(count).unwrap_or(u32::MAX),
    }
}

/// Adds a changed range to a list of them; what follows on and is equal is put together.
fn note(batches: &mut Vec<StateBatch>, first: i64, last: i64, delivered: Delivered) {
    match batches.last_mut() {
        Some(batch) if batch.last + 1 == first && batch.delivered == delivered => batch.last = last,
        _ => batches.push(StateBatch {
            first,
            last,
            delivered,
        }),
    }
}
