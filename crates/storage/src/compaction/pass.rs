//! One run over a log's segments: first the dirty ones are read for the newest offset of each key, then
//! all of them, oldest first, are rewritten without what is no longer needed.
//!
//! Every frame is read with its checksum. What cannot be read ends the run: nothing goes because it was
//! not understood.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::CompactionReport;
use super::keep::Rules;
use super::map::{Keyed, OffsetMap};
use super::output::{Output, Written};
use super::range::{Extent, GroupLimits, joins};
use super::swap::Swap;
use super::txn::Transactions;
use super::v1::Packer;
use crate::config::Format;
use crate::disk::{Disk, DiskFile, ExpectedUse, OpenMode};
use crate::error::{IoContext, Result, StorageError};
use crate::record::control::ControlType;
use crate::record::{
    BatchHeader, DEFAULT_MAX_UNCOMPRESSED_BYTES, OpenBatch, RecordError, RecordRef, Selection, v1,
    write_empty,
};
use crate::segment::Segment;
use crate::walk::{Depth, Frame, Step, Walker};

/// Bytes read between two looks at whether to go on, at least.
const STEP_BYTES: u64 = 256 << 10;

/// Hears of bytes read and written; says whether the disk may read ahead, see
/// [`super::CompactionMeter::reads_ahead`]. An error ends the run.
pub(crate) type GoOn<'a> = &'a dyn Fn(u64) -> Result<bool>;

/// A segment of the run.
#[derive(Clone)]
pub(crate) struct Input {
    pub(crate) segment: Arc<Segment>,
    /// Base offset of the next one.
    pub(crate) end: i64,
}

impl Input {
    fn extent(&self) -> Result<Extent> {
        Ok(Extent {
            base_offset: self.segment.base_offset(),
            end: self.end,
            size_bytes: self.segment.size(),
            index_bytes: self.segment.index_bytes()?,
        })
    }
}

/// What a group of segments became.
pub(crate) struct Rewritten {
    /// How many segments there are in the group.
    pub(crate) count: usize,
    /// `None` when nothing goes: there is one segment, and it stays.
    pub(crate) written: Option<Written>,
}

/// What a run works with.
pub(crate) struct Pass<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) dir: &'a Path,
    pub(crate) index_interval_bytes: u32,
    pub(crate) go_on: GoOn<'a>,
    /// Whether the disk reads ahead.
    pub(crate) reads_ahead: Cell<bool>,
}

