//! Transactions as the log sees them: the last stable offset, end markers, what was aborted.
//!
//! Invariants: a transaction holds the last stable offset back from its first record on until its end
//! marker is acknowledged, so that no reader of committed records acts on a decision that a power loss
//! can take back. The entry of an aborted transaction is there before the last stable offset passes it.

use std::sync::Arc;

use bytes::Bytes;

use super::outgoing::split_batches;
use super::read::{LogSlice, ReadLimit, SliceBytes, containing};
use super::{AppendMode, Appended, LogCore, Mark, Marks};
use crate::config::FlushPolicy;
use crate::error::{Result, StorageError};
use crate::index::AbortedTransaction;
use crate::producer_state::{Completed, EndMarker, Open, OpenTransaction, VerificationGuard};
use crate::record::control::EndTxnMarker;
use crate::replay;
use crate::segment::Segment;

/// A transaction whose end marker is in the log but not durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undecided {
    first: Mark,
    /// Offset of the marker.
    marker: i64,
}

impl Undecided {
    pub(super) fn of(completed: &Completed) -> Self {
        Self {
            first: mark_of(&completed.open),
            marker: completed.last_offset,
        }
    }
}

/// Where a transaction begins.
pub(super) fn mark_of(open: &Open) -> Mark {
    // Without a place nothing is shown of what follows it: only the offset matters then.
    let (segment, position) = open
        .place
        .map_or((i64::MIN, 0), |place| (place.segment, place.position));
    Mark {
        offset: open.first_offset,
        segment,
        position,
    }
}

impl Marks {
    /// The first offset that readers of committed records may not see, with its place.
    pub(super) fn stable(&self, always: bool) -> Mark {
        let acknowledged = if always { self.durable } else { self.end };
        // Where a flush is not waited for, a marker is acknowledged once it is written.
        let undecided = self.undecided.first_key_value().filter(|_| always);
        undecided
            .map(|(_, undecided)| undecided.first)
            .into_iter()
            .chain(self.first_open)
            .chain([acknowledged])
            .min_by_key(|mark| mark.offset)
            .unwrap_or(acknowledged)
    }

    /// Notes the markers that are durable now.
    pub(super) fn settle_markers(&mut self) {
        let durable = self.durable.offset;
        self.undecided
            .retain(|_, undecided| undecided.marker >= durable);
    }

    /// Forgets markers that were cut.
    pub(super) fn cut_markers(&mut self, end: i64) {
        self.undecided.retain(|_, undecided| undecided.marker < end);
    }

    /// Notes an end marker that was appended.
    pub(super) fn note_marker(&mut self, completed: &Completed) {
        let undecided = Undecided::of(completed);
        self.undecided.insert(undecided.first.offset, undecided);
    }
}

impl LogCore {
    pub(super) fn stable_mark(&self) -> Mark {
        let always = self.config.load().flush == FlushPolicy::Always;
        self.marks.lock().stable(always)
    }

    /// First offset that a reader of committed records may not see: that of the earliest transaction
    /// that is open, or whose end marker is not acknowledged; else the acknowledged end. Never below the
    /// log start.
    pub fn last_stable_offset(&self) -> i64 {
        self.stable_mark().offset.max(self.log_start_offset())
    }

    /// The transactions that were aborted and may have records in `from..to`, for a reader of committed
    /// records that read this range (Fetch, KIP-98). Call it after the range was read.
    ///
    /// # Errors
    /// An I/O error or [`crate::StorageError::Damaged`], when an index has to be made anew and the log
    /// cannot be read.
    pub fn aborted_transactions(&self, from: i64, to: i64) -> Result<Vec<AbortedTransaction>> {
        self.while_untrimmed(|segments| aborted_in(segments, from, to))
    }

