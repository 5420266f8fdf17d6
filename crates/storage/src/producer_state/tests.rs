//! Tables of what Kafka's `ProducerAppendInfo` answers.

use super::*;
use crate::record::NO_PRODUCER_ID;

const PLACE: Place = Place {
    segment: 0,
    position: 0,
};

fn header(epoch: i16, sequence: i32, count: i32, base_offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset,
        batch_length: 49,
        partition_leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: 5,
        max_timestamp: 5,
        producer_id: 7,
        producer_epoch: epoch,
        base_sequence: sequence,
        record_count: count,
    }
}

/// Attribute bits 4 and 5.
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

fn transactional(producer_id: i64, epoch: i16, sequence: i32, base_offset: i64) -> BatchHeader {
    BatchHeader {
        producer_id,
        attributes: TRANSACTIONAL,
        ..header(epoch, sequence, 1, base_offset)
    }
}

fn end(
    states: &mut ProducerStates,
    producer_id: i64,
    epoch: i16,
    offset: i64,
    committed: bool,
) -> Option<Completed> {
    let header = BatchHeader {
        producer_id,
        attributes: TRANSACTIONAL | CONTROL,
        ..header(epoch, -1, 1, offset)
    };
    let marker = EndTxnMarker {
        committed,
        coordinator_epoch: 3,
    };
    states.record_marker(&header, marker)
}

fn marker(epoch: i16, coordinator_epoch: i32, strict_epoch: bool) -> EndMarker {
    EndMarker {
        producer_id: 7,
        producer_epoch: epoch,
        committed: true,
        coordinator_epoch,
        timestamp_ms: 5,
        strict_epoch,
    }
}

#[test]
fn repeats_are_told_from_gaps_and_zombies() {
    let mut states = ProducerStates::default();
    for i in 0..7 {
        let batch = header(1, i * 3, 3, 100 + i64::from(i) * 3);
        assert_eq!(states.check(&batch).unwrap(), Verdict::Append);
        states.record(&batch, PLACE, 5);
    }
    let duplicate = Verdict::Duplicate {
        base_offset: 106,
        last_offset: 108,
        timestamp_ms: 5,
    };
    assert_eq!(
        states.check(&header(1, 6, 3, 0)).unwrap(),
        duplicate,
        "fifth from the end"
    );
    let outside = states.check(&header(1, 3, 3, 0));
    assert!(
        matches!(
            outside,
            Err(StorageError::OutOfOrderSequence { expected: 21, .. })
        ),
        "out of the window"
    );
    assert!(states.check(&header(1, 24, 3, 0)).is_err(), "gap");
    assert!(matches!(
        states.check(&header(0, 21, 1, 0)),
        Err(StorageError::ProducerFenced { current: 1, .. })
    ));
    assert!(
        states.check(&header(2, 5, 1, 0)).is_err(),
        "a new epoch begins with 0"
    );
    assert_eq!(states.check(&header(2, 0, 1, 0)).unwrap(), Verdict::Append);
}

#[test]
fn sequences_wrap_and_strangers_pass() {
    let mut states = ProducerStates::default();
    assert_eq!(
        states.check(&header(0, i32::MAX - 1, 2, 0)).unwrap(),
        Verdict::Append,
        "an unknown producer may go on anywhere"
    );
    states.record(&header(0, i32::MAX - 1, 4, 0), PLACE, 5);
    assert_eq!(states.check(&header(0, 2, 1, 2)).unwrap(), Verdict::Append);
    assert!(
        matches!(
            states.check(&header(0, i32::MAX - 1, 4, 0)).unwrap(),
            Verdict::Duplicate { base_offset: 0, .. }
        ),
        "a batch over the wrap is found again"
    );
    let stranger = BatchHeader {
        producer_id: NO_PRODUCER_ID,
        ..header(0, 9, 1, 0)
    };
    assert_eq!(states.check(&stranger).unwrap(), Verdict::Append);
    assert_eq!(states.expire(6), 1);
}

