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
use crate::index::{IndexPaths, OffsetEntry, SegmentIndex, TimeEntry};
use crate::record::{self, RecordError};
use crate::walk::{Depth, Frame, Step, Walker};

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
    /// Offsets may be missing, since the log is compacted.
    holes: AtomicBool,
    /// `None` until first used.
    index: RwLock<Option<SegmentIndex>>,
    index_interval_bytes: u32,
    /// Index entries that the files are known to have.
    stored_entries: AtomicUsize,
    /// Our clock at the first append, Unix ms; `i64::MAX` while empty.
    first_append_ms: AtomicI64,
}

/// `{base offset, 20 digits}.log`
pub(crate) fn log_file_name(base_offset: i64) -> String {
    format!("{base_offset:020}.log")
}

/// The base offset in a segment file's name (of any of its extensions).
pub(crate) fn parse_base_offset(file_name: &str) -> Option<i64> {
    let (stem, _) = file_name.split_once('.')?;
    let digits = stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit());
    if digits { stem.parse().ok() } else { None }
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
            holes: AtomicBool::new(false),
            index: RwLock::new(None),
            index_interval_bytes,
            stored_entries: AtomicUsize::new(NONE_STORED),
            first_append_ms: AtomicI64::new(i64::MAX),
        }
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

    /// Writes the index files as they are now, unless they are so already.
    pub(crate) fn store_index(&self) -> Result<()> {
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
        if self.sealed.load(Ordering::Acquire) && self.format == Format::V2 {
            *self.index.write() = None;
        }
    }

    /// Makes a segment found on disk the one that is appended to; `index` was made by recovery.
    pub(crate) fn reopen_for_append(&self, index: SegmentIndex) {
        *self.index.write() = Some(index);
        self.sealed.store(false, Ordering::Release);
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
        // The index serves from memory when it cannot be written (read-only folder, full disk).
        if let Err(error) = index.store(&*self.disk, &IndexPaths::of(&self.path)) {
            tracing::warn!(%error, "the rebuilt index stays in memory");
        }
        Ok(index)
    }

    /// The frame that holds `offset`, or the first one behind it; `None` at the end.
    pub(crate) fn find(&self, offset: i64) -> Result<Option<Frame>> {
        let entry = self.with_index(|index| index.entry_for_offset(offset))?;
        let start = self.trusted_start(entry)?;
        self.find_from(start, |frame| frame.last_offset >= offset)
    }

    /// The first frame with a record as young as `timestamp_ms`.
    pub(crate) fn find_timestamp(&self, timestamp_ms: i64) -> Result<Option<Frame>> {
        let entry = self.with_index(|index| index.entry_before_timestamp(timestamp_ms))?;
        let start = match entry {
            Some(entry) => self.trusted_time(entry)?.map_or(0, |frame| frame.position),
            None => 0,
        };
        self.find_from(start, |frame| frame.max_timestamp_ms >= timestamp_ms)
    }

    /// The position of an offset entry, once the batch there turned out to be the one it names. An
    /// entry that lies costs a rebuild, and the walk begins at the start.
    fn trusted_start(&self, entry: Option<OffsetEntry>) -> Result<u64> {
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
    fn trusted_time(&self, entry: TimeEntry) -> Result<Option<Frame>> {
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

    /// First frame from a frame boundary on for which `wanted` holds.
    fn find_from(&self, start: u64, wanted: impl Fn(&Frame) -> bool) -> Result<Option<Frame>> {
        let mut walker = self.walker(start)?;
        // Base offsets are not under the checksum, but each follows from the frame before it.
        let mut expected = (start == 0).then_some(self.base_offset);
        let holes = self.holes.load(Ordering::Relaxed);
        loop {
            match walker.step().context("read", &self.path)? {
                Step::Frame(frame)
                    if !holes && expected.is_some_and(|offset| offset != frame.base_offset) =>
                {
                    let reason = format!(
                        "base offset {} where {} was expected",
                        frame.base_offset,
                        expected.unwrap_or_default()
                    );
                    return Err(self.damaged(frame.position, reason));
                }
                Step::Frame(frame) if wanted(&frame) => return Ok(Some(frame)),
                Step::Frame(frame) => expected = Some(frame.last_offset + 1),
                Step::End => return Ok(None),
                Step::Bad { reason } => return Err(self.damaged(walker.position(), reason)),
            }
        }
    }

    /// Walks the frames from a frame boundary to the end of what is published.
    pub(crate) fn walker(&self, start: u64) -> Result<Walker<'_>> {
        let size = self.size();
        // v1 offsets are implicit: walking must begin where the offset is known.
        let next_offset = match self.format {
            Format::V2 => self.base_offset,
            Format::V1 => self.v1_offset_at(start)?,
        };
        let start = start.min(size);
        Ok(Walker::new(
            &**self.file()?,
            self.format,
            Depth::Header,
            start,
            size,
            next_offset,
        ))
    }

    /// Walks on from a frame that was found.
    pub(crate) fn walker_at(&self, frame: &Frame) -> Result<Walker<'_>> {
        let file = &**self.file()?;
        Ok(Walker::new(
            file,
            self.format,
            Depth::Header,
            frame.position,
            self.size(),
            frame.base_offset,
        ))
    }

    fn v1_offset_at(&self, position: u64) -> Result<i64> {
        if position == 0 {
            return Ok(self.base_offset);
        }
        // Callers start at positions that an index entry gave them.
        self.with_index(|index| index.offset_at(position).unwrap_or(self.base_offset))
    }

    /// Largest timestamp in the segment, [`NO_TIMESTAMP`] when empty.
    pub(crate) fn max_timestamp(&self) -> Result<TimeEntry> {
        let none = TimeEntry {
            timestamp_ms: NO_TIMESTAMP,
            offset: self.base_offset,
        };
        let Some(last) = self.with_index(SegmentIndex::last_time)? else {
            return self.scan_max_timestamp(0, none);
        };
        let Some(frame) = self.trusted_time(last)? else {
            return self.scan_max_timestamp(0, none);
        };
        if self.sealed.load(Ordering::Acquire) {
            return Ok(last);
        }
        // The active segment's youngest records may not be indexed yet.
        self.scan_max_timestamp(frame.position, last)
    }

    /// Largest timestamp of the frames that begin at `start` or behind it and before `end`.
    pub(crate) fn youngest_within(&self, start: i64, end: i64) -> Result<i64> {
        let known = self.with_index(|index| index.time_within(start, end))?;
        let known = match known {
            Some(entry) => self.trusted_time(entry)?,
            None => None,
        };
        let Some(first) = known.map_or_else(|| self.find(start), |frame| Ok(Some(frame)))? else {
            return Ok(NO_TIMESTAMP);
        };
        let mut youngest = NO_TIMESTAMP;
        let mut walker = self.walker_at(&first)?;
        while let Step::Frame(frame) = walker.step().context("read", &self.path)? {
            if frame.base_offset >= end {
                break;
            }
            if frame.base_offset >= start {
                youngest = youngest.max(frame.max_timestamp_ms);
            }
        }
        Ok(youngest)
    }

    fn scan_max_timestamp(&self, from: u64, mut best: TimeEntry) -> Result<TimeEntry> {
        let mut walker = self.walker(from)?;
        while let Step::Frame(frame) = walker.step().context("read", &self.path)? {
            if frame.max_timestamp_ms > best.timestamp_ms {
                best = TimeEntry {
                    timestamp_ms: frame.max_timestamp_ms,
                    offset: frame.last_offset,
                };
            }
        }
        Ok(best)
    }

    /// Timestamp of the first frame, for the age of a segment found at start.
    pub(crate) fn first_timestamp(&self) -> Result<Option<i64>> {
        Ok(match self.walker(0)?.step().context("read", &self.path)? {
            Step::Frame(frame) => Some(frame.max_timestamp_ms),
            _ => None,
        })
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

/// Removes a log file and what belongs to it; what is already gone is fine.
pub(crate) fn remove_segment_files(disk: &dyn Disk, log: &Path) -> Result<()> {
    remove_if_there(disk, log)?;
    remove_index_files(disk, log)
}

/// Removes the index files of a segment.
pub(crate) fn remove_index_files(disk: &dyn Disk, log: &Path) -> Result<()> {
    let index = IndexPaths::of(log);
    remove_if_there(disk, &index.offsets)?;
    remove_if_there(disk, &index.times)
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.context("remove", path),
    }
}

