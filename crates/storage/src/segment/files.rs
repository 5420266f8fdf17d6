//! The files of a segment: their names, their format, their removal.

use crate::config::Format;
use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, Result};
use crate::index::IndexPaths;
use crate::record::{self, RecordError};
use std::path::Path;

/// `{base offset, 20 digits}.log`
pub(crate) fn log_file_name(base_offset: i64) -> String {
    format!("{base_offset:020}.log")
}

/// `{base offset, 20 digits}.txnindex`
pub(crate) fn aborted_file_name(base_offset: i64) -> String {
    format!("{base_offset:020}.txnindex")
}

/// The base offset in a segment file's name (of any of its extensions).
pub(crate) fn parse_base_offset(file_name: &str) -> Option<i64> {
    let (stem, _) = file_name.split_once('.')?;
    let digits = stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit());
    if digits { stem.parse().ok() } else { None }
}

/// Removes a log file and what belongs to it; what is already gone is fine.
pub(crate) fn remove_segment_files(disk: &dyn Disk, log: &Path) -> Result<()> {
    remove_if_there(disk, log)?;
    remove_all_indexes(disk, log)
}

/// Removes everything that belongs to a log file.
pub(crate) fn remove_all_indexes(disk: &dyn Disk, log: &Path) -> Result<()> {
    remove_index_files(disk, log)?;
    remove_if_there(disk, &IndexPaths::of(log).aborted)
}

/// Removes the offset and time indexes of a segment.
pub(crate) fn remove_index_files(disk: &dyn Disk, log: &Path) -> Result<()> {
    let index = IndexPaths::of(log);
    remove_if_there(disk, &index.offsets)?;
    remove_if_there(disk, &index.times)
}

pub(super) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<()> {
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