impl Pass<'_> {
    /// Notes the newest offset of each key in the records from `first_dirty` on, until the map is full;
    /// returns the first offset whose key is not noted.
    pub(crate) fn fill(
        &self,
        map: &mut OffsetMap,
        inputs: &[Input],
        first_dirty: i64,
        mut transactions: Transactions,
        report: &mut CompactionReport,
    ) -> Result<i64> {
        let mut mapped_end = first_dirty;
        for input in inputs.iter().filter(|input| input.end > first_dirty) {
            let segment = &*input.segment;
            let read = self.each_frame(segment, |frame, bytes| {
                if frame.last_offset < first_dirty {
                    return Ok(ControlFlow::Continue(()));
                }
                let noted = note_keys(map, frame, bytes, first_dirty, &mut transactions)
                    .map_err(|error| damaged(segment, frame, &error))?;
                if !noted {
                    return Ok(ControlFlow::Break(()));
                }
                mapped_end = frame.last_offset + 1;
                Ok(ControlFlow::Continue(()))
            })?;
            report.bytes_read += read.bytes;
            if read.is_broken_off {
                return Ok(mapped_end);
            }
            mapped_end = input.end;
        }
        Ok(mapped_end)
    }

    /// Rewrites the first of `inputs`, with as many of its neighbours as fit beside what is left of it, as
    /// one segment. The file has its temporary name.
    pub(crate) fn rewrite(
        &self,
        inputs: &[Input],
        limits: GroupLimits,
        rules: &Rules<'_>,
        transactions: &mut Transactions,
        report: &mut CompactionReport,
    ) -> Result<Rewritten> {
        let base = inputs[0].segment.base_offset();
        let only = match inputs[0].segment.format() {
            Format::V2 => Some(inputs[0].segment.file()?.clone()),
            Format::V1 => None,
        };
        let interval = self.index_interval_bytes;
        let path = self.cleaned_path(base);
        let mut out = Output::new(&**self.disk, path, base, interval, only, self.go_on);
        let mut count = 0;
        let mut group_end = base;
        for input in inputs {
            let group = Extent {
                base_offset: base,
                end: group_end,
                size_bytes: out.size(),
                index_bytes: out.index_bytes(),
            };
            if count > 0 {
                if !joins(group, input.extent()?, limits) {
                    break;
                }
                report.bytes_written += out.skip()?;
            }
            self.rewrite_into(&mut out, &input.segment, rules, transactions, report)?;
            count += 1;
            group_end = input.end;
        }
        let written = out.finish()?;
        if written.is_none() {
            report.bytes_unchanged += inputs[0].segment.size();
        }
        Ok(Rewritten { count, written })
    }

    fn rewrite_into(
        &self,
        out: &mut Output<'_>,
        segment: &Segment,
        rules: &Rules<'_>,
        transactions: &mut Transactions,
        report: &mut CompactionReport,
    ) -> Result<()> {
        let mut are_newest = Vec::new();
        let mut packer = Packer::new(rules);
        let mut written = 0;
        let read = self.each_frame(segment, |frame, bytes| {
            let damaged = |error: RecordError| damaged(segment, frame, &error);
            written += match &frame.batch {
                Some(header) => {
                    let kept = retain(header, bytes, rules, transactions, report, &mut are_newest)
                        .map_err(damaged)?;
                    match kept {
                        Kept::All => out.copy(header, bytes)?,
                        Kept::Nothing => out.skip()?,
                        Kept::Header => {
                            out.put(|made| write_empty(header, made).map_err(damaged))?
                        }
                        Kept::Records(open, selection, horizon_ms) => out.put(|made| {
                            open.write(&selection, horizon_ms, made).map_err(damaged)
                        })?,
                    }
                }
                None => out.put(|made| {
                    packer
                        .push(frame.base_offset, bytes, report, made)
                        .map_err(damaged)
                })?,
            };
            Ok(ControlFlow::Continue(()))
        })?;
        if !packer.is_empty() {
            written += out.put(|made| Ok(packer.finish(made)?))?;
        }
        report.bytes_read += read.bytes;
        report.bytes_written += written;
        Ok(())
    }

    /// Where a group's new segment is written.
    pub(crate) fn cleaned_path(&self, base: i64) -> PathBuf {
        self.dir.join(Swap::cleaned_name(base))
    }

    /// Tells of bytes of `file` that were read.
    fn pace(&self, file: &dyn DiskFile, bytes: u64) -> Result<()> {
        let reads_ahead = (self.go_on)(bytes)?;
        if self.reads_ahead.replace(reads_ahead) != reads_ahead {
            file.advise(expected_use(reads_ahead), 0, 0);
        }
        Ok(())
    }

    /// Shows every frame of a segment, whose checksum was verified.
    fn each_frame(
        &self,
        segment: &Segment,
        mut show: impl FnMut(&Frame, &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<Read> {
        // A handle of its own, so that reading ahead does not change how consumers' reads are treated.
        let file = self
            .disk
            .open(segment.path(), OpenMode::Read)
            .context("open", segment.path())?;
        let size = segment.size();
        file.advise(expected_use(self.reads_ahead.get()), 0, size);
        let (format, base) = (segment.format(), segment.base_offset());
        let mut walker = Walker::new(&*file, format, Depth::Checksum, 0, size, base);
        let mut told = 0;
        loop {
            match walker.step().context("read", segment.path())? {
                Step::Frame(frame) => {
                    let bytes = walker.frame_bytes(&frame).context("read", segment.path())?;
                    if show(&frame, bytes)?.is_break() {
                        self.pace(&*file, frame.end() - told)?;
                        return Ok(Read {
                            bytes: frame.end(),
                            is_broken_off: true,
                        });
                    }
                    if frame.end() - told >= STEP_BYTES {
                        self.pace(&*file, frame.end() - told)?;
                        told = frame.end();
                    }
                }
                Step::End if walker.position() == size => {
                    self.pace(&*file, size - told)?;
                    return Ok(Read {
                        bytes: size,
                        is_broken_off: false,
                    });
                }
                Step::End => {
                    let reason = format!("zeros up to the end of the segment at {size}");
                    return Err(segment.damaged(walker.position(), reason));
                }
                Step::Bad { reason } => return Err(segment.damaged(walker.position(), reason)),
            }
        }
    }
}

fn expected_use(reads_ahead: bool) -> ExpectedUse {
    if reads_ahead {
        ExpectedUse::Sequential
    } else {
        ExpectedUse::Exact
    }
}

/// How much of a segment was read.
struct Read {
    bytes: u64,
    is_broken_off: bool,
}

fn damaged(segment: &Segment, frame: &Frame, error: &RecordError) -> StorageError {
    segment.damaged(frame.position, error.to_string())
}

/// Puts a frame's keys into the map; false when one does not fit any more.
fn note_keys(
    map: &mut OffsetMap,
    frame: &Frame,
    bytes: &[u8],
    first_dirty: i64,
    transactions: &mut Transactions,
) -> Result<bool, RecordError> {
    let Some(header) = &frame.batch else {
        let message = v1::decode(&Bytes::copy_from_slice(bytes))?;
        let record = Ok((message.key.as_deref(), frame.base_offset));
        return map.put_all(std::iter::once(record));
    };
    if header.is_control() {
        let open = OpenBatch::new(*header, bytes, DEFAULT_MAX_UNCOMPRESSED_BYTES)?;
        transactions.control(header, control_kind(&open)?);
        return Ok(true);
    }
    if transactions.records(header) || header.record_count == 0 {
        return Ok(true);
    }
    let open = OpenBatch::new(*header, bytes, DEFAULT_MAX_UNCOMPRESSED_BYTES)?;
    let is_dirty = |record: &Result<Keyed<'_>, _>| match record {
        Ok((_, offset)) => *offset >= first_dirty,
        Err(_) => true,
    };
    map.put_all(open.refs()?.map(keyed).filter(is_dirty))
}

