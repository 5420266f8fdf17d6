//! Idempotence and transactions per producer id (KIP-98): which sequence number comes next, which of the
//! last batches a retry repeats, which transactions have no end yet.
//!
//! Pure: the log asks [`ProducerStates::check`] (or [`ProducerStates::check_marker`]) before it appends
//! and tells [`ProducerStates::record`] (or [`ProducerStates::record_marker`]) after, both inside its
//! critical section, so that the answer and the append cannot be separated. Recovery rebuilds the state
//! by recording the batches it reads.
//!
//! Invariants: at most [`WINDOW`] batches are remembered per producer; a producer's epoch and its
//! coordinator's never fall; a producer with an open transaction is never forgotten.

mod entry;
mod open;
mod snapshot;
mod verify;

pub(crate) use open::{Open, Place};
pub(crate) use snapshot::{AbortedFacts, Snapshot, decode};

pub use verify::VerificationGuard;

use std::collections::HashMap;

use crate::compaction::LastOfProducer;
use crate::error::{Result, StorageError};
use crate::record::BatchHeader;
use crate::record::control::EndTxnMarker;
use entry::{ProducerState, SentBatch};
use open::OpenTransactions;
use verify::Verifications;

/// Batches remembered per producer: a client has at most five requests in flight.
pub const WINDOW: usize = 5;

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

/// A transaction that has records in the log and no end marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Epoch of the producer.
    pub producer_epoch: i16,
    /// Offset of its first record in this log.
    pub first_offset: i64,
}

/// The end of a transaction, as a coordinator asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    /// Producer id.
    pub producer_id: i64,
    /// The epoch that the marker gives the producer.
    pub producer_epoch: i16,
    /// Whether the transaction is committed (or aborted).
    pub committed: bool,
    /// Epoch of the coordinator.
    pub coordinator_epoch: i32,
    /// Timestamp of the marker, Unix ms.
    pub timestamp_ms: i64,
    /// The epoch must be above the producer's, since every transaction gets a new one (transactions v2,
    /// KIP-890, KIP-1228). A repeated marker is taken, and so is one at the largest epoch there is.
    pub strict_epoch: bool,
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

/// A transaction that a marker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completed {
    pub(crate) producer_id: i64,
    pub(crate) open: Open,
    /// Offset of the marker.
    pub(crate) last_offset: i64,
    pub(crate) committed: bool,
    /// First offset of the earliest transaction that is still open, else the offset behind the marker.
    pub(crate) last_stable_offset: i64,
}

/// The state of every producer of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerStates {
    by_id: HashMap<i64, ProducerState>,
    open: OpenTransactions,
    verifying: Verifications,
    /// Number of producers at which eviction is worth another look.
    evict_above: usize,
}

impl ProducerStates {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Judges a batch of records before it is appended.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Verdict> {
        if !header.has_producer_id() || header.is_control() {
            return Ok(Verdict::Append);
        }
        let producer_id = header.producer_id;
        // What a coordinator writes in a producer's transaction has no sequence; only the epoch counts.
        let is_sequenced = header.base_sequence >= 0;
        let Some(state) = self.by_id.get(&producer_id) else {
            if !is_sequenced {
                return Ok(Verdict::Append);
            }
            // Its state may have been forgotten: any sequence is taken.
            self.check_verifying(header, true)?;
            return Ok(Verdict::Append);
        };
        if header.producer_epoch < state.epoch() {
            return Err(StorageError::ProducerFenced {
                producer_id,
                got: header.producer_epoch,
                current: state.epoch(),
            });
        }
        if !is_sequenced {
            return Ok(Verdict::Append);
        }
        let mut expected = 0;
        if header.producer_epoch == state.epoch() {
            if let Some(sent) = state.find(header) {
                return Ok(Verdict::Duplicate {
                    base_offset: sent.base_offset(),
                    last_offset: sent.last_offset,
                    timestamp_ms: sent.timestamp_ms,
                });
            }
            // After -1, which stands for no batch under this epoch, comes 0.
            expected = next_sequence(state.last_sequence());
        }
        self.check_verifying(header, state.last_sequence() < 0)?;
        if header.base_sequence != expected {
            return Err(StorageError::OutOfOrderSequence {
                producer_id,
                got: header.base_sequence,
                expected,
            });
        }
        match self.open.get(producer_id) {
            Some(open) if !header.is_transactional() => Err(StorageError::InvalidTxnState {
                producer_id,
                reason: format!(
                    "it sent records outside of the transaction that it began at offset {}",
                    open.first_offset
                ),
            }),
            _ => Ok(Verdict::Append),
        }
    }

