//! Indexes of aborted transactions, offline: shown, and compared with the markers in the segments.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, RealDisk, read_file};
use crate::error::{IoContext, Result, StorageError};
use crate::index::{ABORTED_ENTRY_BYTES, AbortedTransaction, IndexPaths};
use crate::segment::Segment;

/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 30;

/// The entries of a `.txnindex` file.
///
/// # Errors
/// An I/O error, or [`StorageError::Damaged`] at the first bytes that are no entry.
pub fn aborted_transactions(path: &Path) -> Result<Vec<AbortedTransaction>> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let bytes = read_file(&*disk, path, MAX_BYTES).context("read", path)?;
    decode(path, &bytes)
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Vec<AbortedTransaction>> {
    let (entries, rest) = bytes.as_chunks::<ABORTED_ENTRY_BYTES>();
    let damaged = |entries: usize, reason: &str| StorageError::Damaged {
        path: path.to_path_buf(),
        position: (entries * ABORTED_ENTRY_BYTES) as u64,
        reason: reason.to_owned(),
    };
    let mut all: Vec<AbortedTransaction> = Vec::with_capacity(entries.len());
    for entry in entries {
        let found = AbortedTransaction::decode(entry);
        let follows = |found: &AbortedTransaction| {
            all.last()
                .is_none_or(|before| before.last_offset < found.last_offset)
        };
        match found.filter(follows) {
            Some(found) => all.push(found),
            None => return Err(damaged(all.len(), "it holds no aborted transaction here")),
        }
    }
    if rest.is_empty() {
        Ok(all)
    } else {
        Err(damaged(all.len(), "its last entry is cut short"))
    }
}

/// What is wrong with a segment's index, given the transactions that its markers aborted. Where the
/// segments in which a transaction began are gone, it may begin earlier than can be seen.
pub(super) fn fault(
    disk: &dyn Disk,
    segment: &Segment,
    expected: &[AbortedTransaction],
) -> Option<String> {
    let path = IndexPaths::of(segment.path()).aborted;
    let found = match read_file(disk, &path, MAX_BYTES) {
        Ok(bytes) => match decode(&path, &bytes) {
            Ok(found) => found,
            Err(error) => return Some(error.to_string()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Some(format!("{} cannot be read: {error}", path.display())),
    };
    let agrees = |marker: &AbortedTransaction| {
        let at = found.binary_search_by_key(&marker.last_offset, |entry| entry.last_offset);
        at.is_ok_and(|at| {
            found[at].producer_id == marker.producer_id
                && found[at].first_offset <= marker.first_offset
        })
    };
    let missing = expected.iter().filter(|marker| !agrees(marker)).count();
    (missing > 0).then(|| {
        format!(
            "{} lacks {missing} of {} aborted transactions",
            path.display(),
            expected.len()
        )
    })
}
