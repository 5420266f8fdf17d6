//! What to keep after a crash.
//!
//! [`plan`] is pure: from the files found and the checkpoint it decides which segments are trusted,
//! where reading begins, and what is a leftover. [`scan`] executes the reading: frame by frame with
//! checksums from the recovery point on, up to the end or the first frame that is not whole.
//!
//! The rule: below the recovery point every byte was synced, so damage there is refused and named,
//! never cut. Behind it a frame that is not whole is a torn write: the log ends before it, and what
//! lies behind (later segments too) was never acknowledged by the flush policy. Without a checkpoint
//! (lost, or files of another making) everything is read, and damage before the last segment is
//! refused, since it is more likely that than a torn write.

use std::collections::BTreeSet;

use crate::checkpoint::{Checkpoint, Found};
use crate::disk::DirEntry;
use crate::error::{IoContext, Result};
use crate::replay::Replay;
use crate::segment::{IndexBuilder, Segment, parse_base_offset};
use crate::walk::{Depth, Step, Walker};

/// A segment file that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundSegment {
    pub(crate) base_offset: i64,
    pub(crate) len: u64,
    /// An index of aborted transactions lies beside it.
    pub(crate) has_aborted: bool,
}

/// What to do with the files of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Segments to keep, ascending; those before `scan_from` are trusted whole.
    pub(crate) segments: Vec<FoundSegment>,
    /// Index into `segments` of the first one to read, and where in it.
    pub(crate) scan_from: usize,
    pub(crate) scan_position: u64,
    /// Files that belong to nothing: interrupted rolls, deletes and replacements.
    pub(crate) leftovers: Vec<String>,
    /// Segment files below the log start.
    pub(crate) expired: Vec<FoundSegment>,
}

/// Why the folder cannot be opened without help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// File name.
    pub(crate) file: String,
    pub(crate) position: u64,
    pub(crate) reason: String,
}

/// Decides what to keep of the files in a folder.
pub(crate) fn plan(files: &[DirEntry], found: Found) -> Result<Plan, Refusal> {
    let checkpoint = match found {
        Found::Whole(checkpoint) => Some(checkpoint),
        Found::Missing | Found::Unreadable => None,
    };
    let (segments, leftovers) = sort_files(files, checkpoint);
    let first_kept = checkpoint.map_or(0, |checkpoint| first_kept(&segments, &checkpoint));
    let (expired, kept) = segments.split_at(first_kept);
    let (scan_from, scan_position) = match checkpoint {
        Some(checkpoint) => scan_start(kept, &checkpoint)?,
        // Nothing is known to be on the disk: all is read. The log is not cut before its last
        // segment, though; see `Recovery::recover`.
        None => (0, 0),
    };
    Ok(Plan {
        segments: kept.to_vec(),
        scan_from,
        scan_position,
        leftovers,
        expired: expired.to_vec(),
    })
}

/// Index of the first segment that is not wholly below the log start. The recovery point's segment
/// stays in any case: what lies behind it is found by reading on from there.
fn first_kept(segments: &[FoundSegment], checkpoint: &Checkpoint) -> usize {
    segments
        .iter()
        .zip(segments.iter().skip(1))
        .take_while(|(segment, next)| {
            next.base_offset <= checkpoint.log_start && segment.base_offset < checkpoint.segment
        })
        .count()
}

fn scan_start(segments: &[FoundSegment], checkpoint: &Checkpoint) -> Result<(usize, u64), Refusal> {
    let refuse = |position, reason: String| {
        Err(Refusal {
            file: crate::segment::log_file_name(checkpoint.segment),
            position,
            reason,
        })
    };
    let Some(i) = segments
        .iter()
        .position(|segment| segment.base_offset == checkpoint.segment)
    else {
        return refuse(
            0,
            format!(
                "the segment that holds the recovery point {} is missing",
                checkpoint.recovery_point
            ),
        );
    };
    if segments[i].len < checkpoint.position {
        return refuse(
            segments[i].len,
            format!(
                "the file has {} bytes, but {} were on the disk at the last checkpoint",
                segments[i].len, checkpoint.position
            ),
        );
    }
    Ok((i, checkpoint.position))
}

