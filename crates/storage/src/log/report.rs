//! What opening a log found and did, for whoever opened it and for the log of the program.

use std::path::{Path, PathBuf};

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The log was closed in order: nothing had to be read.
    pub clean: bool,
    /// First offset that was read again.
    pub recovery_point: i64,
    /// Bytes that were read again and found whole.
    pub scanned_bytes: u64,
    /// Where the log was cut, if it was.
    pub cut: Option<Cut>,
    /// Names of leftovers of interrupted work that were removed.
    pub leftovers: Vec<String>,
    /// The checkpoint was missing or unreadable although there were segments.
    pub checkpoint_lost: bool,
}

/// A torn tail that recovery removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment file.
    pub path: PathBuf,
    /// Where it was cut.
    pub position: u64,
    /// Offset that the next record gets.
    pub next_offset: i64,
    /// Bytes removed, of this and later segments.
    pub bytes: u64,
    /// What was wrong with them.
    pub reason: String,
}

/// Says what is worth knowing.
pub(super) fn log_report(dir: &Path, report: &RecoveryReport) {
    if let Some(cut) = &report.cut {
        tracing::warn!(
            path = %cut.path.display(), position = cut.position, bytes = cut.bytes,
            next_offset = cut.next_offset, reason = %cut.reason, "cut a torn tail"
        );
    }
    if report.checkpoint_lost {
        tracing::warn!(dir = %dir.display(), "no usable checkpoint: the whole log was read");
    }
    if report.scanned_bytes > 0 {
        tracing::info!(dir = %dir.display(), bytes = report.scanned_bytes, "recovered");
    }
}
