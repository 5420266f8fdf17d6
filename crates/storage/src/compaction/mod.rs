//! Log compaction: the latest value of each key, without changing an offset (KIP-58, KIP-354, KIP-534).
//!
//! What is decided lives apart from what is done:
//!
//! | file | what it is |
//! |---|---|
//! | `range` | which log next, how far, which segments together: decisions |
//! | `keep` | which records and batches stay: decisions |
//! | `txn` | which batches were aborted, which markers mark nothing: a state machine |
//! | `map` | the newest offset of each key, in bounded memory |
//! | `pass` | one run: fills the map, rewrites groups of segments |
//! | `output`, `v1` | the segment that is written; messages of format v1 on their way into it |
//! | `swap` | the steps on the disk that put it in its place |
//! | `discard` | frees what was there before |
//!
//! `log::compact` drives it beside appends, fetches and trims.
//!
//! Invariants: offsets never change; the active segment and everything from the last stable offset on is
//! left alone; nothing is dropped that could not be read; no lock that appends or fetches take is held
//! while the disk is waited for.

mod discard;
mod keep;
mod map;
mod output;
mod pass;
mod range;
pub(crate) mod swap;
mod txn;
mod v1;

use std::time::Duration;

pub use map::HashKey;
pub use range::{Candidate, Cleanable, choose};

pub(crate) use discard::Discard;
pub(crate) use keep::{LastOfProducer, Rules};
pub(crate) use map::OffsetMap;
pub(crate) use output::Written;
pub(crate) use pass::{Input, Pass};
pub(crate) use range::{Bounds, GroupLimits, SegmentView, cleanable, overdue};
pub(crate) use txn::Transactions;

/// How a run works; see [`crate::LogCore::compact`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionOptions {
    /// Memory for the offsets of keys, in bytes: 24 for each (`log.cleaner.dedupe.buffer.size`).
    pub map_bytes: usize,
    /// Share of it that may be filled (`log.cleaner.io.buffer.load.factor`).
    pub map_load_factor: f64,
    /// Secret of the hashes of keys.
    pub hash_key: HashKey,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        Self {
            map_bytes: 128 << 20,
            map_load_factor: 0.9,
            hash_key: [0; 2],
        }
    }
}

/// Sets the pace of runs, and ends them.
pub trait CompactionMeter: Send + Sync {
    /// Hears of bytes that were read or written, or a part of those to be freed; says how long to wait before
    /// the next. It is asked again while that time passes, with 0 bytes.
    fn spent(&self, bytes: u64) -> Duration;
    /// Whether the disk may read ahead of what is asked for, as far as the system thinks fit, at the pace
    /// that was decided last, and free a whole file at once. Whoever else uses the disk waits for that.
    fn reads_ahead(&self) -> bool {
        true
    }
    /// Whether the run shall end before it is complete.
    fn is_stopped(&self) -> bool;
}

/// As fast as possible, to the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unhurried;

impl CompactionMeter for Unhurried {
    fn spent(&self, _bytes: u64) -> Duration {
        Duration::ZERO
    }

    fn is_stopped(&self) -> bool {
        false
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompactionEnd {
    /// There was nothing to compact, or another run is at it.
    #[default]
    Nothing,
    /// All that was in reach is compacted.
    Complete,
    /// The map was full before the end of what could be compacted: another run goes on from there.
    MapFull,
    /// It was told to stop, or a truncation, retention or delete-records took segments away under it;
    /// what was replaced until then stays replaced.
    Interrupted,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// How it ended.
    pub end: CompactionEnd,
    /// Records before this offset are compacted now.
    pub compacted_before: i64,
    /// Bytes read, those of dirty segments twice.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Bytes of segments that lose nothing and so were not written.
    pub bytes_unchanged: u64,
    /// Records read (to decide what becomes of them).
    pub records_read: u64,
    /// Records kept.
    pub records_kept: u64,
    /// Segments before the run.
    pub segments_before: usize,
    /// Segments that they became.
    pub segments_after: usize,
    /// Bytes of these segments before the run.
    pub bytes_before: u64,
    /// Bytes of what they became.
    pub bytes_after: u64,
}