/// Tells segments from leftovers.
fn sort_files(
    files: &[DirEntry],
    checkpoint: Option<Checkpoint>,
) -> (Vec<FoundSegment>, Vec<String>) {
    let mut segments: Vec<_> = files
        .iter()
        .filter(|file| !file.is_dir && file.name.ends_with(".log"))
        .filter_map(|file| {
            let base_offset = parse_base_offset(&file.name)?;
            let index = crate::segment::aborted_file_name(base_offset);
            // The list is sorted by name.
            let has_aborted = files
                .binary_search_by(|other| other.name.as_str().cmp(&index))
                .is_ok();
            Some(FoundSegment {
                base_offset,
                len: file.len,
                has_aborted,
            })
        })
        .collect();
    segments.sort_by_key(|segment| segment.base_offset);
    let bases: BTreeSet<i64> = segments.iter().map(|segment| segment.base_offset).collect();
    let snapshot = checkpoint.and_then(|checkpoint| checkpoint.snapshot);
    let leftovers = files
        .iter()
        .filter(|file| !file.is_dir)
        .filter(
            |file| match file.name.rsplit_once('.').map(|(_, extension)| extension) {
                Some("tmp" | "deleted" | "cleaned") => true,
                Some("index" | "timeindex" | "txnindex") => {
                    parse_base_offset(&file.name).is_some_and(|base| !bases.contains(&base))
                }
                Some("snapshot") => {
                    parse_base_offset(&file.name).is_some_and(|offset| Some(offset) != snapshot)
                }
                _ => false,
            },
        )
        .map(|file| file.name.clone())
        .collect();
    (segments, leftovers)
}

/// The state that reading frames builds up.
pub(crate) struct Scanned {
    pub(crate) next_offset: i64,
    pub(crate) position: u64,
    pub(crate) index: IndexBuilder,
    /// Why the scan ended before the file did.
    pub(crate) damage: Option<String>,
}

/// Reads a segment from `position` on with checksums and notes what it holds. Offsets must be
/// `contiguous` unless the log is compacted.
pub(crate) fn scan(
    segment: &Segment,
    contiguous: bool,
    position: u64,
    next_offset: i64,
    index: IndexBuilder,
    replay: &mut Replay,
) -> Result<Scanned> {
    let file = segment.file()?;
    let len = file.len().context("measure", segment.path())?;
    let mut walker = Walker::new(
        &**file,
        segment.format(),
        Depth::Checksum,
        position,
        len,
        next_offset,
    )
    .contiguous(contiguous);
    let mut scanned = Scanned {
        next_offset,
        position,
        index,
        damage: None,
    };
    loop {
        match walker.step().context("read", segment.path())? {
            Step::Frame(frame) => {
                scanned.index.add(&frame);
                let aborted = replay
                    .take(segment.base_offset(), &mut walker, &frame)
                    .context("read", segment.path())?;
                if let Some(transaction) = aborted {
                    segment.note_aborted(&transaction);
                }
            }
            Step::End => break,
            Step::Bad { reason } => {
                scanned.damage = Some(reason);
                break;
            }
        }
        scanned.position = walker.position();
        scanned.next_offset = walker.next_offset();
    }
    Ok(scanned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, len: u64) -> DirEntry {
        DirEntry {
            name: name.to_owned(),
            len,
            is_dir: false,
        }
    }

    fn log(base: i64, len: u64) -> DirEntry {
        file(&format!("{base:020}.log"), len)
    }

    fn checkpoint(segment: i64, position: u64, log_start: i64) -> Found {
        Found::Whole(Checkpoint {
            recovery_point: segment + 1,
            segment,
            position,
            log_start,
            clean: false,
            ..Checkpoint::default()
        })
    }

    #[test]
    fn reads_from_the_recovery_point_on() {
        let files = [log(0, 100), log(10, 100), log(20, 50)];
        let plan = plan(&files, checkpoint(10, 60, 0)).unwrap();
        assert_eq!(
            (plan.segments.len(), plan.scan_from, plan.scan_position),
            (3, 1, 60)
        );
        assert!(plan.expired.is_empty() && plan.leftovers.is_empty());
    }

    #[test]
    fn drops_what_is_below_the_log_start() {
        let files = [log(0, 100), log(10, 100), log(20, 50)];
        let plan = plan(&files, checkpoint(20, 50, 10)).unwrap();
        assert_eq!(
            plan.expired,
            [FoundSegment {
                base_offset: 0,
                len: 100,
                has_aborted: false,
            }]
        );
        assert_eq!((plan.segments.len(), plan.scan_from), (2, 1));
    }

    #[test]
    fn refuses_what_was_synced_and_is_gone() {
        assert!(
            plan(&[log(0, 100)], checkpoint(0, 101, 0))
                .unwrap_err()
                .reason
                .contains("101")
        );
        assert!(
            plan(&[log(0, 100)], checkpoint(10, 0, 0))
                .unwrap_err()
                .reason
                .contains("missing")
        );
    }

    #[test]
    fn names_leftovers() {
        let files = [
            log(0, 1),
            file("00000000000000000007.index", 8),
            file("checkpoint.tmp", 1),
            file("notes.txt", 1),
        ];
        let plan = plan(&files, Found::Missing).unwrap();
        assert_eq!(
            plan.leftovers,
            ["00000000000000000007.index", "checkpoint.tmp"]
        );
    }
}
