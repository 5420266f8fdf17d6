//! The indexes of a segment: loaded, checked and made anew, and written.
//!
//! Invariants: an index is a hint. What it says is compared with the frames before it is used, and an
//! index that lies is made anew from them.

use std::sync::atomic::Ordering;

use super::pace::IndexBuilder;
use super::{NONE_STORED, Segment, remove_index_files};
use crate::config::Format;
use crate::error::{IoContext, Result};
use crate::index::{IndexPaths, OffsetEntry, SegmentIndex, TimeEntry};
use crate::walk::{Depth, Frame, Step, Walker};

impl Segment {
    /// Adds index entries for a frame.
    pub(crate) fn index_frame(&self, offset: Option<OffsetEntry>, time: Option<TimeEntry>) {
        let mut index = self.index.write();
        let index = index.get_or_insert_with(|| SegmentIndex::empty(self.base_offset));
        if let Some(entry) = offset {
            index.push_offset(entry);
        }
        if let Some(entry) = time {
            index.push_time(entry);
        }
    }

    /// Writes the index files as they are now, unless they are so already.
    pub(crate) fn store_index(&self) -> Result<()> {
        if self.replaced.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(index) = self.index.read().as_ref() {
            let entries = index.entries();
            if self.stored_entries.load(Ordering::Acquire) == entries {
                return Ok(());
            }
            index.store(&*self.disk, &IndexPaths::of(&self.path))?;
            self.note_stored(entries);
        }
        Ok(())
    }

    /// Notes that the index files have so many entries.
    pub(crate) fn note_stored(&self, entries: usize) {
        self.stored_entries.store(entries, Ordering::Release);
    }

    /// Removes index files that tell of frames which are, or may be, no longer there: behind the end
    /// other frames will follow, of which such a file would be a plausible lie.
    pub(crate) fn remove_stale_index(&self) -> Result<()> {
        if self.stored_entries.load(Ordering::Acquire) == NONE_STORED {
            remove_index_files(&*self.disk, &self.path)?;
        }
        Ok(())
    }

    /// Gives the heap back that a sealed segment's stored index takes: it is mapped when needed.
    pub(crate) fn release_index(&self) {
        if self.replaced.load(Ordering::Acquire) {
            return;
        }
        if self.sealed.load(Ordering::Acquire) && self.format == Format::V2 {
            *self.index.write() = None;
            self.release_aborted();
        }
    }

    /// Number of offset-index entries.
    pub(crate) fn index_len(&self) -> usize {
        self.index.read().as_ref().map_or(0, SegmentIndex::len)
    }

    /// Bytes of the index entries, when loaded.
    pub(crate) fn index_bytes(&self) -> Result<u64> {
        self.with_index(SegmentIndex::size_bytes)
    }

    /// Runs `f` on the index, which is loaded, checked, or rebuilt from the log when needed.
    pub(crate) fn with_index<T>(&self, f: impl FnOnce(&SegmentIndex) -> T) -> Result<T> {
        if let Some(index) = self.index.read().as_ref() {
            return Ok(f(index));
        }
        let loaded = match self.load_index() {
            Some(index) => index,
            None => self.rebuild_index()?,
        };
        let mut slot = self.index.write();
        Ok(f(slot.get_or_insert(loaded)))
    }

    fn load_index(&self) -> Option<SegmentIndex> {
        // A v1 frame does not say its offset: an entry that lies could not be noticed.
        if self.format == Format::V1 {
            return None;
        }
        let paths = IndexPaths::of(&self.path);
        let index = SegmentIndex::load(&*self.disk, &paths, self.base_offset, false).ok()?;
        let plausible = index.is_sane(self.size()) && self.index_samples_hold(&index);
        // A segment with more than one interval of bytes has entries unless its index was lost.
        let complete = index.last_time().is_some() || self.size() == 0;
        (plausible && complete).then_some(index)
    }

    /// Reads the batches that a few entries point at.
    fn index_samples_hold(&self, index: &SegmentIndex) -> bool {
        let len = index.len();
        [0, len / 2, len.saturating_sub(1)]
            .into_iter()
            .take(len)
            .all(|i| {
                let Some(entry) = index.offset_entry(i) else {
                    return false;
                };
                let Ok(file) = self.file() else { return false };
                let mut walker = Walker::new(
                    &**file,
                    self.format,
                    Depth::Header,
                    entry.position,
                    self.size(),
                    self.base_offset,
                );
                matches!(walker.step(), Ok(Step::Frame(frame)) if frame.last_offset == entry.offset)
            })
    }

    /// Makes the index anew from the frames, and writes it.
    fn rebuild_index(&self) -> Result<SegmentIndex> {
        tracing::warn!(path = %self.path.display(), "rebuilding the indexes of a segment");
        let file = self.file()?;
        let mut walker = Walker::new(
            &**file,
            self.format,
            Depth::Header,
            0,
            self.size(),
            self.base_offset,
        );
        let mut builder = IndexBuilder::new(self.base_offset, self.index_interval_bytes);
        while let Step::Frame(frame) = walker.step().context("read", &self.path)? {
            builder.add(&frame);
        }
        let index = builder.finish();
        if self.replaced.load(Ordering::Acquire) {
            return Ok(index);
        }
        // The index serves from memory when it cannot be written (read-only folder, full disk).
        if let Err(error) = index.store(&*self.disk, &IndexPaths::of(&self.path)) {
            tracing::warn!(%error, "the rebuilt index stays in memory");
        }
        Ok(index)
    }

    /// The position of an offset entry, once the batch there turned out to be the one it names. An
    /// entry that lies costs a rebuild, and the walk begins at the start.
    pub(super) fn trusted_start(&self, entry: Option<OffsetEntry>) -> Result<u64> {
        let Some(entry) = entry else { return Ok(0) };
        if self.format == Format::V1 {
            return Ok(entry.position);
        }
        match self
            .walker(entry.position)?
            .step()
            .context("read", &self.path)?
        {
            Step::Frame(frame) if frame.last_offset == entry.offset => Ok(entry.position),
            _ => {
                self.distrust_index()?;
                Ok(0)
            }
        }
    }

    /// The frame that a time entry names, once its timestamp turned out to be the entry's.
    pub(super) fn trusted_time(&self, entry: TimeEntry) -> Result<Option<Frame>> {
        match self.find(entry.offset)? {
            Some(frame)
                if frame.last_offset == entry.offset
                    && frame.max_timestamp_ms == entry.timestamp_ms =>
            {
                Ok(Some(frame))
            }
            _ => {
                self.distrust_index()?;
                Ok(None)
            }
        }
    }

    fn distrust_index(&self) -> Result<()> {
        let rebuilt = self.rebuild_index()?;
        *self.index.write() = Some(rebuilt);
        Ok(())
    }

    /// The index of the frames before `position`, made anew, to go on from.
    pub(crate) fn growing_index_up_to(&self, position: u64) -> Result<IndexBuilder> {
        let mut builder = IndexBuilder::new(self.base_offset, self.index_interval_bytes);
        let mut walker = self.walker(0)?;
        while walker.position() < position
            && let Step::Frame(frame) = walker.step().context("read", &self.path)?
        {
            builder.add(&frame);
        }
        Ok(builder)
    }
}