    /// While the coordinator is asked about the first batches of a transaction, no later one passes
    /// them; the first of a new epoch has sequence 0, also where the producer is forgotten.
    fn check_verifying(&self, header: &BatchHeader, is_first: bool) -> Result<()> {
        let Some(verifying) = self.verifying.get(header.producer_id) else {
            return Ok(());
        };
        let (got, lowest) = (header.base_sequence, verifying.lowest_sequence);
        let expected = match verifying.epoch_bumps && is_first {
            true if got != 0 => 0,
            _ if got > lowest => lowest,
            _ => return Ok(()),
        };
        Err(StorageError::OutOfOrderSequence {
            producer_id: header.producer_id,
            got,
            expected,
        })
    }

    /// Judges whether a batch belongs to a transaction that is open here, or that the coordinator
    /// vouched for while nothing ended it.
    pub(crate) fn check_verified(
        &self,
        header: &BatchHeader,
        guard: Option<VerificationGuard>,
    ) -> Result<()> {
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        let is_known = !header.is_transactional()
            || header.is_control()
            || self.is_verified(producer_id, epoch, guard);
        if is_known {
            return Ok(());
        }
        Err(StorageError::InvalidTxnState {
            producer_id,
            reason: "its batch is not part of an ongoing transaction".to_owned(),
        })
    }

    /// Whether [`Self::check_verified`] would take a transactional batch of this producer.
    pub(crate) fn is_verified(
        &self,
        producer_id: i64,
        epoch: i16,
        guard: Option<VerificationGuard>,
    ) -> bool {
        self.is_open_under(producer_id, epoch) || self.verifying.holds(producer_id, guard)
    }

    fn is_open_under(&self, producer_id: i64, epoch: i16) -> bool {
        self.open_transaction(producer_id)
            .is_some_and(|open| open.producer_epoch == epoch)
    }

    /// Takes the right to append the first batch of a transaction once the coordinator vouched for it;
    /// `None` when the transaction is open already.
    pub(crate) fn begin_verification(
        &mut self,
        producer_id: i64,
        epoch: i16,
        first_sequence: i32,
        epoch_bumps: bool,
    ) -> Option<VerificationGuard> {
        if self.is_open_under(producer_id, epoch) {
            return None;
        }
        let verifying = &mut self.verifying;
        Some(verifying.begin(producer_id, epoch, first_sequence, epoch_bumps))
    }

    /// Judges an end marker before it is appended.
    pub(crate) fn check_marker(&self, marker: &EndMarker) -> Result<()> {
        let producer_id = marker.producer_id;
        let Some(state) = self.by_id.get(&producer_id) else {
            return Ok(());
        };
        let (got, current) = (marker.producer_epoch, state.epoch());
        let repeated = got == current && (self.open.get(producer_id).is_none() || got == i16::MAX);
        let too_old = got < current || (marker.strict_epoch && got == current && !repeated);
        if too_old {
            return Err(StorageError::ProducerFenced {
                producer_id,
                got,
                current,
            });
        }
        if marker.coordinator_epoch < state.coordinator_epoch() {
            return Err(StorageError::CoordinatorFenced {
                producer_id,
                got: marker.coordinator_epoch,
                current: state.coordinator_epoch(),
            });
        }
        Ok(())
    }

    /// Notes a batch of records that was appended with the offsets in its header.
    pub(crate) fn record(&mut self, header: &BatchHeader, place: Place, now_ms: i64) {
        if !header.has_producer_id() || header.is_control() {
            return;
        }
        let state = self.entry(header);
        if header.base_sequence >= 0 {
            state.push(SentBatch::of(header));
        } else {
            state.note_unsequenced(header.last_offset(), header.max_timestamp);
        }
        if header.is_transactional() {
            let open = Open {
                first_offset: header.base_offset,
                place: Some(place),
                started_ms: now_ms,
            };
            self.open.begin(header.producer_id, open);
            self.verifying.end(header.producer_id);
        }
    }

