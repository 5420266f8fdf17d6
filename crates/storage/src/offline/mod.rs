//! Tools for a log's folder while no process has it open: verify, dump, repair the indexes, convert
//! v1 segments to v2.
//!
//! Reading tools change nothing and need no lock; the others take the folder's lock, so that a
//! running log is refused, not corrupted.

mod convert;
mod transactions;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use convert::{ConvertReport, convert, convert_on};
pub use transactions::aborted_transactions;

use crate::checkpoint::{self, Found};
use crate::compaction::swap;
use crate::config::{Format, LogConfig};
use crate::disk::{Disk, OpenMode, RealDisk};
use crate::error::{IoContext, Result, StorageError};
use crate::index::IndexPaths;
use crate::log::lock_dir;
use crate::record::BatchHeader;
use crate::replay::Replay;
use crate::segment::{IndexBuilder, Segment, detect_segment_format};
use crate::walk::{Depth, Frame, Step, Walker};

/// One segment as [`verify`] found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file.
    pub path: PathBuf,
    /// Bytes of sound frames.
    pub bytes: u64,
    /// Number of batches (v2) or messages (v1).
    pub frames: u64,
    /// Number of records.
    pub records: u64,
    /// First offset, and the offset behind the last.
    pub offsets: (i64, i64),
    /// Offsets that compaction took, between batches and before the segment's first one.
    pub missing_offsets: u64,
    /// Zeros written ahead of the appends.
    pub zero_bytes: u64,
    /// Where frames stop being sound, and why.
    pub damage: Option<(u64, String)>,
    /// Transactions that were aborted by markers in this segment.
    pub aborted: u64,
    /// What is wrong with the index of aborted transactions. No record is lost by it: the index is made
    /// anew when it is needed. After a crash that is so for markers since the last checkpoint.
    pub index_fault: Option<String>,
}

/// A frame as [`dump`] shows it.
#[derive(Clone, Debug)]
pub struct DumpedFrame {
    /// The segment file.
    pub path: PathBuf,
    /// Byte position in it.
    pub position: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// First and last offset.
    pub offsets: (i64, i64),
    /// Largest timestamp, Unix ms.
    pub max_timestamp_ms: i64,
    /// The header of a v2 batch; `None` for a v1 message.
    pub header: Option<BatchHeader>,
    /// The frame itself.
    pub content: bytes::Bytes,
    /// Whether the stored checksum is the computed one.
    pub sound: bool,
}

/// The segment files of a folder, ascending; or the one file that is named.
fn segments_of(disk: &Arc<dyn Disk>, path: &Path) -> Result<Vec<Segment>> {
    let (dir, only) = match path.extension() {
        Some(extension) if extension == "log" || extension == "swap" => {
            (path.parent().unwrap_or(Path::new(".")), path.file_name())
        }
        _ => (path, None),
    };
    let mut segments = Vec::new();
    let files = disk.list(dir).context("list", dir)?;
    // Of an interrupted compaction the segments that count are shown, under the names they have.
    for (name, base_offset, len) in swap::settled_segments(&files) {
        if only.is_some_and(|only| only != name.as_str()) {
            continue;
        }
        let path = dir.join(&name);
        let handle = disk.open(&path, OpenMode::Read).context("open", &path)?;
        let format =
            detect_segment_format(&*handle, base_offset, Format::V2).context("read", &path)?;
        let interval = LogConfig::default().index_interval_bytes;
        segments.push(Segment::existing(
            disk,
            path,
            base_offset,
            format,
            len,
            interval,
        ));
    }
    if segments.is_empty() {
        return Err(StorageError::io(
            "find segments in",
            path,
            std::io::ErrorKind::NotFound.into(),
        ));
    }
    Ok(segments)
}

/// Finishes what an interrupted compaction left half done; the caller has the folder's lock.
fn finish_compaction(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let files = disk.list(dir).context("list", dir)?;
    swap::finish_pending(disk, dir, &files).map(|_| ())
}