    /// As [`LogCore::read_range`] up to the last stable offset, with the transactions that were aborted
    /// and may have records in what was read.
    ///
    /// # Errors
    /// As [`LogCore::read_range`] and [`LogCore::aborted_transactions`].
    pub fn read_committed(&self, from: i64, max_bytes: usize) -> Result<Committed> {
        loop {
            let read = |segments: &[Arc<Segment>]| self.committed_in(segments, from, max_bytes);
            if let Some(committed) = self.while_untrimmed(read)? {
                return Ok(committed);
            }
        }
    }

    /// `None` when the segment that was read was replaced meanwhile: what compaction put in its place
    /// need not know of the aborted transactions that were read.
    fn committed_in(
        &self,
        segments: &[Arc<Segment>],
        from: i64,
        max_bytes: usize,
    ) -> Result<Option<Committed>> {
        let records = self.range_in(segments, from, max_bytes, ReadLimit::Stable)?;
        // As they are now: the markers of what was read may stand in a segment that was begun since,
        // before the last stable offset passed them.
        let now = self.segments.load();
        let holding = |list: &[Arc<Segment>]| list[containing(list, records.base_offset)].clone();
        if records.is_empty() {
            let aborted = Vec::new();
            return Ok(Some(Committed { records, aborted }));
        }
        if !Arc::ptr_eq(&holding(segments), &holding(&now)) {
            return Ok(None);
        }
        let mut behind = now[containing(&now, from)..].iter();
        let aborted = if behind.any(|segment| segment.aborted_facts().entries > 0) {
            let to = end_of(segments, &records)?.unwrap_or_else(|| self.last_stable_offset());
            aborted_in(&now, from, to)?
        } else {
            Vec::new()
        };
        Ok(Some(Committed { records, aborted }))
    }

    /// Appends the end marker of a producer's transaction, as the leader, without waiting for a flush:
    /// see [`LogCore::acknowledged`]. A producer that is unknown here, or has no open transaction, gets
    /// one all the same: its epoch is fenced by it.
    ///
    /// # Errors
    /// [`crate::StorageError::ProducerFenced`] for an epoch below the producer's (or not above it, when
    /// the marker is strict), [`crate::StorageError::CoordinatorFenced`],
    /// [`crate::StorageError::InvalidTxnState`] without a producer id and epoch, and as
    /// [`LogCore::append_batches`].
    pub fn append_end_marker(&self, marker: EndMarker, leader_epoch: i32) -> Result<Appended> {
        if marker.producer_id < 0 || marker.producer_epoch < 0 {
            return Err(StorageError::InvalidTxnState {
                producer_id: marker.producer_id,
                reason: format!(
                    "an end marker needs a producer id and an epoch, not {}",
                    marker.producer_epoch
                ),
            });
        }
        let content = EndTxnMarker {
            committed: marker.committed,
            coordinator_epoch: marker.coordinator_epoch,
        };
        let bytes = content.to_batch(
            marker.producer_id,
            marker.producer_epoch,
            marker.timestamp_ms,
        )?;
        let mode = AppendMode::Leader {
            leader_epoch,
            log_append_time: None,
        };
        let appended = self.append_frames(split_batches(bytes)?, mode, |writer| {
            writer.producers.check_marker(&marker)
        })?;
        self.flush_if_waited_for();
        Ok(appended)
    }

    /// Takes the right to append the first batch of a transaction here, before the coordinator is asked
    /// whether this partition is part of it (KIP-890); `None` when the transaction is open already and
    /// nobody need be asked. The guard goes to [`LogCore::append_verified`] with the batch. An end marker
    /// that is appended meanwhile takes the right away.
    ///
    /// `first_sequence` is that of the batch: while it is not appended, no later one is. `epoch_bumps`
    /// says that the producer gets a new epoch with every transaction (transactions v2).
    pub fn begin_verification(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        first_sequence: i32,
        epoch_bumps: bool,
    ) -> Option<VerificationGuard> {
        let mut writer = self.writer.lock();
        let producers = &mut writer.producers;
        producers.begin_verification(producer_id, producer_epoch, first_sequence, epoch_bumps)
    }

