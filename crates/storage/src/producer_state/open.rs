//! The transactions of a log that have records and no end marker yet, by producer and by first offset.
//!
//! Invariant: both maps hold the same transactions; a producer has at most one.

use std::collections::{BTreeMap, HashMap};

/// Where a batch stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Base offset of the segment.
    pub(crate) segment: i64,
    /// Byte position in it.
    pub(crate) position: u64,
}

/// A transaction that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) first_offset: i64,
    /// Where the batch with the first offset stands; a snapshot does not say.
    pub(crate) place: Option<Place>,
    /// When it began by our clock, or by its first batch's timestamp; Unix ms.
    pub(crate) started_ms: i64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenTransactions {
    by_producer: HashMap<i64, Open>,
    by_offset: BTreeMap<i64, i64>,
}

impl OpenTransactions {
    pub(crate) fn get(&self, producer_id: i64) -> Option<&Open> {
        self.by_producer.get(&producer_id)
    }

    /// Notes that a producer's transaction began, unless one is open.
    pub(crate) fn begin(&mut self, producer_id: i64, open: Open) {
        if let std::collections::hash_map::Entry::Vacant(slot) = self.by_producer.entry(producer_id)
        {
            self.by_offset.insert(open.first_offset, producer_id);
            slot.insert(open);
        }
    }

    pub(crate) fn end(&mut self, producer_id: i64) -> Option<Open> {
        let open = self.by_producer.remove(&producer_id)?;
        self.by_offset.remove(&open.first_offset);
        Some(open)
    }

    /// The transaction with the lowest first offset.
    pub(crate) fn first(&self) -> Option<&Open> {
        let (_, producer_id) = self.by_offset.first_key_value()?;
        self.by_producer.get(producer_id)
    }

    /// When the one that is open for the longest time began, Unix ms.
    pub(crate) fn oldest_start_ms(&self) -> Option<i64> {
        self.by_producer.values().map(|open| open.started_ms).min()
    }

    /// All, by first offset.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &Open)> {
        self.by_offset
            .values()
            .filter_map(|id| Some((*id, self.by_producer.get(id)?)))
    }

    /// All, to be completed, in no order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Open> {
        self.by_producer.values_mut()
    }
}
