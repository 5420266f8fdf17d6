//! Reading: raw ranges for the wire, records for programs, offsets by time.
//!
//! Readers take a snapshot of the segment list and of the end they may read to; they never wait
//! for the writer.

use std::sync::Arc;

use bytes::Bytes;

use super::{LogCore, Mark};
use crate::config::Format;
use crate::disk::{DiskFile, read_exact_at};
use crate::error::{IoContext, Result, StorageError};
use crate::record::{Batch, BatchBuilder, Record, v1};
use crate::segment::{NO_TIMESTAMP, Segment};
use crate::walk::{Frame, Step};

/// How far a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadLimit {
    /// Up to the last stable offset: what consumers of committed records see (KIP-98).
    Stable,
    /// Up to the acknowledged end: what other consumers see.
    Acknowledged,
    /// Up to the log end: what replication sees.
    End,
}

/// Bytes of consecutive batches.
#[derive(Clone, Debug)]
pub enum SliceBytes {
    /// Nothing to read (yet).
    Empty,
    /// A range of a segment file, for `sendfile`.
    File {
        /// The open file; it keeps the bytes even when the segment is deleted.
        file: Arc<dyn DiskFile>,
        /// First byte.
        position: u64,
        /// Number of bytes.
        len: usize,
    },
    /// Bytes in memory (v1 messages, converted to batches).
    Memory(Bytes),
}

/// A raw read: whole v2 batches, the last of which may be cut short.
#[derive(Clone, Debug)]
pub struct LogSlice {
    /// Where the bytes are.
    pub bytes: SliceBytes,
    /// Base offset of the first batch: at most the offset asked for.
    pub base_offset: i64,
    /// Size of the first batch, which is whole even when larger than what was asked for (KIP-74).
    pub first_batch_bytes: usize,
}