fn keyed(record: Result<RecordRef<'_>, RecordError>) -> Result<Keyed<'_>, RecordError> {
    record.map(|record| (record.key, record.offset))
}

fn control_kind(open: &OpenBatch<'_>) -> Result<Option<ControlType>, RecordError> {
    match open.refs()?.next().transpose()? {
        Some(record) => ControlType::from_key(record.key.unwrap_or_default()).map(Some),
        None => Ok(None),
    }
}

/// What is kept of a batch.
enum Kept<'a> {
    /// All of it, as it is.
    All,
    /// Nothing.
    Nothing,
    /// Its header, for the producer's sequence or the end of the range.
    Header,
    /// These of its records, with a new delete horizon (Unix ms) if there is one.
    Records(OpenBatch<'a>, Selection, Option<i64>),
}

/// Decides what stays of a batch. `are_newest` is memory that is used again.
fn retain<'a>(
    header: &BatchHeader,
    bytes: &'a [u8],
    rules: &Rules<'_>,
    transactions: &mut Transactions,
    report: &mut CompactionReport,
    are_newest: &mut Vec<bool>,
) -> Result<Kept<'a>, RecordError> {
    report.records_read += header.record_count.max(0) as u64;
    let mut open = None;
    let is_void = if header.is_control() {
        let batch = OpenBatch::new(*header, bytes, DEFAULT_MAX_UNCOMPRESSED_BYTES)?;
        let kind = control_kind(&batch)?;
        open = Some(batch);
        transactions.control(header, kind)
    } else {
        transactions.records(header)
    };
    let verdict = rules.judge(header, is_void);
    if verdict.drop_records || header.record_count == 0 {
        return Ok(match (verdict.keep_empty, header.record_count) {
            (false, _) => Kept::Nothing,
            (true, 0) => Kept::All,
            (true, _) => Kept::Header,
        });
    }
    if !header.is_control() && rules.is_behind_map(header) {
        report.records_kept += header.record_count.max(0) as u64;
        return Ok(Kept::All);
    }
    let open = match open {
        Some(open) => open,
        None => OpenBatch::new(*header, bytes, DEFAULT_MAX_UNCOMPRESSED_BYTES)?,
    };
    let selection = select(&open, header, rules, are_newest)?;
    report.records_kept += selection.kept.max(0) as u64;
    if selection.kept == 0 {
        return Ok(match verdict.keep_empty {
            true => Kept::Header,
            false => Kept::Nothing,
        });
    }
    let horizon_ms = rules.new_horizon_ms(header, verdict, selection.has_tombstones);
    if selection.all && horizon_ms.is_none() {
        return Ok(Kept::All);
    }
    Ok(Kept::Records(open, selection, horizon_ms))
}

/// Finds the records that stay of a batch whose records need not all go.
fn select(
    open: &OpenBatch<'_>,
    header: &BatchHeader,
    rules: &Rules<'_>,
    are_newest: &mut Vec<bool>,
) -> Result<Selection, RecordError> {
    if header.is_control() {
        return open.select(|_| true);
    }
    are_newest.clear();
    let records = open.refs()?.map(keyed);
    rules.map.find_newest(records, are_newest)?;
    let mut are_newest = are_newest.iter();
    let horizon_ms = header.delete_horizon_ms();
    open.select(|record| {
        // There is one for each record.
        let is_newest = are_newest.next().is_some_and(|is_newest| *is_newest);
        rules.keeps(record.offset, is_newest, record.value.is_some(), horizon_ms)
    })
}
