//! What the frames of a log say of its producers, transactions and leader epochs, read in order.
//!
//! Recovery, truncation and the repair of an index read frames that were appended before; what an
//! append noted then is noted again here.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::error::{IoContext, Result};
use crate::index::AbortedTransaction;
use crate::leader_epoch::LeaderEpochs;
use crate::producer_state::{Completed, Place, ProducerStates};
use crate::record::Batch;
use crate::record::control::EndTxnMarker;
use crate::segment::Segment;
use crate::walk::{Frame, Step, Walker};

/// A control batch larger than this is no end marker: it is not brought into memory.
const MAX_MARKER_BYTES: u64 = 64 << 10;

/// The state that frames build up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replay {
    pub(crate) producers: ProducerStates,
    pub(crate) epochs: LeaderEpochs,
}

impl Replay {
    /// Notes the frame that `walker` found last in the segment with this base offset; gives the
    /// transaction that it aborted.
    pub(crate) fn take(
        &mut self,
        segment: i64,
        walker: &mut Walker<'_>,
        frame: &Frame,
    ) -> io::Result<Option<AbortedTransaction>> {
        if let Some(epoch) = frame.leader_epoch() {
            self.epochs.note(epoch, frame.base_offset);
        }
        take_producer(&mut self.producers, segment, walker, frame)
    }
}

fn take_producer(
    producers: &mut ProducerStates,
    segment: i64,
    walker: &mut Walker<'_>,
    frame: &Frame,
) -> io::Result<Option<AbortedTransaction>> {
    let Some(header) = frame.batch.filter(|header| header.has_producer_id()) else {
        return Ok(None);
    };
    if header.is_control() {
        let marker = marker_of(walker, frame)?;
        let completed = marker.and_then(|marker| producers.record_marker(&header, marker));
        return Ok(completed.and_then(|completed| completed.aborted()));
    }
    let place = Place {
        segment,
        position: frame.position,
    };
    producers.record(&header, place, header.max_timestamp);
    Ok(None)
}

/// The end marker in a control batch; `None` when it holds something else, or was compacted away.
fn marker_of(walker: &mut Walker<'_>, frame: &Frame) -> io::Result<Option<EndTxnMarker>> {
    if frame.len > MAX_MARKER_BYTES {
        return Ok(None);
    }
    let bytes = bytes::Bytes::copy_from_slice(walker.frame_bytes(frame)?);
    let batch = Batch::from_bytes(bytes);
    Ok(batch.ok().as_ref().and_then(end_marker))
}

/// The end marker in a batch. One that cannot be read is none: its checksum was right, so it was
/// written like that.
pub(crate) fn end_marker(batch: &Batch) -> Option<EndTxnMarker> {
    if !batch.header().is_control() || batch.bytes().len() as u64 > MAX_MARKER_BYTES {
        return None;
    }
    EndTxnMarker::from_batch(batch).unwrap_or_else(|error| {
        tracing::warn!(offset = batch.header().base_offset, %error, "a control batch that cannot be read ends no transaction");
        None
    })
}

impl Completed {
    /// The index entry of a transaction that was aborted.
    pub(crate) fn aborted(&self) -> Option<AbortedTransaction> {
        (!self.committed).then_some(AbortedTransaction {
            last_offset: self.last_offset,
            first_offset: self.open.first_offset,
            producer_id: self.producer_id,
            last_stable_offset: self.last_stable_offset,
        })
    }
}

/// What the log says of producers and of aborted transactions.
#[derive(Debug, Default)]
pub(crate) struct Rebuilt {
    pub(crate) producers: ProducerStates,
    /// By base offset of the segment with the abort marker.
    pub(crate) aborted: BTreeMap<i64, Vec<AbortedTransaction>>,
}

impl Rebuilt {
    /// Whether the log says nothing of either.
    pub(crate) fn is_empty(&self) -> bool {
        self.producers.is_empty() && self.aborted.is_empty()
    }

    /// Of one segment.
    pub(crate) fn aborted_in(&self, segment: &Segment) -> &[AbortedTransaction] {
        let found = self.aborted.get(&segment.base_offset());
        found.map_or(&[], Vec::as_slice)
    }
}

/// Reads batch headers (and end markers) from the log's start up to a position.
pub(crate) fn rebuild(
    segments: &[Arc<Segment>],
    to_segment: usize,
    to_position: u64,
) -> Result<Rebuilt> {
    let mut rebuilt = Rebuilt::default();
    for (i, segment) in segments.iter().enumerate().take(to_segment + 1) {
        let end = if i == to_segment {
            to_position
        } else {
            segment.size()
        };
        let base_offset = segment.base_offset();
        let mut walker = segment.walker(0)?;
        while walker.position() < end {
            match walker.step().context("read", segment.path())? {
                Step::Frame(frame) => {
                    let taken =
                        take_producer(&mut rebuilt.producers, base_offset, &mut walker, &frame);
                    if let Some(aborted) = taken.context("read", segment.path())? {
                        rebuilt
                            .aborted
                            .entry(base_offset)
                            .or_default()
                            .push(aborted);
                    }
                }
                Step::End => break,
                Step::Bad { reason } => return Err(segment.damaged(walker.position(), reason)),
            }
        }
    }
    Ok(rebuilt)
}