impl LogSlice {
    fn empty(offset: i64) -> Self {
        Self {
            bytes: SliceBytes::Empty,
            base_offset: offset,
            first_batch_bytes: 0,
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        match &self.bytes {
            SliceBytes::Empty => 0,
            SliceBytes::File { len, .. } => *len,
            SliceBytes::Memory(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shortens the slice to at most `len` bytes.
    pub fn truncate(&mut self, max_len: usize) {
        match &mut self.bytes {
            SliceBytes::Empty => {}
            SliceBytes::File { len, .. } => *len = (*len).min(max_len),
            SliceBytes::Memory(bytes) => bytes.truncate(max_len),
        }
    }

    /// Reads the bytes into memory.
    ///
    /// # Errors
    /// The operating system's error, or `UnexpectedEof` when the file was cut meanwhile.
    pub fn to_bytes(&self) -> std::io::Result<Bytes> {
        match &self.bytes {
            SliceBytes::Empty => Ok(Bytes::new()),
            SliceBytes::Memory(bytes) => Ok(bytes.clone()),
            SliceBytes::File {
                file,
                position,
                len,
            } => {
                let mut buffer = vec![0; *len];
                read_exact_at(&**file, &mut buffer, *position)?;
                Ok(buffer.into())
            }
        }
    }
}

/// A record found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Its timestamp, Unix ms.
    pub timestamp_ms: i64,
    /// Its offset.
    pub offset: i64,
    /// Leader epoch of its batch, -1 when unknown.
    pub leader_epoch: i32,
}

impl LogCore {
    /// Raw batches from the one that holds `from`, at most `max_bytes` unless the first batch alone
    /// is larger.
    ///
    /// # Errors
    /// [`StorageError::OffsetOutOfRange`] before the log start or behind the log end, an I/O error,
    /// or [`StorageError::Damaged`].
    pub fn read_range(&self, from: i64, max_bytes: usize, limit: ReadLimit) -> Result<LogSlice> {
        self.while_untrimmed(|segments| self.range_in(segments, from, max_bytes, limit))
    }

    pub(super) fn range_in(
        &self,
        segments: &[Arc<Segment>],
        from: i64,
        max_bytes: usize,
        limit: ReadLimit,
    ) -> Result<LogSlice> {
        let end = self.check_range(from)?;
        let limit = match limit {
            ReadLimit::Stable => self.stable_mark(),
            ReadLimit::Acknowledged => self.acknowledged_mark(),
            ReadLimit::End => end,
        };
        if from >= limit.offset {
            return Ok(LogSlice::empty(from));
        }
        let Some((segment, frame)) = self.frame_at(segments, from)? else {
            return Ok(LogSlice::empty(from));
        };
        let visible = visible_bytes(segment, limit);
        if frame.end() > visible {
            return Ok(LogSlice::empty(from));
        }
        match segment.format() {
            Format::V2 => file_slice(segment, &frame, visible, max_bytes),
            Format::V1 => converted_slice(segment, &frame, visible, max_bytes),
        }
    }

    /// Runs a read on the segments as they are; again when it failed because a trim took them away
    /// under it.
    pub(super) fn while_untrimmed<T>(
        &self,
        read: impl Fn(&[Arc<Segment>]) -> Result<T>,
    ) -> Result<T> {
        loop {
            let segments = self.segments.load();
            match read(&segments) {
                Err(StorageError::Io { .. } | StorageError::Damaged { .. })
                    if !Arc::ptr_eq(&segments, &self.segments.load()) => {}
                result => return result,
            }
        }
    }

    /// The frame that holds `from`, or the first one behind it where compaction leaves holes.
    fn frame_at<'a>(
        &self,
        segments: &'a [Arc<Segment>],
        from: i64,
    ) -> Result<Option<(&'a Segment, Frame)>> {
        let at = containing(segments, from);
        for (segment, next) in segments[at..]
            .iter()
            .zip(segments[at..].iter().skip(1).map(Some).chain([None]))
        {
            let frame = segment.find(from)?;
            let found = match (&frame, next) {
                (Some(frame), _) => frame.base_offset,
                (None, Some(next)) => next.base_offset(),
                (None, None) => return Ok(None),
            };
            if found > from && !self.may_have_holes(found - 1) {
                let position = frame.map_or_else(|| segment.size(), |frame| frame.position);
                let reason = format!("offset {from} is missing, {found} follows");
                return Err(segment.damaged(position, reason));
            }
            if let Some(frame) = frame {
                return Ok(Some((segment, frame)));
            }
        }
        Ok(None)
    }

    fn check_range(&self, from: i64) -> Result<Mark> {
        let (start, end) = (self.log_start_offset(), self.marks.lock().end);
        if from < start || from > end.offset {
            return Err(StorageError::OffsetOutOfRange {
                requested: from,
                start,
                end: end.offset,
            });
        }
        Ok(end)
    }

    /// The records from offset `from` up to what is acknowledged now, each checked against its
    /// batch's checksum.
    ///
    /// # Errors
    /// [`StorageError::OffsetOutOfRange`]; the iterator's items carry I/O errors and damage.
    pub fn read(&self, from: i64) -> Result<Records<'_>> {
        self.check_range(from)?;
        Ok(Records {
            log: self,
            next: from,
            end: self.acknowledged_end(),
            batch: Vec::new().into_iter(),
            failed: false,
        })
    }

    /// The first record whose timestamp is at least `timestamp_ms` (Unix ms).
    ///
    /// # Errors
    /// An I/O error or [`StorageError::Damaged`].
    pub fn offset_for_timestamp(&self, timestamp_ms: i64) -> Result<Option<TimestampOffset>> {
        self.while_untrimmed(|segments| self.find_timestamp(segments, timestamp_ms))
    }

    fn find_timestamp(
        &self,
        segments: &[Arc<Segment>],
        timestamp_ms: i64,
    ) -> Result<Option<TimestampOffset>> {
        let start = self.log_start_offset();
        let end = self.acknowledged_end();
        for segment in &segments[containing(segments, start)..] {
            if segment.max_timestamp()?.timestamp_ms < timestamp_ms {
                continue;
            }
            let mut from = segment.find_timestamp(timestamp_ms)?;
            // A batch may be that young only with records below the log start.
            while let Some(frame) = from {
                let found = first_record(segment, &frame, |offset, timestamp| {
                    offset >= start && timestamp >= timestamp_ms
                })?;
                match found {
                    Some(found) if found.offset < end => return Ok(Some(found)),
                    Some(_) => return Ok(None),
                    None => from = segment.find(frame.last_offset + 1)?,
                }
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp of all that can be read: from the log start up to
    /// the acknowledged end.
    ///
    /// # Errors
    /// An I/O error or [`StorageError::Damaged`].
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>> {
        self.while_untrimmed(|segments| {
            let youngest = self.youngest_readable(segments)?;
            if youngest <= NO_TIMESTAMP {
                return Ok(None);
            }
            self.find_timestamp(segments, youngest)
        })
    }

    fn youngest_readable(&self, segments: &[Arc<Segment>]) -> Result<i64> {
        let start = self.log_start_offset();
        let end = self.acknowledged_end();
        let mut youngest = NO_TIMESTAMP;
        for (i, segment) in segments
            .iter()
            .enumerate()
            .skip(containing(segments, start))
        {
            let sealed_at = segments.get(i + 1).map(|next| next.base_offset());
            if segment.base_offset() >= start && sealed_at.is_some_and(|sealed| sealed <= end) {
                youngest = youngest.max(segment.max_timestamp()?.timestamp_ms);
                continue;
            }
            // Of the batch that holds the log start only some records can be read.
            let first = segment.find(start)?;
            let from = match first.filter(|frame| frame.base_offset < start) {
                Some(frame) => {
                    let readable = frame_records(segment, &frame)?
                        .into_iter()
                        .filter(|record| (start..end).contains(&record.offset));
                    youngest =
                        readable.fold(youngest, |most, record| most.max(record.timestamp_ms));
                    frame.last_offset + 1
                }
                None => start,
            };
            youngest = youngest.max(segment.youngest_within(from, end)?);
        }
        Ok(youngest)
    }
}

/// Index of the segment that holds `offset`.
pub(super) fn containing(segments: &[Arc<Segment>], offset: i64) -> usize {
    segments
        .partition_point(|segment| segment.base_offset() <= offset)
        .saturating_sub(1)
}

fn visible_bytes(segment: &Segment, limit: Mark) -> u64 {
    match segment.base_offset().cmp(&limit.segment) {
        std::cmp::Ordering::Less => segment.size(),
        std::cmp::Ordering::Equal => limit.position.min(segment.size()),
        std::cmp::Ordering::Greater => 0,
    }
}

fn file_slice(
    segment: &Segment,
    first: &Frame,
    visible: u64,
    max_bytes: usize,
) -> Result<LogSlice> {
    let first_batch_bytes = first.len as usize;
    let len = (visible - first.position).min(max_bytes.max(first_batch_bytes) as u64) as usize;
    let bytes = SliceBytes::File {
        file: segment.file()?.clone(),
        position: first.position,
        len,
    };
    Ok(LogSlice {
        bytes,
        base_offset: first.base_offset,
        first_batch_bytes,
    })
}

/// Most messages of a v1 segment that are put into one batch.
const V1_MESSAGES_PER_BATCH: usize = 1000;

/// v1 messages as one uncompressed v2 batch.
fn converted_slice(
    segment: &Segment,
    first: &Frame,
    visible: u64,
    max_bytes: usize,
) -> Result<LogSlice> {
    let mut walker = segment.walker_at(first)?;
    let mut builder = BatchBuilder::new().base_offset(first.base_offset);
    let context = |result: std::io::Result<Step>| result.context("read", segment.path());
    while let Step::Frame(frame) = context(walker.step())? {
        let full = builder.len() >= V1_MESSAGES_PER_BATCH
            || builder.estimated_bytes() + frame.len as usize > max_bytes;
        if frame.end() > visible || (!builder.is_empty() && full) {
            break;
        }
        let record = read_v1(segment, &frame)?;
        builder.push(
            record.timestamp_ms,
            record.key.as_deref(),
            record.value.as_deref(),
            &record.headers,
        )?;
    }
    let bytes = builder.build()?;
    let first_batch_bytes = bytes.len();
    Ok(LogSlice {
        bytes: SliceBytes::Memory(bytes),
        base_offset: first.base_offset,
        first_batch_bytes,
    })
}

fn read_v1(segment: &Segment, frame: &Frame) -> Result<Record> {
    let bytes = frame_bytes(segment, frame)?;
    let damaged = |reason: String| segment.damaged(frame.position, reason);
    let message = v1::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
    Ok(Record {
        offset: frame.base_offset,
        timestamp_ms: message.timestamp_ms,
        key: message.key,
        value: message.value,
        headers: Vec::new(),
    })
}

fn frame_bytes(segment: &Segment, frame: &Frame) -> Result<Bytes> {
    let mut bytes = vec![0; frame.len as usize];
    read_exact_at(&**segment.file()?, &mut bytes, frame.position)
        .context("read", segment.path())?;
    Ok(bytes.into())
}

/// The records of a frame, checksum verified.
fn frame_records(segment: &Segment, frame: &Frame) -> Result<Vec<Record>> {
    if segment.format() == Format::V1 {
        return Ok(vec![read_v1(segment, frame)?]);
    }
    let mut bytes = frame_bytes(segment, frame)?;
    let damaged = |reason: String| segment.damaged(frame.position, reason);
    let batch = Batch::split_first(&mut bytes)
        .map_err(|error| damaged(error.to_string()))?
        .ok_or_else(|| damaged("the batch is cut short".to_owned()))?;
    batch
        .verify_crc()
        .map_err(|error| damaged(error.to_string()))?;
    if batch.header().is_control() {
        return Ok(Vec::new());
    }
    let records = batch
        .records()
        .map_err(|error| damaged(error.to_string()))?;
    records
        .map(|record| record.map_err(|error| damaged(error.to_string())))
        .collect()
}

fn first_record(
    segment: &Segment,
    frame: &Frame,
    wanted: impl Fn(i64, i64) -> bool,
) -> Result<Option<TimestampOffset>> {
    let records = frame_records(segment, frame)?;
    Ok(records
        .into_iter()
        .find(|record| wanted(record.offset, record.timestamp_ms))
        .map(|record| TimestampOffset {
            timestamp_ms: record.timestamp_ms,
            offset: record.offset,
            leader_epoch: frame.leader_epoch().unwrap_or(-1),
        }))
}

/// Iterator over records; see [`crate::LogCore::read`].
#[derive(Debug)]
pub struct Records<'a> {
    log: &'a LogCore,
    next: i64,
    end: i64,
    batch: std::vec::IntoIter<Record>,
    failed: bool,
}

impl Records<'_> {
    /// Reads the batch that holds `self.next`, or the first one behind it; false at the end.
    fn refill(&mut self) -> Result<bool> {
        let (log, wanted, end) = (self.log, self.next, self.end);
        let found = log.while_untrimmed(|segments| {
            log.check_range(wanted)?;
            let Some((segment, frame)) = log.frame_at(segments, wanted)? else {
                return Ok(None);
            };
            if frame.base_offset >= end {
                return Ok(None);
            }
            Ok(Some((frame_records(segment, &frame)?, frame.last_offset)))
        })?;
        let Some((records, last_offset)) = found else {
            return Ok(false);
        };
        // None are left of a control batch, or where the batch's last ones were compacted away.
        let skip = records.partition_point(|record| record.offset < wanted);
        self.batch = records.into_iter();
        self.batch.by_ref().take(skip).for_each(drop);
        self.next = last_offset + 1;
        Ok(true)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.batch.next() {
                return (record.offset < self.end).then_some(Ok(record));
            }
            if self.failed || self.next >= self.end {
                return None;
            }
            match self.refill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
    }
}
