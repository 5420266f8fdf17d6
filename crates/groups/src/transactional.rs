//! Offsets that were committed as part of a transaction (KIP-98): they count when its commit marker
//! is in the log, and never when it was aborted.
//!
//! Of two commits of the same partition the one whose record is later in the log wins, whatever the
//! order in which they come to count. So an offset that waits is *superseded* as soon as a later
//! commit of its partition counts; it still makes the partition unstable until its transaction ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::WriteId;
use crate::offsets::CommittedOffset;

/// An offset that waits for the end of its transaction. Of one producer and partition several may
/// wait, while the marker between them is still on its way.
#[derive(Debug)]
struct Waiting {
    /// Where its record is in the log.
    write: WriteId,
    /// `None` when it is superseded.
    offset: Option<CommittedOffset>,
}

/// In the order of the log.
type ByPartition = BTreeMap<(Arc<str>, i32), Vec<Waiting>>;

/// The waiting offsets of one group, by producer id.
#[derive(Debug, Default)]
pub(crate) struct TransactionalOffsets {
    by_producer: BTreeMap<i64, ByPartition>,
}

impl TransactionalOffsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_producer.is_empty()
    }

    /// Whether an offset of this partition waits.
    pub(crate) fn has(&self, topic: &str, partition: i32) -> bool {
        let has = |waiting: &ByPartition| {
            waiting
                .keys()
                .any(|(name, index)| **name == *topic && *index == partition)
        };
        // Few producers commit offsets of one group, and each of few partitions at a time.
        self.by_producer.values().any(has)
    }

    /// Whether an offset of this producer waits.
    pub(crate) fn of_producer(&self, producer_id: i64) -> bool {
        self.by_producer.contains_key(&producer_id)
    }

    /// The partitions whose offsets wait; one may come more than once.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (&Arc<str>, i32)> {
        let all = self.by_producer.values().flat_map(BTreeMap::keys);
        all.map(|(topic, partition)| (topic, *partition))
    }

    /// An offset is in the log; `None` says that it is superseded already. It replaces what the
    /// producer committed earlier of the same partition behind `marker`: its latest marker before
    /// this write that is still on its way, if there is one.
    pub(crate) fn wait(
        &mut self,
        producer_id: i64,
        topic: Arc<str>,
        partition: i32,
        (write, marker): (WriteId, Option<WriteId>),
        offset: Option<CommittedOffset>,
    ) {
        let of_producer = self.by_producer.entry(producer_id).or_default();
        let waiting = of_producer.entry((topic, partition)).or_default();
        // Ends of writes are reported in any order.
        let at = waiting.partition_point(|earlier| earlier.write < write);
        waiting.insert(at, Waiting { write, offset });
        let of_before = waiting.partition_point(|earlier| Some(earlier.write) < marker);
        waiting.drain(of_before.min(at)..at);
    }

    /// A commit of this partition, whose record is that of `write`, counts.
    pub(crate) fn supersede(&mut self, topic: &str, partition: i32, write: WriteId) {
        for waiting in self.by_producer.values_mut() {
            let found = waiting
                .iter_mut()
                .find(|((name, index), _)| **name == *topic && *index == partition);
            let earlier = found.into_iter().flat_map(|(_, waiting)| waiting);
            earlier
                .filter(|waiting| waiting.write < write)
                .for_each(|waiting| waiting.offset = None);
        }
    }

    /// The offset of this partition was deleted, by the record of `write`.
    pub(crate) fn forget(&mut self, topic: &str, partition: i32, write: WriteId) {
        self.by_producer.retain(|_, of_producer| {
            of_producer.retain(|(name, index), waiting| {
                if **name == *topic && *index == partition {
                    waiting.retain(|waiting| waiting.write > write);
                }
                !waiting.is_empty()
            });
            !of_producer.is_empty()
        });
    }

    /// The producer's transaction has ended with the marker of `write`: what it brought before, and
    /// behind `marker`, an earlier one of the producer's that is still on its way, no longer waits.
    /// Returned in the order of the records, with their places, without what is superseded.
    pub(crate) fn end(
        &mut self,
        producer_id: i64,
        (write, marker): (WriteId, Option<WriteId>),
    ) -> Vec<(Arc<str>, i32, WriteId, CommittedOffset)> {
        let Some(of_producer) = self.by_producer.get_mut(&producer_id) else {
            return Vec::new();
        };
        let mut offsets = Vec::new();
        of_producer.retain(|(topic, partition), waiting| {
            let begin = waiting.partition_point(|earlier| Some(earlier.write) < marker);
            let end = waiting.partition_point(|earlier| earlier.write < write);
            let ended = waiting
                .drain(begin..end)
                .filter_map(|ended| Some((topic.clone(), *partition, ended.write, ended.offset?)));
            offsets.extend(ended);
            !waiting.is_empty()
        });
        if of_producer.is_empty() {
            self.by_producer.remove(&producer_id);
        }
        offsets
    }
}