#[test]
fn a_marker_that_raises_the_epoch_begins_the_sequences_anew() {
    let mut states = ProducerStates::default();
    states.record(&transactional(7, 0, 0, 10), PLACE, 5);
    let completed = end(&mut states, 7, 1, 11, true).unwrap();
    assert_eq!(
        (completed.open.first_offset, completed.last_offset),
        (10, 11)
    );
    assert!(matches!(
        states.check(&transactional(7, 0, 1, 12)),
        Err(StorageError::ProducerFenced { current: 1, .. })
    ));
    assert!(matches!(
        states.check(&transactional(7, 1, 1, 12)),
        Err(StorageError::OutOfOrderSequence { expected: 0, .. })
    ));
    assert_eq!(
        states.check(&transactional(7, 1, 0, 12)).unwrap(),
        Verdict::Append
    );
    // Under transactions v1 the epoch stays, and the sequences go on.
    states.record(&transactional(7, 1, 0, 12), PLACE, 5);
    end(&mut states, 7, 1, 13, true);
    assert_eq!(
        states.check(&transactional(7, 1, 1, 14)).unwrap(),
        Verdict::Append
    );
    assert!(matches!(
        states.check(&transactional(7, 1, 0, 14)).unwrap(),
        Verdict::Duplicate {
            base_offset: 12,
            ..
        }
    ));
}

#[test]
fn markers_are_fenced_by_both_epochs() {
    let mut states = ProducerStates::default();
    assert!(states.check_marker(&marker(0, 0, true)).is_ok(), "unknown");
    states.record(&transactional(7, 4, 0, 10), PLACE, 5);
    let fenced = |states: &ProducerStates, epoch, strict| {
        matches!(
            states.check_marker(&marker(epoch, 3, strict)),
            Err(StorageError::ProducerFenced { current: 4, .. })
        )
    };
    assert!(fenced(&states, 3, false) && fenced(&states, 3, true));
    assert!(!fenced(&states, 4, false), "v1 ends under the same epoch");
    assert!(fenced(&states, 4, true), "v2 under the next one");
    assert!(!fenced(&states, 5, true));
    end(&mut states, 7, 4, 11, true);
    assert!(!fenced(&states, 4, true), "a repeated marker");
    assert!(matches!(
        states.check_marker(&marker(4, 2, false)),
        Err(StorageError::CoordinatorFenced { current: 3, .. })
    ));
    states.record(&transactional(7, i16::MAX, 0, 12), PLACE, 5);
    assert!(
        states.check_marker(&marker(i16::MAX, 3, true)).is_ok(),
        "there is no epoch above it"
    );
}

#[test]
fn records_outside_of_an_open_transaction_are_refused() {
    let mut states = ProducerStates::default();
    states.record(&transactional(7, 0, 0, 10), PLACE, 5);
    assert!(matches!(
        states.check(&header(0, 1, 1, 0)),
        Err(StorageError::InvalidTxnState { producer_id: 7, .. })
    ));
    end(&mut states, 7, 0, 11, false);
    assert_eq!(states.check(&header(0, 1, 1, 0)).unwrap(), Verdict::Append);
}

#[test]
fn the_last_stable_offset_is_that_of_the_earliest_open_transaction() {
    let mut states = ProducerStates::default();
    for id in 1..=3 {
        states.record(&transactional(id, 0, 0, id * 10), PLACE, 5);
    }
    assert_eq!(
        end(&mut states, 2, 0, 40, false)
            .unwrap()
            .last_stable_offset,
        10
    );
    assert_eq!(
        end(&mut states, 1, 0, 41, false)
            .unwrap()
            .last_stable_offset,
        30
    );
    assert_eq!(
        end(&mut states, 3, 0, 42, true).unwrap().last_stable_offset,
        43
    );
    assert_eq!(end(&mut states, 3, 0, 43, true), None, "nothing to end");
    assert_eq!(states.first_open(), None);
}

