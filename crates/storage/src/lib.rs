//! An embeddable commit log: append-only segments, checksummed batches, crash recovery.
//!
//! No network, no async runtime. A log is a folder; records get consecutive offsets; what was
//! acknowledged survives a crash.
//!
//! ```
//! use dlog_storage::{Log, LogConfig};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let log = Log::open(dir.path().join("events"), LogConfig::default())?;
//! let first = log.append(Some(b"key"), Some(b"hello"))?; // on the disk when this returns
//! log.append(None, Some(b"world"))?;
//! drop(log); // a crash: no close, no marker
//!
//! let log = Log::open(dir.path().join("events"), LogConfig::default())?;
//! let values: Vec<_> = log.read(first)?.map(|r| Ok(r?.value)).collect::<Result<_, dlog_storage::StorageError>>()?;
//! assert_eq!(values, [Some("hello".into()), Some("world".into())]);
//! log.close()?;
//! # Ok(()) }
//! ```
//!
//! What "acknowledged" means is chosen by [`FlushPolicy`]. The formats are described in [`record`],
//! the files of a folder in [`index`] and [`checkpoint`].

pub mod checkpoint;
mod compaction;
mod config;
pub mod disk;
mod error;
mod flush;
pub mod index;
mod leader_epoch;
mod log;
pub mod offline;
mod producer_state;
pub mod record;
mod recovery;
mod replay;
mod retention;
mod segment;
mod walk;

pub use compaction::{
    Candidate, Cleanable, CompactionEnd, CompactionMeter, CompactionOptions, CompactionReport,
    HashKey, Unhurried, choose as choose_to_compact,
};
pub use config::{CleanupPolicy, FlushPolicy, Format, LogConfig};
pub use error::{Result, StorageError};
pub use flush::{FlushObserver, Flusher};
pub use index::AbortedTransaction;
pub use log::{
    Acknowledged, AppendMode, Appended, BatchSpan, Clock, Committed, Cut, Listener, Log, LogCore,
    LogEnv, LogEvent, LogSlice, NewRecord, ReadLimit, Records, RecoveryReport, RetentionReport,
    SliceBytes, TimestampOffset, lock_dir,
};
pub use producer_state::{EndMarker, OpenTransaction, ProducerSummary, VerificationGuard};