/// Bytes of all segment files of a folder.
///
/// # Errors
/// An I/O error, or `NotFound` when there is no segment.
pub fn total_bytes(path: &Path) -> Result<u64> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    Ok(segments_of(&disk, path)?.iter().map(Segment::size).sum())
}

/// Reads every frame of a folder (or one segment file) with its checksum; `progress` hears of bytes
/// read since the last call.
///
/// # Errors
/// An I/O error; damage is part of the reports.
pub fn verify(path: &Path, mut progress: impl FnMut(u64)) -> Result<Vec<SegmentReport>> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut reports: Vec<SegmentReport> = Vec::new();
    let holes_before = holes_before(&*disk, path)?;
    let mut replay = Replay::default();
    let segments = segments_of(&disk, path)?;
    for segment in &segments {
        let mut report = verify_segment(segment, holes_before, &mut replay, &mut progress)?;
        report.aborted = u64::from(segment.aborted_facts().entries);
        // Of one segment alone it is not known which transactions began before it.
        if segments.len() > 1 || !path.is_file() {
            let expected = segment.all_aborted();
            report.index_fault = transactions::fault(&*disk, segment, &expected);
        }
        if let Some(before) = reports.last().filter(|before| before.damage.is_none()) {
            let (expected, found) = (before.offsets.1, report.offsets.0);
            match hole(expected, found, holes_before) {
                Some(missing) => report.missing_offsets += missing,
                None => report.damage = Some((0, jump(expected, found))),
            }
        }
        reports.push(report);
    }
    Ok(reports)
}

/// The offset before which compaction may have taken offsets from the log at `path`.
fn holes_before(disk: &dyn Disk, path: &Path) -> Result<i64> {
    let is_file = path
        .extension()
        .is_some_and(|extension| extension == "log" || extension == "swap");
    let dir = if is_file {
        path.parent().unwrap_or(Path::new("."))
    } else {
        path
    };
    Ok(match checkpoint::read(disk, dir)? {
        Found::Whole(checkpoint) => checkpoint.holes_before,
        Found::Missing | Found::Unreadable => 0,
    })
}

/// The number of offsets that compaction took between `expected` and `found`; `None` when it was not
/// compaction.
fn hole(expected: i64, found: i64, holes_before: i64) -> Option<u64> {
    (found == expected || (expected..=holes_before).contains(&found))
        .then(|| (found - expected).cast_unsigned())
}

/// Offsets lie outside a batch's checksum; that they follow one another is all there is to check them by.
fn jump(expected: i64, found: i64) -> String {
    format!(
        "offset {found} stands where {expected} belongs: records are missing, or an offset was changed"
    )
}

fn verify_segment(
    segment: &Segment,
    holes_before: i64,
    replay: &mut Replay,
    progress: &mut impl FnMut(u64),
) -> Result<SegmentReport> {
    let (path, len) = (segment.path(), segment.size());
    let mut walker = Walker::new(
        &**segment.file()?,
        segment.format(),
        Depth::Checksum,
        0,
        len,
        segment.base_offset(),
    );
    let mut report = SegmentReport {
        path: path.to_path_buf(),
        bytes: 0,
        frames: 0,
        records: 0,
        offsets: (segment.base_offset(), segment.base_offset()),
        missing_offsets: 0,
        zero_bytes: 0,
        damage: None,
        aborted: 0,
        index_fault: None,
    };
    loop {
        let expected = walker.next_offset();
        match walker.step().context("read", path)? {
            Step::Frame(frame) => {
                let Some(missing) = hole(expected, frame.base_offset, holes_before) else {
                    report.damage = Some((frame.position, jump(expected, frame.base_offset)));
                    report.offsets.1 = expected;
                    progress(len - report.bytes);
                    return Ok(report);
                };
                report.missing_offsets += missing;
                note_aborted(segment, replay, &mut walker, &frame)?;
                report.frames += 1;
                report.records += frame
                    .batch
                    .as_ref()
                    .map_or(1, |header| header.record_count.max(0) as u64);
                report.bytes = frame.end();
                progress(frame.len);
            }
            Step::End => {
                report.zero_bytes = len - walker.position();
                break;
            }
            Step::Bad { reason } => {
                report.damage = Some((walker.position(), reason));
                break;
            }
        }
    }
    progress(len - report.bytes);
    report.offsets.1 = walker.next_offset();
    Ok(report)
}

