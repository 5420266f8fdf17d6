//! Which batches belong to aborted transactions, and which markers have nothing left to mark.
//!
//! Fed with the batches of a log in their order, and with the aborted transactions that the log knows
//! of. No I/O. As Apache Kafka's `CleanedTransactionMetadata` (KIP-98, KIP-534).

use std::collections::{HashMap, HashSet};

use crate::index::AbortedTransaction;
use crate::record::{BatchHeader, control::ControlType};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// Those that begin later, the next one last.
    to_come: Vec<AbortedTransaction>,
    /// Begun and not ended yet, and whether a batch of them was met.
    aborted: HashMap<i64, (AbortedTransaction, bool)>,
    /// Producers of which a batch was met that no aborted transaction has.
    others: HashSet<i64>,
    /// Ended since they were last asked for, with a batch that was met.
    ended: Vec<AbortedTransaction>,
}

impl Transactions {
    /// Begins at the log's start, with all aborted transactions of what will be read.
    pub(crate) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_unstable_by_key(|txn| std::cmp::Reverse((txn.first_offset, txn.last_offset)));
        Self {
            to_come: aborted,
            ..Self::default()
        }
    }

    /// The aborted transactions that ended since the last call and of which a batch was met: readers
    /// that hold the batches may still ask for them.
    pub(crate) fn take_ended(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.ended)
    }

    fn begin_up_to(&mut self, offset: i64) {
        while let Some(next) = self
            .to_come
            .last()
            .filter(|next| next.first_offset <= offset)
        {
            self.aborted.insert(next.producer_id, (*next, false));
            self.to_come.pop();
        }
    }

    /// Takes the next batch of records; true when its transaction was aborted.
    pub(crate) fn records(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        if let Some((_, met)) = self.aborted.get_mut(&header.producer_id) {
            *met = true;
            return true;
        }
        self.others.insert(header.producer_id);
        false
    }

    /// Takes the next control batch, with the type of its record (none when it has no record any more);
    /// true when no batch of its transaction is left.
    pub(crate) fn control(&mut self, header: &BatchHeader, kind: Option<ControlType>) -> bool {
        self.begin_up_to(header.last_offset());
        let producer_id = header.producer_id;
        match kind {
            Some(ControlType::Abort) => {
                let met = self.aborted.remove(&producer_id).filter(|(_, met)| *met);
                self.ended.extend(met.map(|(transaction, _)| transaction));
                // A batch that stays without its marker would be an open transaction for ever.
                let other = self.others.remove(&producer_id);
                met.is_none() && !other
            }
            Some(ControlType::Commit) => !self.others.remove(&producer_id),
            Some(_) => false,
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, control::EndTxnMarker};

    fn data(producer: i64, base_offset: i64, transactional: bool) -> BatchHeader {
        let mut builder = BatchBuilder::new()
            .producer(producer, 0, 0)
            .transactional(transactional)
            .base_offset(base_offset);
        builder.push(1, Some(b"k"), None, &[]).unwrap();
        BatchHeader::parse(&builder.build().unwrap()).unwrap()
    }

    fn marker(producer: i64, base_offset: i64) -> BatchHeader {
        let marker = EndTxnMarker {
            committed: true,
            coordinator_epoch: 0,
        };
        let bytes = marker.to_batch(producer, 0, 1).unwrap();
        BatchHeader {
            base_offset,
            ..BatchHeader::parse(&bytes).unwrap()
        }
    }

    #[test]
    fn markers_stay_as_long_as_a_batch_of_theirs_does() {
        let aborted = |producer_id, first_offset, last_offset| AbortedTransaction {
            first_offset,
            last_offset,
            producer_id,
            last_stable_offset: last_offset + 1,
        };
        let mut seen = Transactions::new(vec![
            aborted(1, 20, 23),
            aborted(1, 2, 5),
            aborted(2, 30, 31),
        ]);
        let (abort, commit) = (Some(ControlType::Abort), Some(ControlType::Commit));
        assert!(!seen.records(&data(9, 0, false)), "not in a transaction");
        assert!(!seen.records(&data(2, 1, true)), "committed");
        assert!(seen.records(&data(1, 2, true)));
        assert!(!seen.records(&data(1, 3, false)));
        assert!(!seen.control(&marker(2, 4), commit), "its batch is there");
        assert!(!seen.control(&marker(1, 5), abort), "its batch is there");
        assert!(seen.control(&marker(2, 10), commit), "its batches are gone");
        assert!(
            !seen.records(&data(1, 12, true)),
            "a transaction between the aborted ones"
        );
        assert!(!seen.control(&marker(1, 13), commit));
        assert!(
            seen.control(&marker(1, 23), abort),
            "begun, no batch of it met"
        );
        assert!(seen.control(&marker(3, 24), None), "emptied before");
        assert!(!seen.control(&marker(3, 25), Some(ControlType::LeaderChange)));
        assert!(seen.control(&marker(2, 31), abort));
        assert_eq!(seen.take_ended(), [aborted(1, 2, 5)]);
        assert!(!seen.records(&data(4, 40, true)));
        assert!(
            !seen.control(&marker(4, 41), abort),
            "not known to be aborted"
        );
        assert_eq!(seen.take_ended(), []);
    }
}
