//! Rewriting v1 segments as v2, one atomic replacement per segment.
//!
//! A crash in between leaves a folder with some segments converted, which opens like any other; the
//! next run converts the rest. Before a segment that holds the recovery point is replaced, the
//! recovery point is moved to the segment's start, since byte positions change.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use super::segments_of;
use crate::checkpoint::{self, Checkpoint, Found};
use crate::config::Format;
use crate::disk::{Disk, OpenMode, RealDisk, read_exact_at};
use crate::error::{IoContext, Result};
use crate::log::lock_dir;
use crate::record::{BatchBuilder, Compression, v1};
use crate::segment::{Segment, remove_index_files};
use crate::walk::{Depth, Frame, Step, Walker};

/// What [`convert`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvertReport {
    /// Segments rewritten.
    pub segments: usize,
    /// Records in them.
    pub records: u64,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes after.
    pub bytes_after: u64,
}

/// A new batch begins after this many bytes of messages.
const BATCH_BYTES: usize = 64 << 10;

/// Rewrites every v1 segment of a folder as v2 batches with a codec.
///
/// # Errors
/// [`crate::StorageError::Locked`] while the log is open, [`crate::StorageError::Damaged`] (the
/// damaged segment is left as it was), or an I/O error.
pub fn convert(
    dir: &Path,
    compression: Compression,
    progress: impl FnMut(u64),
) -> Result<ConvertReport> {
    convert_on(
        &(Arc::new(RealDisk) as Arc<dyn Disk>),
        dir,
        compression,
        progress,
    )
}

/// As [`convert`], on a given file system.
///
/// # Errors
/// As [`convert`].
pub fn convert_on(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    compression: Compression,
    mut progress: impl FnMut(u64),
) -> Result<ConvertReport> {
    let _lock = lock_dir(&**disk, dir)?;
    super::finish_compaction(&**disk, dir)?;
    let mut report = ConvertReport::default();
    for segment in segments_of(disk, dir)? {
        if segment.format() == Format::V1 && segment.size() > 0 {
            convert_segment(disk, dir, &segment, compression, &mut report, &mut progress)?;
        }
    }
    Ok(report)
}

fn convert_segment(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    segment: &Segment,
    compression: Compression,
    report: &mut ConvertReport,
    progress: &mut impl FnMut(u64),
) -> Result<()> {
    let beside = segment.path().with_extension("log.tmp");
    let target = disk
        .open(&beside, OpenMode::Create)
        .context("create", &beside)?;
    let mut written = 0;
    let mut emit = |builder: BatchBuilder| -> Result<()> {
        let bytes = builder.build()?;
        target
            .write_all_at(&mut [IoSlice::new(&bytes)], written)
            .context("write", &beside)?;
        written += bytes.len() as u64;
        Ok(())
    };
    let base = segment.base_offset();
    let mut walker = Walker::new(
        &**segment.file()?,
        Format::V1,
        Depth::Checksum,
        0,
        segment.size(),
        base,
    );
    let mut builder = BatchBuilder::new()
        .base_offset(base)
        .compression(compression, None);
    loop {
        match walker.step().context("read", segment.path())? {
            Step::Frame(frame) => {
                if !builder.is_empty()
                    && builder.estimated_bytes() + frame.len as usize > BATCH_BYTES
                {
                    let next = BatchBuilder::new()
                        .base_offset(frame.base_offset)
                        .compression(compression, None);
                    emit(std::mem::replace(&mut builder, next))?;
                }
                push_message(segment, &frame, &mut builder)?;
                report.records += 1;
                progress(frame.len);
            }
            Step::End => break,
            Step::Bad { reason } => return Err(segment.damaged(walker.position(), reason)),
        }
    }
    if !builder.is_empty() {
        emit(builder)?;
    }
    target.sync_data().context("sync", &beside)?;
    lower_recovery_point(disk, dir, base)?;
    remove_index_files(&**disk, segment.path())?;
    disk.rename(&beside, segment.path())
        .context("replace", segment.path())?;
    disk.sync_dir(dir).context("sync", dir)?;
    report.segments += 1;
    report.bytes_before += segment.size();
    report.bytes_after += written;
    Ok(())
}

fn push_message(segment: &Segment, frame: &Frame, builder: &mut BatchBuilder) -> Result<()> {
    let mut bytes = vec![0; frame.len as usize];
    read_exact_at(&**segment.file()?, &mut bytes, frame.position)
        .context("read", segment.path())?;
    let damaged =
        |error: crate::record::RecordError| segment.damaged(frame.position, error.to_string());
    let message = v1::decode(&bytes.into()).map_err(damaged)?;
    builder.push(
        message.timestamp_ms,
        message.key.as_deref(),
        message.value.as_deref(),
        &[],
    )?;
    Ok(())
}

fn lower_recovery_point(disk: &Arc<dyn Disk>, dir: &Path, segment: i64) -> Result<()> {
    if let Found::Whole(found) = checkpoint::read(&**disk, dir)?
        && found.segment == segment
        && found.position > 0
    {
        let lowered = Checkpoint {
            recovery_point: segment,
            position: 0,
            clean: false,
            ..found
        };
        checkpoint::write(&**disk, dir, &lowered)?;
    }
    Ok(())
}
