//! Writes the segment that a group of segments becomes.
//!
//! Writing begins only when something differs from the group's single source: of a segment that loses
//! nothing, nothing is written. Bytes go to the disk as they come, a little at a time, so that no flush of
//! another log has to wait for all of them, and leave the page cache to those who need it.
//!
//! Invariant: the file is what [`Output::finish`] returned only if it returned; everything before is a
//! leftover that the next open removes.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use super::pass::GoOn;
use crate::disk::{Disk, DiskFile, ExpectedUse, OpenMode};
use crate::error::{IoContext, Result, StorageError};
use crate::index::{OFFSET_ENTRY_BYTES, SegmentIndex};
use crate::record::BatchHeader;
use crate::segment::IndexBuilder;
use crate::walk::Frame;

/// Bytes gathered before they are written. More is no faster, and a thread that is woken on the same
/// processor may have to wait for the whole call.
const WRITE_BYTES: usize = 256 << 10;
/// Bytes written before they are synced: what may wait for a slow disk.
const SYNC_BYTES: u64 = 32 << 20;

/// See the module's documentation.
pub(super) struct Output<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    /// The source that all bytes so far are the front of.
    same_as: Option<Arc<dyn DiskFile>>,
    buffer: Vec<u8>,
    /// Bytes of whole frames, the buffer included.
    size: u64,
    synced: u64,
    index: IndexBuilder,
    /// Hears of what is written, and of what is read again.
    go_on: GoOn<'a>,
}

/// A finished segment.
pub(crate) struct Written {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) size: u64,
    pub(crate) index: SegmentIndex,
}

impl<'a> Output<'a> {
    /// An output that begins as a copy of `same_as`, if the group has a single source in format v2.
    pub(super) fn new(
        disk: &'a dyn Disk,
        path: PathBuf,
        base_offset: i64,
        index_interval_bytes: u32,
        same_as: Option<Arc<dyn DiskFile>>,
        go_on: GoOn<'a>,
    ) -> Self {
        Self {
            disk,
            path,
            file: None,
            same_as,
            buffer: Vec::new(),
            size: 0,
            synced: 0,
            index: IndexBuilder::new(base_offset, index_interval_bytes),
            go_on,
        }
    }

    /// Whether all bytes so far are those of the single source.
    pub(super) fn is_same(&self) -> bool {
        self.same_as.is_some()
    }

    /// Bytes of whole frames so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the offset index so far.
    pub(super) fn index_bytes(&self) -> u64 {
        (self.index.entries() * OFFSET_ENTRY_BYTES) as u64
    }

    /// Adds a whole batch as it is in the source; returns the bytes written.
    pub(super) fn copy(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<u64> {
        self.note(header, bytes.len() as u64)?;
        if self.is_same() {
            return Ok(0);
        }
        self.buffer.extend_from_slice(bytes);
        self.drain(WRITE_BYTES)
    }

    /// Adds the batches that `make` appends; or, without any, notes that something went. Returns the bytes
    /// written.
    pub(super) fn put(&mut self, make: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<u64> {
        let mut written = self.differ()?;
        let mut at = self.buffer.len();
        make(&mut self.buffer)?;
        while at < self.buffer.len() {
            let rest = &self.buffer[at..];
            let header = BatchHeader::parse(rest)?;
            let len = header.total_bytes().min(rest.len());
            self.note(&header, len as u64)?;
            at += len;
        }
        written += self.drain(WRITE_BYTES)?;
        Ok(written)
    }

    /// Notes that something went; returns the bytes written.
    pub(super) fn skip(&mut self) -> Result<u64> {
        self.put(|_| Ok(()))
    }

    fn note(&mut self, header: &BatchHeader, len: u64) -> Result<()> {
        let frame = Frame {
            position: self.size,
            len,
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            max_timestamp_ms: header.max_timestamp,
            batch: Some(*header),
        };
        if frame.end() > u64::from(u32::MAX) {
            return Err(StorageError::TooLarge {
                bytes: frame.end(),
                limit: u64::from(u32::MAX),
            });
        }
        self.index.add(&frame);
        self.size += len;
        Ok(())
    }

    /// From here on the output is another than the source: what they have in common is copied.
    fn differ(&mut self) -> Result<u64> {
        let Some(source) = self.same_as.take() else {
            return Ok(0);
        };
        let (mut position, mut written) = (0, 0);
        while position < self.size {
            let want = (WRITE_BYTES as u64).min(self.size - position) as usize;
            self.buffer.resize(want, 0);
            crate::disk::read_exact_at(&*source, &mut self.buffer, position)
                .context("read again for", &self.path)?;
            (self.go_on)(want as u64)?;
            written += self.write_buffer(position)?;
            position += want as u64;
        }
        Ok(written)
    }

    fn drain(&mut self, at_least: usize) -> Result<u64> {
        if self.buffer.len() < at_least || self.buffer.is_empty() {
            return Ok(0);
        }
        self.write_buffer(self.size - self.buffer.len() as u64)
    }

    fn write_buffer(&mut self, position: u64) -> Result<u64> {
        let file = self.open()?;
        file.write_all_at(&mut [IoSlice::new(&self.buffer)], position)
            .context("write", &self.path)?;
        let written = self.buffer.len() as u64;
        self.buffer.clear();
        let end = position + written;
        // The kernel begins to write what it shall forget; what it wrote by the second time, it forgets.
        let before = position.saturating_sub(WRITE_BYTES as u64);
        file.advise(ExpectedUse::NotSoon, before, end - before);
        if end - self.synced >= SYNC_BYTES {
            self.sync(&*file, end)?;
        }
        (self.go_on)(written)?;
        Ok(written)
    }

    fn open(&mut self) -> Result<Arc<dyn DiskFile>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = self
            .disk
            .open(&self.path, OpenMode::Create)
            .context("create", &self.path)?;
        self.file = Some(file.clone());
        Ok(file)
    }

    fn sync(&mut self, file: &dyn DiskFile, end: u64) -> Result<()> {
        file.sync_data().context("sync", &self.path)?;
        file.advise(ExpectedUse::NotSoon, self.synced, end - self.synced);
        self.synced = end;
        Ok(())
    }

    /// Ends the segment: all of it is on the disk, under its temporary name, when this returns. `None`
    /// when it is the same as its source, and nothing was written.
    pub(super) fn finish(mut self) -> Result<Option<Written>> {
        if self.is_same() {
            return Ok(None);
        }
        self.drain(1)?;
        let file = self.open()?;
        self.sync(&*file, self.size)?;
        Ok(Some(Written {
            file,
            size: self.size,
            index: self.index.finish(),
        }))
    }
}
