//! Idempotence per producer id (KIP-98): which sequence number comes next, and which of the last
//! batches a retry repeats.
//!
//! Pure: the log asks [`ProducerStates::check`] before it appends and tells
//! [`ProducerStates::record`] after, both inside its critical section, so that the answer and the
//! append cannot be separated. Recovery rebuilds the state by recording the batches it reads.
//!
//! Invariants: at most [`WINDOW`] batches are remembered per producer, newest last, with ascending
//! offsets; a producer's epoch never falls.

mod snapshot;

pub(crate) use snapshot::{decode, encode};

use std::collections::{HashMap, VecDeque};

use crate::error::{Result, StorageError};
use crate::record::BatchHeader;

/// Batches remembered per producer: a client has at most five requests in flight.
pub const WINDOW: usize = 5;

/// A batch that a retry may repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentBatch {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) timestamp_ms: i64,
}

/// What is known of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerState {
    pub(crate) epoch: i16,
    pub(crate) batches: VecDeque<SentBatch>,
    pub(crate) last_timestamp_ms: i64,
    pub(crate) coordinator_epoch: i32,
    pub(crate) current_txn_start: Option<i64>,
}

/// One producer as `DescribeProducers` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSummary {
    /// Producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Last sequence number, -1 when none is known.
    pub last_sequence: i32,
    /// Timestamp of its last batch, Unix ms.
    pub last_timestamp_ms: i64,
    /// Epoch of the transaction coordinator that wrote its last marker, -1 when none did.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub current_txn_start: Option<i64>,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    Append,
    /// It is in the log already: answer with what was answered then.
    Duplicate {
        base_offset: i64,
        last_offset: i64,
        timestamp_ms: i64,
    },
}

/// The state of every producer of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerStates {
    pub(crate) by_id: HashMap<i64, ProducerState>,
}

impl ProducerStates {
    /// Judges a batch before it is appended.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Verdict> {
        if !header.has_producer_id() || header.is_control() {
            return Ok(Verdict::Append);
        }
        let Some(state) = self.by_id.get(&header.producer_id) else {
            return Ok(Verdict::Append);
        };
        if header.producer_epoch < state.epoch {
            return Err(StorageError::ProducerFenced {
                producer_id: header.producer_id,
                got: header.producer_epoch,
                current: state.epoch,
            });
        }
        let expected = if header.producer_epoch > state.epoch {
            0
        } else if let Some(sent) = state.find(header) {
            return Ok(Verdict::Duplicate {
                base_offset: sent.base_offset,
                last_offset: sent.last_offset,
                timestamp_ms: sent.timestamp_ms,
            });
        } else {
            match state.batches.back() {
                Some(last) => next_sequence(last.last_sequence),
                None => return Ok(Verdict::Append),
            }
        };
        if header.base_sequence == expected {
            Ok(Verdict::Append)
        } else {
            Err(StorageError::OutOfOrderSequence {
                producer_id: header.producer_id,
                got: header.base_sequence,
                expected,
            })
        }
    }

    /// Notes a batch that was appended with the offsets in its header.
    pub(crate) fn record(&mut self, header: &BatchHeader) {
        if !header.has_producer_id() {
            return;
        }
        let state = self
            .by_id
            .entry(header.producer_id)
            .or_insert_with(|| ProducerState::new(header.producer_epoch));
        if header.producer_epoch > state.epoch {
            state.epoch = header.producer_epoch;
            state.batches.clear();
        }
        state.last_timestamp_ms = header.max_timestamp;
        if header.is_control() {
            state.current_txn_start = None;
            return;
        }
        if header.is_transactional() {
            state.current_txn_start.get_or_insert(header.base_offset);
        }
        if state.batches.len() == WINDOW {
            state.batches.pop_front();
        }
        state.batches.push_back(SentBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp_ms: header.max_timestamp,
        });
    }

    /// Forgets producers whose last batch is older than `before_ms` and that have no open transaction.
    pub(crate) fn expire(&mut self, before_ms: i64) -> usize {
        let count = self.by_id.len();
        self.by_id.retain(|_, state| {
            state.current_txn_start.is_some() || state.last_timestamp_ms >= before_ms
        });
        count - self.by_id.len()
    }

    /// All producers, by id.
    pub(crate) fn summaries(&self) -> Vec<ProducerSummary> {
        let mut all: Vec<_> = self
            .by_id
            .iter()
            .map(|(id, state)| ProducerSummary {
                producer_id: *id,
                epoch: state.epoch,
                last_sequence: state.batches.back().map_or(-1, |batch| batch.last_sequence),
                last_timestamp_ms: state.last_timestamp_ms,
                coordinator_epoch: state.coordinator_epoch,
                current_txn_start: state.current_txn_start,
            })
            .collect();
        all.sort_by_key(|summary| summary.producer_id);
        all
    }
}

impl ProducerState {
    pub(crate) fn new(epoch: i16) -> Self {
        Self {
            epoch,
            batches: VecDeque::with_capacity(1),
            last_timestamp_ms: -1,
            coordinator_epoch: -1,
            current_txn_start: None,
        }
    }

    fn find(&self, header: &BatchHeader) -> Option<&SentBatch> {
        self.batches.iter().find(|sent| {
            sent.first_sequence == header.base_sequence
                && sent.last_sequence == header.last_sequence()
        })
    }
}

/// Sequence numbers wrap from `i32::MAX` to 0.
fn next_sequence(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::NO_PRODUCER_ID;

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

    #[test]
    fn repeats_are_told_from_gaps_and_zombies() {
        let mut states = ProducerStates::default();
        for i in 0..7 {
            let batch = header(1, i * 3, 3, 100 + i64::from(i) * 3);
            assert_eq!(states.check(&batch).unwrap(), Verdict::Append);
            states.record(&batch);
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
        states.record(&header(0, i32::MAX - 1, 2, 0));
        assert_eq!(states.check(&header(0, 0, 1, 2)).unwrap(), Verdict::Append);
        let stranger = BatchHeader {
            producer_id: NO_PRODUCER_ID,
            ..header(0, 9, 1, 0)
        };
        assert_eq!(states.check(&stranger).unwrap(), Verdict::Append);
        assert_eq!(states.expire(6), 1);
    }
}
