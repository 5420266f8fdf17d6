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

/// Says what recovery did, once, and loudly when bytes were cut.
pub(super) fn log_report(dir: &Path, report: &RecoveryReport) {
    let dir = dir.display();
    if let Some(cut) = &report.cut {
        tracing::warn!(%dir, segment = %cut.path.display(), position = cut.position, bytes = cut.bytes, next_offset = cut.next_offset, reason = %cut.reason, "a torn tail was cut: records that were never acknowledged as durable");
    } else if report.checkpoint_lost {
        tracing::warn!(%dir, scanned_bytes = report.scanned_bytes, "the checkpoint was missing; the whole log was read and is sound");
    } else if report.clean {
        tracing::debug!(%dir, "log opened");
    } else if report.scanned_bytes > 0 || !report.leftovers.is_empty() {
        tracing::info!(%dir, recovery_point = report.recovery_point, scanned_bytes = report.scanned_bytes, leftovers = report.leftovers.len(), "log recovered");
    }
}
