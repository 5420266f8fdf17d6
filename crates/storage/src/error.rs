//! The one error type of the storage engine; every variant names what was touched and the way out.

use std::io;
use std::path::{Path, PathBuf};

use crate::record::RecordError;

/// Result of a storage operation.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// What can go wrong in the storage engine.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A file-system call failed; nothing was acknowledged because of it.
    #[error("cannot {operation} {path}: {source}{}", io_hint(source))]
    Io {
        /// What was attempted, as a verb ("open", "append to").
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Another process (or another `Log` in this one) has this folder open.
    #[error(
        "{dir} is in use by another process: stop it, or choose another data folder (one process owns a folder)"
    )]
    Locked {
        /// The locked folder.
        dir: PathBuf,
    },
    /// Bytes below the recovery point are not what was written. Nothing was cut.
    #[error(
        "{path} is damaged at byte {position}: {reason}; nothing was changed. Restore the file from a backup or a replica, or inspect it with `dlog log verify`"
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// Byte position of the first damaged batch.
        position: u64,
        /// What was found there.
        reason: String,
    },
    /// The offset is not (or no longer) in the log.
    #[error("offset {requested} is out of range: the log holds [{start}, {end})")]
    OffsetOutOfRange {
        /// The offset asked for.
        requested: i64,
        /// First offset that can be read.
        start: i64,
        /// First offset that cannot be read yet.
        end: i64,
    },
    /// An earlier I/O error took the folder offline. Failed flushes are never retried, since the
    /// kernel may have dropped the dirty pages ("fsyncgate").
    #[error("{dir} is offline after an I/O error ({cause}): reopen it once the disk is sound")]
    Offline {
        /// The folder.
        dir: PathBuf,
        /// The first error.
        cause: String,
    },
    /// The log was closed.
    #[error("{dir} is closed")]
    Closed {
        /// The folder.
        dir: PathBuf,
    },
    /// A batch or message that cannot be parsed or fails its checksum.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A batch does not fit into a segment of the configured size.
    #[error("a batch of {bytes} bytes does not fit into a segment of {limit} bytes")]
    TooLarge {
        /// Size of the batch.
        bytes: u64,
        /// Largest size that fits.
        limit: u64,
    },
    /// A producer's sequence number is not the next one (KIP-98).
    #[error(
        "producer {producer_id} sent sequence {got} where {expected} was expected: a batch before it was lost or reordered"
    )]
    OutOfOrderSequence {
        /// Producer id.
        producer_id: i64,
        /// Sequence received.
        got: i32,
        /// Sequence expected.
        expected: i32,
    },
    /// A producer with a newer epoch exists: the sender is a zombie (KIP-98).
    #[error("producer {producer_id} has epoch {got} but epoch {current} is current: it is fenced")]
    ProducerFenced {
        /// Producer id.
        producer_id: i64,
        /// Epoch received.
        got: i16,
        /// Epoch known.
        current: i16,
    },
    /// A newer transaction coordinator wrote an end marker of this producer: the one that asks is a
    /// zombie (KIP-98).
    #[error(
        "a coordinator of epoch {current} ended a transaction of producer {producer_id}: one of epoch {got} is fenced"
    )]
    CoordinatorFenced {
        /// Producer id.
        producer_id: i64,
        /// Coordinator epoch received.
        got: i32,
        /// Coordinator epoch known.
        current: i32,
    },
    /// A producer's batch does not fit the state of its transaction (KIP-98, KIP-890).
    #[error("producer {producer_id}: {reason}")]
    InvalidTxnState {
        /// Producer id.
        producer_id: i64,
        /// What does not fit.
        reason: String,
    },
    /// A setting that cannot work.
    #[error("invalid setting {name}: {reason}")]
    InvalidConfig {
        /// Name of the setting.
        name: &'static str,
        /// Why, and what is allowed.
        reason: String,
    },
}

impl StorageError {
    /// Wraps an I/O error with what was attempted on which path.
    pub fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_path_buf(),
            source,
        }
    }

    /// Whether the disk (or quota) is full: retriable once space is freed.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

impl StorageError {
    /// Whether a sync failed: what is on the disk is unknown, and trying again would not tell.
    pub(crate) fn is_failed_sync(&self) -> bool {
        matches!(
            self,
            Self::Io {
                operation: "sync",
                ..
            }
        )
    }
}

fn io_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => {
            " (free space or lower retention; reads and deletes go on, nothing acknowledged is lost)"
        }
        io::ErrorKind::PermissionDenied => " (check the owner and mode of the data folder)",
        io::ErrorKind::ReadOnlyFilesystem => " (the file system is mounted read-only)",
        _ => "",
    }
}

/// Attaches the attempted operation and the path to an I/O result.
pub(crate) trait IoContext<T> {
    /// Turns an [`io::Error`] into [`StorageError::Io`].
    fn context(self, operation: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| StorageError::io(operation, path, source))
    }
}