    /// Notes an end marker that was appended; tells of the transaction that it ended, if there was one.
    pub(crate) fn record_marker(
        &mut self,
        header: &BatchHeader,
        marker: EndTxnMarker,
    ) -> Option<Completed> {
        if !header.has_producer_id() {
            return None;
        }
        let last_offset = header.last_offset();
        let state = self.entry(header);
        state.note_marker(last_offset, header.max_timestamp, marker.coordinator_epoch);
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        self.verifying.end_by_marker(producer_id, epoch);
        let open = self.open.end(header.producer_id)?;
        Some(Completed {
            producer_id: header.producer_id,
            open,
            last_offset,
            committed: marker.committed,
            last_stable_offset: self
                .open
                .first()
                .map_or(last_offset + 1, |first| first.first_offset),
        })
    }

    fn entry(&mut self, header: &BatchHeader) -> &mut ProducerState {
        let state = self
            .by_id
            .entry(header.producer_id)
            .or_insert_with(|| ProducerState::new(header.producer_epoch));
        state.raise_epoch(header.producer_epoch);
        state
    }

    /// What compaction must leave of each producer, so that its state can be rebuilt from the log.
    pub(crate) fn last_of_each(&self) -> HashMap<i64, LastOfProducer> {
        let last = |state: &ProducerState| match state.newest() {
            Some(batch) => LastOfProducer::Batch {
                last_offset: batch.last_offset,
            },
            None => LastOfProducer::Marker {
                epoch: state.epoch(),
            },
        };
        let producers = self.by_id.iter();
        producers.map(|(id, state)| (*id, last(state))).collect()
    }

    /// The open transaction with the lowest first offset.
    pub(crate) fn first_open(&self) -> Option<&Open> {
        self.open.first()
    }

    /// The open transaction of a producer.
    pub(crate) fn open_transaction(&self, producer_id: i64) -> Option<OpenTransaction> {
        let open = self.open.get(producer_id)?;
        let state = self.by_id.get(&producer_id)?;
        Some(OpenTransaction {
            producer_epoch: state.epoch(),
            first_offset: open.first_offset,
        })
    }

    /// When the transaction that is open for the longest time began, Unix ms.
    pub(crate) fn oldest_open_ms(&self) -> Option<i64> {
        self.open.oldest_start_ms()
    }

    /// Transactions of which it is not known where they begin in the files.
    pub(crate) fn unplaced(&mut self) -> impl Iterator<Item = &mut Open> {
        self.open.iter_mut().filter(|open| open.place.is_none())
    }

    /// Forgets producers whose last batch is older than `before_ms` and that have no open transaction.
    pub(crate) fn expire(&mut self, before_ms: i64) -> usize {
        let (count, open) = (self.by_id.len(), &self.open);
        self.by_id
            .retain(|id, state| state.last_timestamp_ms() >= before_ms || open.get(*id).is_some());
        self.evict_above = 0;
        self.give_back();
        count - self.by_id.len()
    }

    /// Forgets the producers that are silent for the longest time, by the offset they wrote last, while
    /// there are more than `max`; none with an open transaction. Some more go, so that the next ones
    /// come without another look at all.
    pub(crate) fn evict(&mut self, max: usize) -> usize {
        let count = self.by_id.len();
        if count <= max.max(self.evict_above) {
            return 0;
        }
        let slack = max / 16;
        let mut idle: Vec<(i64, i64, i64)> = self
            .by_id
            .iter()
            .filter(|(id, _)| self.open.get(**id).is_none())
            .map(|(id, state)| (state.last_offset(), state.last_timestamp_ms(), *id))
            .collect();
        let go = (count - max + slack).min(idle.len().saturating_sub(1));
        if go > 0 {
            idle.select_nth_unstable(go);
            for (_, _, id) in &idle[..go] {
                self.by_id.remove(id);
            }
        }
        self.evict_above = self.by_id.len() + slack;
        go
    }

    /// Gives memory back that forgotten producers took.
    fn give_back(&mut self) {
        if self.by_id.len() < self.by_id.capacity() / 4 {
            self.by_id.shrink_to_fit();
        }
    }

    /// All producers, by id.
    pub(crate) fn summaries(&self) -> Vec<ProducerSummary> {
        let mut all: Vec<_> = self
            .by_id
            .iter()
            .map(|(id, state)| ProducerSummary {
                producer_id: *id,
                epoch: state.epoch(),
                last_sequence: state.last_sequence(),
                last_timestamp_ms: state.last_timestamp_ms(),
                coordinator_epoch: state.coordinator_epoch(),
                current_txn_start: self.open.get(*id).map(|open| open.first_offset),
            })
            .collect();
        all.sort_by_key(|summary| summary.producer_id);
        all
    }
}

/// Sequence numbers wrap from `i32::MAX` to 0.
fn next_sequence(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
