//! Which records a run keeps: decisions without I/O, as Apache Kafka's `Cleaner` takes them.
//!
//! A record stays when it is the newest of its key; a tombstone among those only until its delete
//! horizon, which the run that first kept it writes into its batch (KIP-534). Records of aborted
//! transactions go. A marker stays while a batch of its transaction does, and then until its horizon. The
//! last batch of each producer stays without its records, since it has the producer's last sequence.
//!
//! Invariant: a tombstone goes only in a run that removes all older values of its key, or after one
//! that did: a horizon is only given to tombstones whose keys are in this run's map.

use std::collections::HashMap;

use super::map::OffsetMap;
use crate::record::BatchHeader;

/// What has to be kept of a producer so that it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastOfProducer {
    /// The batch that ends here has its last sequence number.
    Batch {
        /// Last offset of that batch.
        last_offset: i64,
    },
    /// It has written markers only: they tell its epoch.
    Marker {
        /// That epoch.
        epoch: i16,
    },
}

/// What a run goes by.
pub(crate) struct Rules<'a> {
    /// The newest offsets of the keys in `mapped`.
    pub(crate) map: &'a OffsetMap,
    /// The offsets whose keys are in the map.
    pub(crate) mapped: std::ops::Range<i64>,
    /// First offset that this and every later run leaves alone for now.
    pub(crate) end: i64,
    pub(crate) now_ms: i64,
    /// How long tombstones stay after they were first kept (`delete.retention.ms`).
    pub(crate) delete_retention_ms: i64,
    pub(crate) producers: &'a HashMap<i64, LastOfProducer>,
}

/// What becomes of a batch, before its records are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchVerdict {
    /// All its records go.
    pub(crate) drop_records: bool,
    /// It stays when it has no record.
    pub(crate) keep_empty: bool,
    /// It is a marker of a transaction of which nothing is left.
    pub(crate) marks_nothing: bool,
}

impl Rules<'_> {
    /// Judges a batch. `is_void` is what [`super::txn::Transactions`] said: the batch is part of an
    /// aborted transaction, or a marker of one of which nothing is left.
    pub(crate) fn judge(&self, header: &BatchHeader, is_void: bool) -> BatchVerdict {
        let past_horizon = header
            .delete_horizon_ms()
            .is_some_and(|horizon_ms| horizon_ms <= self.now_ms);
        BatchVerdict {
            drop_records: is_void && (!header.is_control() || past_horizon),
            // The last one of the range too: it says how far offsets went.
            keep_empty: self.is_last_of_producer(header) || header.next_offset() == self.end,
            marks_nothing: is_void && header.is_control(),
        }
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        match self.producers.get(&header.producer_id) {
            Some(LastOfProducer::Batch { last_offset }) => header.last_offset() == *last_offset,
            Some(LastOfProducer::Marker { epoch }) => {
                header.is_control() && header.producer_epoch == *epoch
            }
            None => false,
        }
    }

    /// Whether a batch lies behind what the map covers: it stays as it is.
    pub(crate) fn is_behind_map(&self, header: &BatchHeader) -> bool {
        header.last_offset() >= self.mapped.end
    }

    /// Whether a record of a batch with this delete horizon stays. `is_newest` is what the map said of it.
    pub(crate) fn keeps(
        &self,
        offset: i64,
        is_newest: bool,
        has_value: bool,
        horizon_ms: Option<i64>,
    ) -> bool {
        offset >= self.mapped.end
            || (is_newest
                && (has_value || horizon_ms.is_none_or(|horizon_ms| self.now_ms < horizon_ms)))
    }

    /// The horizon that a batch gets now, of which some records stay.
    pub(crate) fn new_horizon_ms(
        &self,
        header: &BatchHeader,
        verdict: BatchVerdict,
        has_tombstones: bool,
    ) -> Option<i64> {
        if header.has_delete_horizon() {
            return None;
        }
        let settled = self.mapped.contains(&header.base_offset) && !self.is_behind_map(header);
        (verdict.marks_nothing || (has_tombstones && !header.is_control() && settled))
            .then(|| self.horizon_ms())
    }

    /// The horizon of what is first kept by this run.
    pub(crate) fn horizon_ms(&self) -> i64 {
        self.now_ms.saturating_add(self.delete_retention_ms.max(0))
    }
}
