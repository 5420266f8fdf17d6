//! One append-only file of a log with its indexes.
//!
//! Invariants: only the last segment of a log is written to; a sealed segment's bytes never change;
//! readers may hold a segment after it left the log (its open file keeps the bytes).

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use crate::config::Format;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{IoContext, Result};
use crate::index::SegmentIndex;

mod aborted;
mod files;
mod indexes;
mod lookup;
mod pace;

pub(crate) use files::{
    aborted_file_name, detect_segment_format, log_file_name, parse_base_offset, remove_all_indexes,
    remove_index_files, remove_segment_files,
};
pub(crate) use pace::{IndexBuilder, IndexPace, OFFSETS_PER_TIME};

/// Timestamp of a segment without records.
pub(crate) const NO_TIMESTAMP: i64 = -1;

/// The index files are unknown or do not fit.
const NONE_STORED: usize = usize::MAX;

/// A segment of a log.
#[derive(Debug)]
pub(crate) struct Segment {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    base_offset: i64,
    format: Format,
    /// Opened when first used: a log may have thousands of sealed segments.
    file: OnceLock<Arc<dyn DiskFile>>,
    /// Bytes of whole frames; the file may be longer (zeros written ahead).
    size: AtomicU64,
    sealed: AtomicBool,
    /// Another segment has its place and its file names; readers may still hold it.
    replaced: AtomicBool,
    /// Offsets may be missing, since the log is compacted.
    holes: AtomicBool,
    /// `None` until first used.
    index: RwLock<Option<SegmentIndex>>,
    index_interval_bytes: u32,
    /// The transactions that were aborted by markers in this segment.
    aborted: RwLock<aborted::Aborted>,
    /// Index entries that the files are known to have.
    stored_entries: AtomicUsize,
    /// Our clock at the first append, Unix ms; `i64::MAX` while empty.
    first_append_ms: AtomicI64,
}

impl Segment {
    /// Creates an empty segment file. Its name is durable after the folder's next sync.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        base_offset: i64,
        format: Format,
        index_interval_bytes: u32,
    ) -> Result<Self> {
        let path = dir.join(log_file_name(base_offset));
        let file = disk
            .open(&path, OpenMode::Create)
            .context("create", &path)?;
        let segment = Self::existing(disk, path, base_offset, format, 0, index_interval_bytes);
        let _ = segment.file.set(file);
        *segment.index.write() = Some(SegmentIndex::empty(base_offset));
        segment.sealed.store(false, Ordering::Release);
        segment.suspect_aborted_file();
        Ok(segment)
    }

    /// A segment that is on disk; sealed until [`Self::reopen_for_append`].
    pub(crate) fn existing(
        disk: &Arc<dyn Disk>,
        path: PathBuf,
        base_offset: i64,
        format: Format,
        size: u64,
        index_interval_bytes: u32,
    ) -> Self {
        Self {
            disk: disk.clone(),
            path,
            base_offset,
            format,
            file: OnceLock::new(),
            size: AtomicU64::new(size),
            sealed: AtomicBool::new(true),
            replaced: AtomicBool::new(false),
            holes: AtomicBool::new(false),
            index: RwLock::new(None),
            index_interval_bytes,
            aborted: RwLock::default(),
            stored_entries: AtomicUsize::new(NONE_STORED),
            first_append_ms: AtomicI64::new(i64::MAX),
        }
    }

    /// A sealed segment that takes the place of others: its file is open already, under a name that it
    /// does not keep, and its index is known.
    pub(crate) fn replacing(
        disk: &Arc<dyn Disk>,
        path: PathBuf,
        index: SegmentIndex,
        file: Arc<dyn DiskFile>,
        size: u64,
        index_interval_bytes: u32,
    ) -> Self {
        let base_offset = index.base_offset();
        let format = Format::V2;
        let segment = Self::existing(disk, path, base_offset, format, size, index_interval_bytes);
        let _ = segment.file.set(file);
        *segment.index.write() = Some(index);
        segment.allow_holes(true);
        segment
    }

    /// Prepares for the loss of the files' names: what readers may still need is opened and loaded.
    pub(crate) fn hold(&self) -> Result<()> {
        self.file()?;
        // Aborted transactions whose file is not sound are found again in the log.
        self.load_aborted(false);
        self.with_index(|_| ())
    }

    /// Says that the files' names belong to another segment now.
    pub(crate) fn give_up_names(&self) {
        self.replaced.store(true, Ordering::Release);
    }

    /// The file of a segment that lost its names, if nobody else has it.
    pub(crate) fn replaced_file(&mut self) -> Option<&mut (dyn DiskFile + 'static)> {
        if !*self.replaced.get_mut() {
            return None;
        }
        self.file.get_mut().and_then(Arc::get_mut)
    }

    /// Says whether missing offsets are compaction's work, or damage (the default).
    pub(crate) fn allow_holes(&self, allowed: bool) {
        self.holes.store(allowed, Ordering::Relaxed);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Bytes of whole frames.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn first_append_ms(&self) -> i64 {
        self.first_append_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn note_first_append(&self, now_ms: i64) {
        let _ = self.first_append_ms.compare_exchange(
            i64::MAX,
            now_ms,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// The open file.
    pub(crate) fn file(&self) -> Result<&Arc<dyn DiskFile>> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = self
            .disk
            .open(&self.path, OpenMode::ReadWrite)
            .or_else(|error| {
                // A read-only folder can still be read.
                self.disk
                    .open(&self.path, OpenMode::Read)
                    .map_err(|_| error)
            });
        let file = file.context("open", &self.path)?;
        Ok(self.file.get_or_init(|| file))
    }

    /// Writes bytes at the end without publishing them; see [`Self::publish`].
    pub(crate) fn write_at_end(&self, parts: &mut [IoSlice<'_>]) -> Result<()> {
        self.file()?
            .write_all_at(parts, self.size())
            .context("append to", &self.path)
    }

    /// Makes written frames visible to readers.
    pub(crate) fn publish(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// Ends appends: cuts zeros written ahead. The indexes are written by [`Self::store_index`], which
    /// waits for the disk, so not under the writer's lock.
    pub(crate) fn seal(&self) -> Result<()> {
        if self.sealed.load(Ordering::Acquire) {
            return Ok(());
        }
        let file = self.file()?;
        let size = self.size();
        if file.len().context("measure", &self.path)? > size {
            file.set_len(size).context("trim", &self.path)?;
        }
        self.sealed.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes a segment found on disk the one that is appended to; `index` was made by recovery.
    pub(crate) fn reopen_for_append(&self, index: SegmentIndex) {
        *self.index.write() = Some(index);
        self.sealed.store(false, Ordering::Release);
    }

    /// Cuts the segment so that `position` is its end and `offset` its next offset.
    pub(crate) fn truncate(&self, offset: i64, position: u64) -> Result<()> {
        let mut slot = self.index.write();
        if let Some(index) = slot.as_mut() {
            index.truncate(offset, position);
        }
        let file = self.file()?;
        self.size.store(position, Ordering::Release);
        self.sealed.store(false, Ordering::Release);
        self.note_stored(NONE_STORED);
        file.set_len(position).context("truncate", &self.path)?;
        file.sync_data().context("sync", &self.path)
    }

    /// Removes the files, the log first: an index without its log is cleaned up at the next open.
    pub(crate) fn remove(&self) -> Result<()> {
        remove_segment_files(&*self.disk, &self.path)
    }

    pub(crate) fn damaged(&self, position: u64, reason: String) -> crate::StorageError {
        crate::StorageError::Damaged {
            path: self.path.clone(),
            position,
            reason,
        }
    }
}