/// The format of a segment file, told by its first bytes; `default` for one that is empty or whose
/// first frame is torn.
pub(crate) fn detect_segment_format(
    file: &dyn DiskFile,
    base_offset: i64,
    default: Format,
) -> std::io::Result<Format> {
    let mut head = vec![0; 64];
    loop {
        let read = file.read_at(&mut head, 0)?;
        let detected = record::detect_segment_format(&head[..read], base_offset);
        match detected {
            Ok(format) => return Ok(format),
            // Only a checksum decides: it needs the whole first frame.
            Err(RecordError::AmbiguousFormat) if read == head.len() && read < MAX_FIRST_FRAME => {
                head.resize(head.len() * 8, 0);
            }
            Err(_) => return Ok(default),
        }
    }
}

/// Frames that need their checksum to tell the format are batches of 16 to 32 MiB or shorter messages.
const MAX_FIRST_FRAME: usize = 1 << 26;

/// Decides which frames get an index entry: one per interval of bytes, in appending order.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    index: SegmentIndex,
    pace: IndexPace,
}

/// The bytes since the last entry, and the youngest timestamp so far.
#[derive(Clone, Debug)]
pub(crate) struct IndexPace {
    interval_bytes: u64,
    since_entry: u64,
    /// Offset entries since the last time entry.
    since_time: u32,
    youngest: Option<TimeEntry>,
}