    /// As [`LogCore::append_batches`] as the leader; a transactional batch is taken only when its
    /// transaction is open here, or when `guard` is still its producer's (see
    /// [`LogCore::begin_verification`]).
    ///
    /// # Errors
    /// As [`LogCore::append_batches`]; [`crate::StorageError::InvalidTxnState`] for a batch that is part
    /// of no ongoing transaction.
    pub fn append_verified(
        &self,
        bytes: Bytes,
        mode: AppendMode,
        guard: Option<VerificationGuard>,
    ) -> Result<Appended> {
        let frames = split_batches(bytes)?;
        let headers: Vec<_> = frames.iter().filter_map(|frame| frame.header).collect();
        let appended = self.append_frames(frames, mode, |writer| {
            let mut headers = headers.iter();
            headers.try_for_each(|header| writer.producers.check_verified(header, guard))
        })?;
        self.flush_if_waited_for();
        Ok(appended)
    }

    /// Whether [`LogCore::append_verified`] would take a transactional batch of this producer now. For who
    /// keeps markers from being appended meanwhile.
    pub fn is_verified(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        guard: Option<VerificationGuard>,
    ) -> bool {
        let writer = self.writer.lock();
        let producers = &writer.producers;
        producers.is_verified(producer_id, producer_epoch, guard)
    }

    /// The open transaction of a producer.
    pub fn open_transaction(&self, producer_id: i64) -> Option<OpenTransaction> {
        self.writer.lock().producers.open_transaction(producer_id)
    }

    /// When the transaction that is open for the longest time began, Unix ms: by the clock at its first
    /// append, or by its first batch's timestamp when that was read by recovery.
    pub fn oldest_open_transaction_ms(&self) -> Option<i64> {
        self.writer.lock().producers.oldest_open_ms()
    }
}

/// What a reader of committed records gets.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Records up to the last stable offset, those of aborted transactions among them.
    pub records: LogSlice,
    /// The transactions whose records are to be left out.
    pub aborted: Vec<AbortedTransaction>,
}

/// An offset that nothing in a slice reaches; `None` when only the last stable offset bounds it. What
/// lies a little behind the slice may be below it.
fn end_of(segments: &[Arc<Segment>], slice: &LogSlice) -> Result<Option<i64>> {
    let SliceBytes::File { position, len, .. } = &slice.bytes else {
        return Ok(None);
    };
    let at = containing(segments, slice.base_offset);
    match segments[at].offset_behind(position + *len as u64)? {
        Some(offset) => Ok(Some(offset)),
        None => Ok(segments.get(at + 1).map(|next| next.base_offset())),
    }
}

fn aborted_in(segments: &[Arc<Segment>], from: i64, to: i64) -> Result<Vec<AbortedTransaction>> {
    let mut found = Vec::new();
    let at = containing(segments, from);
    for (i, segment) in segments.iter().enumerate().skip(at) {
        let before = found.len();
        let is_last = match segment.collect_aborted(from, to, &mut found) {
            Some(is_last) => is_last,
            None => {
                found.truncate(before);
                rebuild_aborted(segments, i)?;
                let again = segment.collect_aborted(from, to, &mut found);
                again.unwrap_or(false)
            }
        };
        if is_last {
            break;
        }
    }
    Ok(found)
}

/// Makes the index of aborted transactions of a sealed segment anew, and writes it. Reads the log from
/// its start: transactions may begin in earlier segments.
fn rebuild_aborted(segments: &[Arc<Segment>], at: usize) -> Result<()> {
    let segment = &segments[at];
    tracing::warn!(path = %segment.path().display(), "rebuilding the index of aborted transactions");
    let rebuilt = replay::rebuild(segments, at, segment.size())?;
    segment.offer_aborted(rebuilt.aborted_in(segment));
    // It serves from memory when it cannot be written.
    if let Err(error) = segment.store_aborted() {
        tracing::warn!(%error, "the rebuilt index stays in memory");
    }
    Ok(())
}