/// Counts the transaction that a frame aborts.
fn note_aborted(
    segment: &Segment,
    replay: &mut Replay,
    walker: &mut Walker<'_>,
    frame: &Frame,
) -> Result<()> {
    let taken = replay.take(segment.base_offset(), walker, frame);
    if let Some(transaction) = taken.context("read", segment.path())? {
        segment.note_aborted(&transaction);
    }
    Ok(())
}

/// Shows frames from the one that holds `from` on until `show` answers false.
///
/// # Errors
/// An I/O error, or [`StorageError::Damaged`] where a frame cannot even be delimited.
pub fn dump(path: &Path, from: i64, mut show: impl FnMut(DumpedFrame) -> bool) -> Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    for segment in segments_of(&disk, path)? {
        let file = segment.file()?;
        let base = segment.base_offset();
        let mut walker = Walker::new(
            &**file,
            segment.format(),
            Depth::Header,
            0,
            segment.size(),
            base,
        );
        loop {
            match walker.step().context("read", segment.path())? {
                Step::Frame(frame) if frame.last_offset < from => {}
                Step::Frame(frame) => {
                    if !show(dumped(&segment, &mut walker, &frame)?) {
                        return Ok(());
                    }
                }
                Step::End => break,
                Step::Bad { reason } => return Err(segment.damaged(walker.position(), reason)),
            }
        }
    }
    Ok(())
}

fn dumped(segment: &Segment, walker: &mut Walker<'_>, frame: &Frame) -> Result<DumpedFrame> {
    let content = walker.frame_bytes(frame).context("read", segment.path())?;
    let content = bytes::Bytes::copy_from_slice(content);
    Ok(DumpedFrame {
        path: segment.path().to_path_buf(),
        position: frame.position,
        bytes: frame.len,
        offsets: (frame.base_offset, frame.last_offset),
        max_timestamp_ms: frame.max_timestamp_ms,
        header: frame.batch,
        sound: frame.checksum_holds(&content),
        content,
    })
}

/// Makes the indexes of every segment anew; returns how many segments there were.
///
/// # Errors
/// [`StorageError::Locked`] while the log is open, [`StorageError::Damaged`], or an I/O error.
pub fn repair_index(
    dir: &Path,
    index_interval_bytes: u32,
    mut progress: impl FnMut(u64),
) -> Result<usize> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let _lock = lock_dir(&*disk, dir)?;
    finish_compaction(&*disk, dir)?;
    let segments = segments_of(&disk, dir)?;
    let mut replay = Replay::default();
    for segment in &segments {
        let base = segment.base_offset();
        let mut builder = IndexBuilder::new(base, index_interval_bytes);
        let mut walker = Walker::new(
            &**segment.file()?,
            segment.format(),
            Depth::Header,
            0,
            segment.size(),
            base,
        );
        loop {
            match walker.step().context("read", segment.path())? {
                Step::Frame(frame) => {
                    builder.add(&frame);
                    note_aborted(segment, &mut replay, &mut walker, &frame)?;
                    progress(frame.len);
                }
                Step::End => break,
                Step::Bad { reason } => return Err(segment.damaged(walker.position(), reason)),
            }
        }
        builder
            .finish()
            .store(&*disk, &IndexPaths::of(segment.path()))?;
        // Also where there is none to tell of: a file that lies goes.
        segment.suspect_aborted_file();
        segment.store_aborted()?;
    }
    disk.sync_dir(dir).context("sync", dir)?;
    Ok(segments.len())
}