/// A time entry is due with every so many offset entries: searches by time are rare and may walk a
/// little further, so that both indexes together stay below a quarter of a percent of the log.
pub(crate) const OFFSETS_PER_TIME: u32 = 8;

impl IndexPace {
    pub(crate) fn new(interval_bytes: u32) -> Self {
        Self {
            interval_bytes: u64::from(interval_bytes),
            since_entry: 0,
            since_time: 0,
            youngest: None,
        }
    }

    /// Goes on where an index ended: `tail_bytes` behind its last entry.
    pub(crate) fn resume(
        interval_bytes: u32,
        tail_bytes: u64,
        youngest: Option<TimeEntry>,
    ) -> Self {
        Self {
            interval_bytes: u64::from(interval_bytes),
            since_entry: tail_bytes,
            // The next offset entry brings a time entry, or a log that is reopened often would
            // never get one.
            since_time: OFFSETS_PER_TIME,
            youngest,
        }
    }

    /// Takes a frame into account that needs no entry.
    fn pass(&mut self, frame: &Frame) {
        let youngest = TimeEntry {
            timestamp_ms: frame.max_timestamp_ms,
            offset: frame.last_offset,
        };
        if self
            .youngest
            .is_none_or(|known| youngest.timestamp_ms > known.timestamp_ms)
        {
            self.youngest = Some(youngest);
        }
        self.since_entry = frame.len;
    }

    pub(crate) fn youngest(&self) -> Option<TimeEntry> {
        self.youngest
    }

    /// Index entries that are due before a frame is appended.
    pub(crate) fn note(
        &mut self,
        position: u64,
        len: u64,
        last_offset: i64,
        max_timestamp_ms: i64,
    ) -> (Option<OffsetEntry>, Option<TimeEntry>) {
        if self
            .youngest
            .is_none_or(|youngest| max_timestamp_ms > youngest.timestamp_ms)
        {
            self.youngest = Some(TimeEntry {
                timestamp_ms: max_timestamp_ms,
                offset: last_offset,
            });
        }
        if self.since_entry <= self.interval_bytes {
            self.since_entry += len;
            return (None, None);
        }
        self.since_entry = len;
        self.since_time += 1;
        let time = self
            .youngest
            .filter(|_| self.since_time >= OFFSETS_PER_TIME);
        if time.is_some() {
            self.since_time = 0;
        }
        (
            Some(OffsetEntry {
                offset: last_offset,
                position,
            }),
            time,
        )
    }
}

impl IndexBuilder {
    pub(crate) fn new(base_offset: i64, interval_bytes: u32) -> Self {
        Self {
            index: SegmentIndex::empty(base_offset),
            pace: IndexPace::new(interval_bytes),
        }
    }

    /// Continues an index that was loaded. The frames from [`SegmentIndex::uncovered_from`] on are to
    /// be added again: the youngest timestamp among the last of them is in no time entry yet.
    pub(crate) fn resume(index: SegmentIndex, interval_bytes: u32) -> Self {
        let pace = IndexPace::resume(interval_bytes, 0, index.last_time());
        Self { index, pace }
    }

    /// Number of entries so far.
    pub(crate) fn entries(&self) -> usize {
        self.index.entries()
    }

    /// Adds a frame, which may be indexed already.
    pub(crate) fn add_again(&mut self, frame: &Frame) {
        match self.index.last_offset() {
            Some(last) if frame.position <= last.position => self.pace.pass(frame),
            _ => self.add(frame),
        }
    }

    pub(crate) fn add(&mut self, frame: &Frame) {
        let (offset, time) = self.pace.note(
            frame.position,
            frame.len,
            frame.last_offset,
            frame.max_timestamp_ms,
        );
        if let Some(entry) = offset {
            self.index.push_offset(entry);
        }
        if let Some(entry) = time {
            self.index.push_time(entry);
        }
    }

    /// The index of a segment that is complete: its youngest timestamp becomes the last entry.
    pub(crate) fn finish(mut self) -> SegmentIndex {
        if let Some(entry) = self.pace.youngest() {
            self.index.push_time(entry);
        }
        self.index
    }

    pub(crate) fn into_parts(self) -> (SegmentIndex, IndexPace) {
        (self.index, self.pace)
    }
}
