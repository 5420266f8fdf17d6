//! What was written down of a log up to the point where recovery begins to read: producers, their
//! transactions, the index of the segment that is read first.
//!
//! Invariant: what a file says is used only where its checksum, or the log itself, vouches for it; all of
//! it can be made anew from the segments.

use std::sync::Arc;

use super::open::Recovery;
use super::read::containing;
use crate::checkpoint::Checkpoint;
use crate::config::Format;
use crate::disk::read_file;
use crate::error::{IoContext, Result};
use crate::index::{IndexPaths, SegmentIndex};
use crate::producer_state::{self, Place, ProducerStates, Snapshot};
use crate::replay;
use crate::segment::{IndexBuilder, Segment};
use crate::walk::Step;

impl Recovery<'_> {
    /// The producers' state at the point where scanning begins, and what the segments up to there are
    /// to know of aborted transactions.
    pub(super) fn producers_at(
        &self,
        segments: &[Arc<Segment>],
        scan_from: usize,
        scan_position: u64,
        stored: Option<Checkpoint>,
    ) -> Result<ProducerStates> {
        match stored.map(|checkpoint| checkpoint.snapshot) {
            Some(None) => return Ok(ProducerStates::default()),
            Some(Some(offset)) => {
                if let Some(states) = self.snapshot_at(&segments[..=scan_from], offset) {
                    return Ok(states);
                }
            }
            None => {}
        }
        let rebuilt = replay::rebuild(segments, scan_from, scan_position)?;
        for segment in &segments[..=scan_from] {
            segment.set_aborted(rebuilt.aborted_in(segment));
        }
        Ok(rebuilt.producers)
    }

    /// What the snapshot says; `None` when it cannot be used. The index of the last of these segments,
    /// which will be added to, is read at once; the others when they are needed.
    fn snapshot_at(&self, segments: &[Arc<Segment>], offset: i64) -> Option<ProducerStates> {
        let path = self.dir.join(format!("{offset:020}.snapshot"));
        let bytes = read_file(&**self.disk, &path, 1 << 30).ok();
        let Some(Snapshot { states, aborted }) = bytes.and_then(|b| producer_state::decode(&b))
        else {
            tracing::warn!(path = %path.display(), "rebuilding producer state from the log");
            return None;
        };
        for segment in segments {
            if let Some(facts) = aborted.get(&segment.base_offset()) {
                segment.expect_aborted(*facts);
            }
        }
        let last = segments.last()?;
        if !last.load_aborted(true) {
            tracing::warn!(path = %last.path().display(), "rebuilding the index of aborted transactions");
            return None;
        }
        Some(states)
    }

    /// The index of the segment that is read first, up to where reading begins.
    pub(super) fn index_up_to(
        &self,
        segment: &Segment,
        position: u64,
        offset: i64,
    ) -> Result<IndexBuilder> {
        let interval = self.config.index_interval_bytes;
        if position == 0 {
            return Ok(IndexBuilder::new(segment.base_offset(), interval));
        }
        if let Some(builder) = self.loaded_index(segment, position, offset) {
            return Ok(builder);
        }
        let mut builder = IndexBuilder::new(segment.base_offset(), interval);
        let mut walker = segment.walker(0)?;
        while walker.position() < position {
            match walker.step().context("read", segment.path())? {
                Step::Frame(frame) => builder.add(&frame),
                Step::End => break,
                Step::Bad { reason } => return Err(segment.damaged(walker.position(), reason)),
            }
        }
        Ok(builder)
    }

    /// The stored index, completed up to where reading begins; `None` when it is not to be trusted.
    fn loaded_index(&self, segment: &Segment, position: u64, offset: i64) -> Option<IndexBuilder> {
        // A v1 frame does not say its offset: an entry that lies could not be noticed.
        if segment.format() == Format::V1 {
            return None;
        }
        let paths = IndexPaths::of(segment.path());
        let mut index =
            SegmentIndex::load(&**self.disk, &paths, segment.base_offset(), true).ok()?;
        let stored = index.entries();
        index.truncate(offset, position);
        if !index.is_sane(position) || !segment_vouches(segment, &index) {
            return None;
        }
        let from = index.uncovered_from();
        let mut builder = IndexBuilder::resume(index, self.config.index_interval_bytes);
        let mut walker = segment.walker(from).ok()?;
        while walker.position() < position {
            match walker.step().ok()? {
                Step::Frame(frame) => builder.add_again(&frame),
                Step::End | Step::Bad { .. } => return None,
            }
        }
        if builder.entries() == stored {
            segment.note_stored(stored);
        }
        Some(builder)
    }
}

/// Whether the last entry of a loaded index points at the batch it names.
fn segment_vouches(segment: &Segment, index: &SegmentIndex) -> bool {
    let Some(entry) = index.last_offset() else {
        return true;
    };
    let Ok(mut walker) = segment.walker(entry.position) else {
        return false;
    };
    matches!(walker.step(), Ok(Step::Frame(frame)) if frame.last_offset == entry.offset)
}

/// Finds where the open transactions begin of which only a snapshot told. Where the log cannot be read
/// that stays unknown: then nothing is shown to readers of committed records.
pub(super) fn place(segments: &[Arc<Segment>], producers: &mut ProducerStates) {
    for open in producers.unplaced() {
        let segment = &segments[containing(segments, open.first_offset)];
        if let Ok(Some(frame)) = segment.find(open.first_offset) {
            open.place = Some(Place {
                segment: segment.base_offset(),
                position: frame.position,
            });
        }
    }
}
