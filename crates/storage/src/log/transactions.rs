//! Transactions as the log sees them: the last stable offset, end markers, what was aborted.
//!
//! Invariants: a transaction holds the last stable offset back from its first record on until its end
//! marker is acknowledged, so that no reader of committed records acts on a decision that a power loss
//! can take back. The entry of an aborted transaction is there before the last stable offset passes it.

use std::sync::Arc;

use super::append::split_batches;
use super::read::containing;
use super::{AppendMode, Appended, LogCore, Mark, Marks};
use crate::config::FlushPolicy;
use crate::error::Result;
use crate::index::AbortedTransaction;
use crate::producer_state::{Completed, EndMarker, Open, OpenTransaction};
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
        self.while_untrimmed(|segments| {
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
        })
    }

    /// Appends the end marker of a producer's transaction, as the leader, without waiting for a flush:
    /// see [`LogCore::acknowledged`]. A producer that is unknown here, or has no open transaction, gets
    /// one all the same: its epoch is fenced by it.
    ///
    /// # Errors
    /// [`crate::StorageError::ProducerFenced`] for an epoch below the producer's (or not above it, when
    /// the marker is strict), [`crate::StorageError::CoordinatorFenced`], and as
    /// [`LogCore::append_batches`].
    pub fn append_end_marker(&self, marker: EndMarker, leader_epoch: i32) -> Result<Appended> {
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
        if self.config.load().flush == FlushPolicy::Always {
            self.request_flush();
        }
        Ok(appended)
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
