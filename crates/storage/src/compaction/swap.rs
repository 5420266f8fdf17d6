//! Putting one compacted segment in the place of several, so that a crash leaves one or the others.
//!
//! | step | on the disk | a crash after it leaves |
//! |---|---|---|
//! | 1 | `{base}.log.cleaned` is written and synced | the old segments, and a leftover |
//! | 2 | renamed to `{base}.{end}.swap`, folder synced | **the new segment**: the next open goes on with step 3 |
//! | 3 | the old segments' files but the first's log are removed, and the indexes; folder synced | the same |
//! | 4 | renamed to `{base}.log` | the new segment, under one name or the other |
//!
//! As in Kafka there is a name (`.swap`) that says "this one counts"; unlike Kafka's it also says up to
//! which offset (`end`, exclusive) it replaces segments, so that what to remove follows from the names
//! alone, without reading a file, and also when the new segment is empty or its last records went. The
//! folder is synced between 3 and 4, or the new name could survive a power loss that brings an old
//! segment back, with no name left that tells. Segments are replaced in ascending order, on the disk too: the
//! folder is synced before the next ones count. A tombstone may go only when the older values of its key are
//! gone for good. The new name itself needs no sync of its own: until the next one comes, the next open
//! finds step 4 done or not.

use std::path::Path;

use crate::disk::{DirEntry, Disk};
use crate::error::{IoContext, Result};
use crate::segment::{log_file_name, parse_base_offset, remove_all_indexes, remove_segment_files};

/// A replacement that was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Swap {
    /// Base offset of the first old segment and of the new one.
    pub(crate) base: i64,
    /// Base offset of the segment behind the last old one.
    pub(crate) end: i64,
}

impl Swap {
    /// Name of a segment that is being written.
    pub(crate) fn cleaned_name(base: i64) -> String {
        format!("{}.cleaned", log_file_name(base))
    }

    /// Name of the new segment once it counts.
    pub(crate) fn name(self) -> String {
        format!("{:020}.{:020}.swap", self.base, self.end)
    }

    fn parse(name: &str) -> Option<Self> {
        let base = parse_base_offset(name)?;
        let end = parse_base_offset(name.split_once('.')?.1)?;
        let swap = Self { base, end };
        (swap.name() == name && base < end).then_some(swap)
    }

    fn replaces(self, base: i64) -> bool {
        (self.base..self.end).contains(&base)
    }
}

/// The replacements that a crash interrupted, ascending.
pub(crate) fn pending(files: &[DirEntry]) -> Vec<Swap> {
    let names = files.iter().filter(|file| !file.is_dir);
    let mut swaps: Vec<_> = names.filter_map(|file| Swap::parse(&file.name)).collect();
    swaps.sort_by_key(|swap| swap.base);
    swaps
}

/// The base offsets of the segments that a replacement takes away.
fn replaced(files: &[DirEntry], swap: Swap) -> Vec<i64> {
    let logs = files.iter().filter(|file| !file.is_dir);
    logs.filter(|file| file.name.ends_with(".log"))
        .filter_map(|file| parse_base_offset(&file.name))
        .filter(|base| swap.replaces(*base))
        .collect()
}

/// The segments as they are once every pending replacement is done: names, base offsets and sizes.
pub(crate) fn settled_segments(files: &[DirEntry]) -> Vec<(String, i64, u64)> {
    let swaps = pending(files);
    let mut segments: Vec<_> = files
        .iter()
        .filter(|file| !file.is_dir)
        .filter_map(|file| {
            if let Some(swap) = Swap::parse(&file.name) {
                return Some((file.name.clone(), swap.base, file.len));
            }
            let base = parse_base_offset(&file.name).filter(|_| file.name.ends_with(".log"))?;
            let stays = !swaps.iter().any(|swap| swap.replaces(base));
            stays.then(|| (file.name.clone(), base, file.len))
        })
        .collect();
    segments.sort_by_key(|(_, base, _)| *base);
    segments
}

/// Does steps 3 and 4 for every replacement that a crash interrupted; true when there was one.
pub(crate) fn finish_pending(disk: &dyn Disk, dir: &Path, files: &[DirEntry]) -> Result<bool> {
    let swaps = pending(files);
    if !swaps.is_empty() {
        // A killed process may have left names that no sync covers yet: the new segment must surely be
        // there before an old one goes.
        disk.sync_dir(dir).context("sync", dir)?;
    }
    for swap in &swaps {
        tracing::info!(dir = %dir.display(), base = swap.base, end = swap.end, "finishing the replacement of segments by a compacted one");
        finish(disk, dir, *swap, &replaced(files, *swap))?;
    }
    Ok(!swaps.is_empty())
}

/// Step 2: from here on the new segment counts.
pub(crate) fn commit(disk: &dyn Disk, dir: &Path, swap: Swap) -> Result<()> {
    let cleaned = dir.join(Swap::cleaned_name(swap.base));
    disk.rename(&cleaned, &dir.join(swap.name()))
        .context("rename", &cleaned)?;
    disk.sync_dir(dir).context("sync", dir)
}

/// Steps 3 and 4, given the base offsets of the old segments.
pub(crate) fn finish(disk: &dyn Disk, dir: &Path, swap: Swap, old: &[i64]) -> Result<()> {
    for base in old {
        let log = dir.join(log_file_name(*base));
        if *base == swap.base {
            // Renaming replaces it.
            remove_all_indexes(disk, &log)?;
        } else {
            remove_segment_files(disk, &log)?;
        }
    }
    disk.sync_dir(dir).context("sync", dir)?;
    let from = dir.join(swap.name());
    disk.rename(&from, &dir.join(log_file_name(swap.base)))
        .context("rename", &from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_replaced() {
        let file = |name: &str| DirEntry {
            name: name.to_owned(),
            len: 7,
            is_dir: false,
        };
        let swap = Swap { base: 10, end: 40 };
        let files = [
            file(&log_file_name(0)),
            file(&log_file_name(10)),
            file(&swap.name()),
            file(&log_file_name(30)),
            file(&log_file_name(40)),
            file("00000000000000000030.index"),
            file("00000000000000000040.00000000000000000040.swap"),
            file("40.50.swap"),
            file(&Swap::cleaned_name(40)),
        ];
        assert_eq!(pending(&files), [swap]);
        assert_eq!(replaced(&files, swap), [10, 30]);
        let names: Vec<_> = settled_segments(&files).into_iter().map(|s| s.0).collect();
        assert_eq!(names, [log_file_name(0), swap.name(), log_file_name(40)]);
    }
}
