//! What is kept of one producer, in as few bytes as an idle one may cost.
//!
//! Most producers of a log sent one batch, or ended their last transaction, and are silent since: they
//! take 40 bytes. Only one that sent several batches under its epoch has a box with the older ones.
//!
//! Invariants: at most [`WINDOW`] batches, newest last, with ascending offsets; older batches exist only
//! beside a newest one.

use super::WINDOW;
use crate::record::{BatchHeader, add_to_sequence};

/// A batch that a retry may repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SentBatch {
    pub(crate) last_sequence: i32,
    /// Offsets (and sequences) between the first record and the last.
    pub(crate) offset_delta: i32,
    pub(crate) last_offset: i64,
    pub(crate) timestamp_ms: i64,
}

impl SentBatch {
    pub(crate) fn of(header: &BatchHeader) -> Self {
        Self {
            last_sequence: header.last_sequence(),
            offset_delta: header.last_offset_delta,
            last_offset: header.last_offset(),
            timestamp_ms: header.max_timestamp,
        }
    }

    /// Sequence of the first record; sequences go from `i32::MAX` on to 0.
    pub(crate) fn first_sequence(&self) -> i32 {
        add_to_sequence(self.last_sequence, self.offset_delta.saturating_neg())
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.last_offset
            .saturating_sub(i64::from(self.offset_delta))
    }

    fn is_repeated_by(&self, header: &BatchHeader) -> bool {
        self.first_sequence() == header.base_sequence
            && self.last_sequence == header.last_sequence()
    }
}

/// The batches before the newest one, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Older {
    count: u8,
    batches: [SentBatch; WINDOW - 1],
}

/// What is known of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerState {
    /// Of the newest batch; without one, of the last end marker.
    last_offset: i64,
    /// Timestamp of the newest batch or of a marker that came behind it, Unix ms.
    last_timestamp_ms: i64,
    older: Option<Box<Older>>,
    /// Of the newest batch under this epoch, -1 when none is known.
    last_sequence: i32,
    offset_delta: i32,
    coordinator_epoch: i32,
    epoch: i16,
}

impl ProducerState {
    pub(crate) fn new(epoch: i16) -> Self {
        Self {
            last_offset: -1,
            last_timestamp_ms: -1,
            older: None,
            last_sequence: -1,
            offset_delta: 0,
            coordinator_epoch: -1,
            epoch,
        }
    }

    pub(crate) fn epoch(&self) -> i16 {
        self.epoch
    }

    /// Epoch of the coordinator that wrote the last end marker, -1 when none did.
    pub(crate) fn coordinator_epoch(&self) -> i32 {
        self.coordinator_epoch
    }

    /// Sequence of the last record under this epoch, -1 when none is known.
    pub(crate) fn last_sequence(&self) -> i32 {
        self.last_sequence
    }

    pub(crate) fn last_timestamp_ms(&self) -> i64 {
        self.last_timestamp_ms
    }

    /// Where the producer wrote last, as far as it is known: what orders idle producers.
    pub(crate) fn last_offset(&self) -> i64 {
        self.last_offset
    }

    pub(crate) fn newest(&self) -> Option<SentBatch> {
        (self.last_sequence >= 0).then_some(SentBatch {
            last_sequence: self.last_sequence,
            offset_delta: self.offset_delta,
            last_offset: self.last_offset,
            timestamp_ms: self.last_timestamp_ms,
        })
    }

    /// The batches before the newest one, oldest first.
    pub(crate) fn older(&self) -> &[SentBatch] {
        match &self.older {
            Some(older) => &older.batches[..usize::from(older.count)],
            None => &[],
        }
    }

    /// The batch that a retry repeats.
    pub(crate) fn find(&self, header: &BatchHeader) -> Option<SentBatch> {
        let newest = self.newest()?;
        if newest.is_repeated_by(header) {
            return Some(newest);
        }
        let mut older = self.older().iter();
        older.find(|sent| sent.is_repeated_by(header)).copied()
    }

    /// Sets the epoch when it is newer, which forgets the batches of the old one. It never falls.
    pub(crate) fn raise_epoch(&mut self, epoch: i16) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.last_sequence = -1;
            self.offset_delta = 0;
            self.older = None;
        }
    }

    /// Notes the newest batch.
    pub(crate) fn push(&mut self, batch: SentBatch) {
        if let Some(before) = self.newest() {
            self.push_older(before);
        }
        self.last_offset = batch.last_offset;
        self.last_timestamp_ms = batch.timestamp_ms;
        self.last_sequence = batch.last_sequence;
        self.offset_delta = batch.offset_delta;
    }

    /// Puts a batch behind the older ones; the oldest one leaves when there is no place.
    pub(crate) fn push_older(&mut self, batch: SentBatch) {
        let older = self.older.get_or_insert_default();
        if usize::from(older.count) == older.batches.len() {
            older.batches.rotate_left(1);
            older.count -= 1;
        }
        older.batches[usize::from(older.count)] = batch;
        older.count += 1;
    }

    /// Notes a batch without sequence numbers, which no retry repeats.
    pub(crate) fn note_unsequenced(&mut self, last_offset: i64, timestamp_ms: i64) {
        if self.last_sequence < 0 {
            self.last_offset = last_offset;
        }
        self.last_timestamp_ms = timestamp_ms;
    }

    /// Notes an end marker under the current epoch.
    pub(crate) fn note_marker(&mut self, offset: i64, timestamp_ms: i64, coordinator_epoch: i32) {
        if self.last_sequence < 0 {
            self.last_offset = offset;
        }
        self.last_timestamp_ms = timestamp_ms;
        self.coordinator_epoch = self.coordinator_epoch.max(coordinator_epoch);
    }

    /// Takes what a snapshot says of it.
    pub(super) fn restore(&mut self, last_timestamp_ms: i64, coordinator_epoch: i32) {
        self.last_timestamp_ms = last_timestamp_ms;
        self.coordinator_epoch = coordinator_epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_producer_is_small() {
        assert_eq!(size_of::<ProducerState>(), 40);
        assert!(size_of::<Older>() <= 104);
    }

    #[test]
    fn the_window_keeps_the_newest_five() {
        let mut state = ProducerState::new(0);
        for i in 0..9 {
            state.push(SentBatch {
                last_sequence: i,
                last_offset: i64::from(i) * 10,
                ..SentBatch::default()
            });
        }
        let sequences: Vec<_> = state
            .older()
            .iter()
            .map(|sent| sent.last_sequence)
            .collect();
        assert_eq!(sequences, [4, 5, 6, 7]);
        assert_eq!(state.last_sequence(), 8);
        state.raise_epoch(1);
        assert_eq!((state.newest(), state.older().len()), (None, 0));
    }
}
