//! The stored fates of offsets, and how an update is laid over what was stored before.
//!
//! Where two say something of the same offset, the one with more deliveries counts, and of equally
//! many the one further on its way: available, acknowledged, archived (as Kafka combines them). So
//! it does not matter whether an update is applied twice, or after one that came later.

use std::collections::BTreeMap;

/// The fate of an offset, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeliveryState {
    /// It can be handed out.
    Available,
    /// It was processed.
    Acknowledged,
    /// It is given up, or there is none.
    Archived,
}

impl DeliveryState {
    /// Its number in records and requests.
    pub fn id(self) -> i8 {
        match self {
            Self::Available => 0,
            Self::Acknowledged => 2,
            Self::Archived => 4,
        }
    }

    /// The state with this number. 3 is a record on its way to a dead-letter queue (KIP-1191), which
    /// is not handed out any more.
    pub fn from_id(id: i8) -> Option<Self> {
        match id {
            0 => Some(Self::Available),
            2 => Some(Self::Acknowledged),
            3 | 4 => Some(Self::Archived),
            _ => None,
        }
    }
}

/// How often an offset was handed out, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// What became of it.
    pub state: DeliveryState,
    /// How often it was handed out.
    pub count: u16,
}

impl Delivered {
    fn wins_over(self, other: Self) -> bool {
        (self.count, self.state) > (other.count, other.state)
    }
}

/// Offsets that follow one another and share a fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateBatch {
    /// First offset.
    pub first: i64,
    /// Last offset, inclusive.
    pub last: i64,
    /// Their fate.
    pub delivered: Delivered,
}

/// Batches that do not overlap, by first offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Batches {
    map: BTreeMap<i64, (i64, Delivered)>,
}

impl Batches {
    pub(crate) fn to_vec(&self) -> Vec<StateBatch> {
        let batch = |(&first, &(last, delivered))| StateBatch {
            first,
            last,
            delivered,
        };
        self.map.iter().map(batch).collect()
    }

    /// Forgets everything below `start`.
    pub(crate) fn prune(&mut self, start: i64) {
        self.split(start);
        if self
            .map
            .first_key_value()
            .is_some_and(|(&first, _)| first < start)
        {
            self.map = self.map.split_off(&start);
        }
    }

    /// Lays a batch over what is there. One without offsets changes nothing.
    pub(crate) fn apply(&mut self, batch: StateBatch) {
        let StateBatch {
            first,
            last,
            delivered,
        } = batch;
        if last < first || first < 0 || last == i64::MAX {
            return;
        }
        self.split(first);
        self.split(last + 1);
        let stronger: Vec<(i64, i64)> = self
            .map
            .range(first..=last)
            .filter(|(_, (_, known))| !delivered.wins_over(*known))
            .map(|(&at, &(end, _))| (at, end))
            .collect();
        let weaker: Vec<i64> = self
            .map
            .range(first..=last)
            .filter(|(_, (_, known))| delivered.wins_over(*known))
            .map(|(&at, _)| at)
            .collect();
        for at in weaker {
            self.map.remove(&at);
        }
        let mut from = first;
        for (at, end) in stronger {
            if from < at {
                self.map.insert(from, (at - 1, delivered));
            }
            from = end + 1;
        }
        if from <= last {
            self.map.insert(from, (last, delivered));
        }
        self.join(first, last);
    }

    fn split(&mut self, offset: i64) {
        let Some((_, entry)) = self.map.range_mut(..offset).next_back() else {
            return;
        };
        if entry.0 >= offset {
            let behind = *entry;
            entry.0 = offset - 1;
            self.map.insert(offset, behind);
        }
    }

    fn join(&mut self, first: i64, last: i64) {
        let before = self.map.range(..first).next_back().map(|(&at, _)| at);
        let mut at = before.unwrap_or(first);
        while at <= last {
            let Some((&next, &behind)) = self.map.range(at + 1..).next() else {
                return;
            };
            match self.map.get_mut(&at) {
                Some(entry) if entry.0 + 1 == next && entry.1 == behind.1 => {
                    entry.0 = behind.0;
                    self.map.remove(&next);
                }
                _ => at = next,
            }
        }
    }
}

/// Lays `new` over `old`, both in any order, and forgets what is below `start`.
pub fn combine(old: &[StateBatch], new: &[StateBatch], start: i64) -> Vec<StateBatch> {
    let mut batches = Batches::default();
    for batch in old.iter().chain(new) {
        batches.apply(*batch);
    }
    batches.prune(start);
    batches.to_vec()
}
