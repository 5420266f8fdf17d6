//! The small file that says how far a log is known to be on the disk.
//!
//! `checkpoint` in the partition's folder, replaced atomically:
//!
//! ```text
//! dlog-checkpoint 1
//! recovery_point <offset>
//! segment <base offset of the segment that holds it>
//! position <byte position in that segment>
//! log_start <first offset that may be read>
//! snapshot <offset of the producer snapshot that belongs to it, -1 when there were no producers>
//! clean <1 after an orderly close, else 0>
//! holes_before <offsets before this may be missing: compaction took them>
//! compacted_before <records before this are compacted>
//! crc <CRC32C of all above, 8 hex digits>
//! ```
//!
//! Invariants: every byte before (`segment`, `position`) was synced before the file was written; the
//! recovery point is lowered durably *before* a truncation cuts below it; the log start is raised
//! durably before anything below it is removed; `holes_before` is raised durably before compaction
//! replaces a segment. The last two lines are missing in files of older versions, which pass over them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, read_file, replace_file_named};
use crate::error::{IoContext, Result};
use crate::record::crc32c;

const FILE_NAME: &str = "checkpoint";
const MAGIC: &str = "dlog-checkpoint 1";

/// How far a log is known to be on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// First offset that may not be on the disk.
    pub recovery_point: i64,
    /// Base offset of the segment that `position` is in.
    pub segment: i64,
    /// Byte position of the recovery point in that segment.
    pub position: u64,
    /// First offset that may be read.
    pub log_start: i64,
    /// Offset in the name of the producer snapshot taken with it; `None` without producers.
    pub snapshot: Option<i64>,
    /// Written by an orderly close: everything was on the disk.
    pub clean: bool,
    /// Offsets before this one may be missing, whatever the cleanup policy is now.
    pub holes_before: i64,
    /// Records before this offset were compacted: a later run begins there. A smaller value costs time,
    /// nothing else.
    pub compacted_before: i64,
}

/// What was found where the checkpoint should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Whole(Checkpoint),
    Missing,
    Unreadable,
}

/// Path of a partition's checkpoint.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

/// Writes the checkpoint durably.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, checkpoint: &Checkpoint) -> Result<()> {
    replace_file_named(disk, &path(dir), encode(checkpoint).as_bytes())
}

/// Reads the checkpoint.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Found> {
    let path = path(dir);
    match read_file(disk, &path, 4096) {
        Ok(bytes) => Ok(decode(&bytes).map_or(Found::Unreadable, Found::Whole)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Found::Missing),
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => Ok(Found::Unreadable),
        Err(error) => Err(error).context("read", &path),
    }
}

fn encode(checkpoint: &Checkpoint) -> String {
    let Checkpoint {
        recovery_point,
        segment,
        position,
        log_start,
        snapshot,
        clean,
        holes_before,
        compacted_before,
    } = checkpoint;
    let snapshot = snapshot.unwrap_or(-1);
    let mut text = format!(
        "{MAGIC}\nrecovery_point {recovery_point}\nsegment {segment}\nposition {position}\nlog_start {log_start}\nsnapshot {snapshot}\nclean {}\nholes_before {holes_before}\ncompacted_before {compacted_before}\n",
        u8::from(*clean)
    );
    let crc = crc32c(text.as_bytes());
    // Writing to a String cannot fail.
    let _ = writeln!(text, "crc {crc:08x}");
    text
}

fn decode(bytes: &[u8]) -> Option<Checkpoint> {
    let text = str::from_utf8(bytes).ok()?;
    let body = text.len().checked_sub("crc 00000000\n".len())?;
    let (body, crc) = text.split_at_checked(body)?;
    let crc = u32::from_str_radix(crc.strip_prefix("crc ")?.strip_suffix('\n')?, 16).ok()?;
    if crc != crc32c(body.as_bytes()) {
        return None;
    }
    let mut lines = body.lines();
    if lines.next()? != MAGIC {
        return None;
    }
    let mut field = |name: &str| {
        lines
            .next()?
            .strip_prefix(name)?
            .trim_start()
            .parse::<i64>()
            .ok()
    };
    let checkpoint = Checkpoint {
        recovery_point: field("recovery_point")?,
        segment: field("segment")?,
        position: u64::try_from(field("position")?).ok()?,
        log_start: field("log_start")?,
        snapshot: Some(field("snapshot")?).filter(|offset| *offset >= 0),
        clean: field("clean")? == 1,
        holes_before: field("holes_before").unwrap_or(0),
        compacted_before: field("compacted_before").unwrap_or(0),
    };
    // Bytes before the recovery point hold at least the segment's first offset.
    let least = checkpoint
        .segment
        .saturating_add(i64::from(checkpoint.position > 0));
    (checkpoint.recovery_point >= least).then_some(checkpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damage_is_noticed() {
        let checkpoint = Checkpoint {
            recovery_point: 12,
            segment: 10,
            position: 4711,
            log_start: 3,
            snapshot: Some(12),
            clean: true,
            holes_before: 9,
            compacted_before: 7,
        };
        let text = encode(&checkpoint);
        assert_eq!(decode(text.as_bytes()), Some(checkpoint));
        for i in 0..text.len() {
            assert_eq!(decode(&text.as_bytes()[..i]), None, "cut at {i}");
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[i] ^= 1 << bit;
                let decoded = decode(&bytes);
                assert!(
                    decoded.is_none() || decoded == Some(checkpoint),
                    "bit {bit} of byte {i}"
                );
            }
        }
    }
}