#[test]
fn open_transactions_are_never_forgotten() {
    let mut states = ProducerStates::default();
    for id in 0..100 {
        states.record(&transactional(id, 0, 0, id), PLACE, 5);
        if id % 10 != 0 {
            end(&mut states, id, 0, 1_000 + id, true);
        }
    }
    assert_eq!(states.evict(100), 0);
    assert!(states.evict(50) >= 50);
    assert!(states.by_id.contains_key(&99), "the youngest stays");
    assert!(!states.by_id.contains_key(&1), "the longest idle one goes");
    assert!((0..10).all(|i| states.by_id.contains_key(&(i * 10))));
    states.expire(i64::MAX);
    assert_eq!(states.by_id.len(), 10);
}

#[test]
fn a_batch_after_the_marker_needs_a_new_guard() {
    let mut states = ProducerStates::default();
    let first = transactional(7, 0, 0, 10);
    assert!(states.check_verified(&first, None).is_err());
    let guard = states.begin_verification(7, 0, 0, false);
    assert!(guard.is_some() && states.check_verified(&first, guard).is_ok());
    // The coordinator said yes, but aborted the transaction before the batch was appended.
    end(&mut states, 7, 0, 10, false);
    assert!(matches!(
        states.check_verified(&first, guard),
        Err(StorageError::InvalidTxnState { producer_id: 7, .. })
    ));
    let guard = states.begin_verification(7, 0, 0, false);
    states.record(&transactional(7, 0, 0, 11), PLACE, 5);
    assert!(
        states
            .check_verified(&transactional(7, 0, 1, 12), None)
            .is_ok()
    );
    assert!(
        states
            .check_verified(&transactional(7, 1, 0, 12), guard)
            .is_err(),
        "another epoch's transaction is another one"
    );
    assert_eq!(states.begin_verification(7, 0, 1, false), None);
}

#[test]
fn no_batch_passes_the_first_one_that_is_being_verified() {
    let mut states = ProducerStates::default();
    states.begin_verification(7, 0, 5, false);
    states.begin_verification(7, 0, 3, false);
    let refused = |states: &ProducerStates, sequence| {
        matches!(
            states.check(&transactional(7, 0, sequence, 0)),
            Err(StorageError::OutOfOrderSequence { expected: 3, .. })
        )
    };
    assert!(refused(&states, 5) && !refused(&states, 3));
    let mut bumped = ProducerStates::default();
    bumped.begin_verification(7, 4, 6, true);
    assert!(
        bumped.check(&transactional(7, 4, 6, 0)).is_err(),
        "the first sequence of an epoch is 0"
    );
    assert!(bumped.check(&transactional(7, 4, 0, 0)).is_ok());
}

#[test]
fn what_a_coordinator_writes_has_no_sequence_and_is_never_a_repetition() {
    let mut states = ProducerStates::default();
    for offset in [10, 11] {
        let offsets = transactional(7, 3, -1, offset);
        assert_eq!(states.check(&offsets).unwrap(), Verdict::Append);
        states.record(&offsets, PLACE, 0);
    }
    assert_eq!(states.open_transaction(7).unwrap().first_offset, 10);
    assert_eq!(states.by_id[&7].last_offset(), 11);
    let older = states.check(&transactional(7, 2, -1, 12));
    assert!(matches!(older, Err(StorageError::ProducerFenced { .. })));
    end(&mut states, 7, 4, 12, true);
    let guard = states.begin_verification(7, 4, -1, true);
    assert!(states.is_verified(7, 4, guard) && !states.is_verified(7, 4, None));
    let next = transactional(7, 4, -1, 13);
    assert_eq!(states.check(&next).unwrap(), Verdict::Append);
    end(&mut states, 7, 5, 13, false);
    assert!(!states.is_verified(7, 4, guard), "a marker came between");
}
