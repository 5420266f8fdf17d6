//! Records of aborted transactions, which a broker sends along with those of committed ones.
//!
//! The broker names, for each producer, the offsets at which its aborted transactions begin; each ends
//! with the producer's next abort marker.

use std::collections::HashSet;

use dlog_storage::record::control::EndTxnMarker;
use dlog_storage::record::{Batch, RecordError};
use kafka_protocol::messages::fetch_response::AbortedTransaction;

/// Takes the batches of aborted transactions out of batches in the order of their offsets.
pub(super) fn drop_aborted(
    batches: &mut Vec<Batch>,
    aborted: &[AbortedTransaction],
) -> Result<(), RecordError> {
    let mut coming: Vec<(i64, i64)> = aborted
        .iter()
        .map(|transaction| (transaction.first_offset, transaction.producer_id.0))
        .collect();
    coming.sort_unstable();
    let mut coming = coming.into_iter().peekable();
    let mut open = HashSet::new();
    let mut failed = None;
    batches.retain(|batch| {
        let header = batch.header();
        while let Some((_, producer)) = coming.next_if(|(first, _)| *first <= header.last_offset())
        {
            open.insert(producer);
        }
        if !header.is_transactional() {
            return true;
        }
        match EndTxnMarker::from_batch(batch) {
            Ok(Some(marker)) if !marker.committed => {
                open.remove(&header.producer_id);
                true
            }
            Ok(_) => header.is_control() || !open.contains(&header.producer_id),
            Err(error) => {
                failed.get_or_insert(error);
                true
            }
        }
    });
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use dlog_storage::record::BatchBuilder;
    use kafka_protocol::messages::ProducerId;

    use super::*;

    fn data(offset: i64, producer: i64, transactional: bool) -> Batch {
        let mut builder = BatchBuilder::new()
            .base_offset(offset)
            .producer(producer, 0, 0)
            .transactional(transactional);
        builder.push(0, None, Some(b"x"), &[]).unwrap();
        Batch::from_bytes(builder.build().unwrap()).unwrap()
    }

    fn marker(offset: i64, producer: i64, committed: bool) -> Batch {
        let marker = EndTxnMarker {
            committed,
            coordinator_epoch: 0,
        };
        let mut builder = BatchBuilder::new()
            .base_offset(offset)
            .producer(producer, 0, -1)
            .transactional(true)
            .control(true);
        let (key, value) = (marker.to_key(), marker.to_value());
        builder.push(0, Some(&key), Some(&value), &[]).unwrap();
        Batch::from_bytes(builder.build().unwrap()).unwrap()
    }

    #[test]
    fn only_what_was_aborted_goes() {
        let mut batches = vec![
            data(0, 7, true),
            data(1, 8, true),
            data(2, 7, false),
            marker(3, 7, false),
            // The next transaction of the same producer is committed.
            data(4, 7, true),
            marker(5, 8, true),
            marker(6, 7, true),
            data(7, 8, true),
        ];
        let aborted = |first, producer| {
            AbortedTransaction::default()
                .with_first_offset(first)
                .with_producer_id(ProducerId(producer))
        };
        drop_aborted(&mut batches, &[aborted(7, 8), aborted(0, 7)]).unwrap();
        let left: Vec<i64> = batches
            .iter()
            .map(|batch| batch.header().base_offset)
            .collect();
        assert_eq!(left, [1, 2, 3, 4, 5, 6]);
    }
}
