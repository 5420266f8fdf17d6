//! Which leader epoch begins at which offset (KIP-101), kept in `leader-epoch-checkpoint` as Kafka
//! does: a version line `0`, the number of entries, then `epoch start-offset` a line.
//!
//! Pure apart from reading and writing that file. Invariant: epochs and start offsets both ascend.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, read_file, replace_file_named};
use crate::error::{IoContext, Result};

const FILE_NAME: &str = "leader-epoch-checkpoint";

/// One epoch and the first offset that its leader wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// Leader epoch.
    pub epoch: i32,
    /// First offset of that epoch.
    pub start_offset: i64,
}

/// The epochs of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    starts: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// Notes that a batch of `epoch` begins at `offset`; true when the epoch is new.
    pub(crate) fn note(&mut self, epoch: i32, offset: i64) -> bool {
        if epoch < 0 || self.starts.last().is_some_and(|last| last.epoch >= epoch) {
            return false;
        }
        // An epoch that began where this one begins never wrote anything.
        self.starts.retain(|start| start.start_offset < offset);
        self.starts.push(EpochStart {
            epoch,
            start_offset: offset,
        });
        true
    }

    pub(crate) fn latest(&self) -> Option<EpochStart> {
        self.starts.last().copied()
    }

    /// Epoch of the record at `offset`.
    pub(crate) fn epoch_at(&self, offset: i64) -> Option<i32> {
        let after = self
            .starts
            .partition_point(|start| start.start_offset <= offset);
        after.checked_sub(1).map(|i| self.starts[i].epoch)
    }

    /// The largest epoch at or below `epoch`, and where it ended (KIP-101, KIP-279). An epoch before all
    /// known ones ended where the first of those begins. `None` for one that is newer than all known
    /// ones: what it holds is not in this log yet.
    pub(crate) fn end_offset(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        if epoch < 0 {
            return None;
        }
        let after = self.starts.partition_point(|start| start.epoch <= epoch);
        let found = after.checked_sub(1).map(|at| self.starts[at].epoch);
        match self.starts.get(after) {
            Some(next) => Some((found.unwrap_or(epoch), next.start_offset)),
            None if found == Some(epoch) => Some((epoch, log_end)),
            None => None,
        }
    }

    /// Forgets epochs that begin at or after `offset`.
    pub(crate) fn truncate_from_end(&mut self, offset: i64) {
        self.starts.retain(|start| start.start_offset < offset);
    }

    /// Forgets epochs that ended before `offset`; the one that holds it begins there.
    pub(crate) fn truncate_from_start(&mut self, offset: i64) {
        let ended = self
            .starts
            .partition_point(|start| start.start_offset <= offset);
        if let Some(kept) = ended.checked_sub(1) {
            self.starts.drain(..kept);
            self.starts[0].start_offset = offset;
        }
    }

    pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Self> {
        let path = path(dir);
        match read_file(disk, &path, 64 << 20) {
            // What cannot be parsed is rebuilt from the batches that recovery reads.
            Ok(bytes) => Ok(Self::decode(&bytes).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).context("read", &path),
        }
    }

    pub(crate) fn store(&self, disk: &dyn Disk, dir: &Path) -> Result<()> {
        replace_file_named(disk, &path(dir), self.encode().as_bytes())
    }

    fn encode(&self) -> String {
        let lines: String = self
            .starts
            .iter()
            .map(|s| format!("{} {}\n", s.epoch, s.start_offset))
            .collect();
        format!("0\n{}\n{lines}", self.starts.len())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = str::from_utf8(bytes).ok()?.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let mut epochs = Self::default();
        for line in lines.by_ref().take(count) {
            let (epoch, offset) = line.split_once(' ')?;
            let start = EpochStart {
                epoch: epoch.parse().ok()?,
                start_offset: offset.parse().ok()?,
            };
            let ascends = epochs.latest().is_none_or(|last| {
                last.epoch < start.epoch && last.start_offset < start.start_offset
            });
            if !ascends {
                return None;
            }
            epochs.starts.push(start);
        }
        (epochs.starts.len() == count).then_some(epochs)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_where_an_epoch_ended() {
        let mut epochs = LeaderEpochs::default();
        assert!(epochs.note(0, 0));
        assert!(!epochs.note(0, 5));
        assert!(epochs.note(2, 10));
        assert!(epochs.note(5, 20));
        assert_eq!(epochs.end_offset(0, 30), Some((0, 10)));
        assert_eq!(epochs.end_offset(3, 30), Some((2, 20)));
        assert_eq!(epochs.end_offset(5, 30), Some((5, 30)));
        assert_eq!(epochs.end_offset(9, 30), None);
        assert_eq!(epochs.end_offset(-1, 30), None);
        assert_eq!(epochs.epoch_at(19), Some(2));
        assert_eq!(
            LeaderEpochs::decode(epochs.encode().as_bytes()),
            Some(epochs.clone())
        );
        epochs.truncate_from_end(20);
        assert_eq!(epochs.latest().map(|start| start.epoch), Some(2));
        epochs.truncate_from_start(12);
        assert_eq!(epochs.end_offset(2, 30), Some((2, 30)));
        assert_eq!(epochs.end_offset(1, 30), Some((1, 12)));
        assert_eq!(epochs.epoch_at(11), None);
    }
}
