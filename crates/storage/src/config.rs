//! Settings of one log. Names and defaults follow Apache Kafka's topic settings.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Result, StorageError};
use crate::record::{Compression, TimestampType};

/// When an append counts as acknowledged, that is, what a power loss can take back.
///
/// | policy | acknowledged means | a power loss can take |
/// |---|---|---|
/// | `Always` | on the disk | nothing acknowledged |
/// | `Messages(n)` | fewer than `n` records are not yet on the disk | the last `n - 1` records |
/// | `Interval(t)` | in the page cache, a flush within `t` | what the last `t` brought |
/// | `Os` | in the page cache | what the operating system had not yet written |
///
/// A killed process loses nothing acknowledged under any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushPolicy {
    /// Flush before every acknowledgement; appends that wait together share one flush.
    Always,
    /// At most this many records are acknowledged or pending without having been flushed.
    Messages(u64),
    /// Flush at least this often while there is something to flush.
    Interval(Duration),
    /// Leave it to the operating system.
    Os,
}

impl FlushPolicy {
    /// First offset that must be durable before a record with offset `last_offset` is acknowledged.
    pub(crate) fn durable_end_for(self, last_offset: i64) -> i64 {
        match self {
            Self::Always => last_offset + 1,
            Self::Messages(n) => last_offset
                .saturating_add(2)
                .saturating_sub_unsigned(n.max(1)),
            Self::Interval(_) | Self::Os => i64::MIN,
        }
    }
}

impl FromStr for FlushPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("{text:?} is no flush policy: use always, messages:N, interval:Tms or os");
        match text.split_once(':') {
            None if text == "always" => Ok(Self::Always),
            None if text == "os" => Ok(Self::Os),
            Some(("messages", n)) => match n.parse() {
                Ok(n) if n > 0 => Ok(Self::Messages(n)),
                _ => Err(expected()),
            },
            Some(("interval", t)) => match t.strip_suffix("ms").unwrap_or(t).parse() {
                Ok(ms) if ms > 0 => Ok(Self::Interval(Duration::from_millis(ms))),
                _ => Err(expected()),
            },
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for FlushPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Messages(n) => write!(f, "messages:{n}"),
            Self::Interval(t) => write!(f, "interval:{}ms", t.as_millis()),
            Self::Os => f.write_str("os"),
        }
    }
}

/// Which format a new segment gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One message after the other, offsets implicit: the original DistributedLog's format.
    V1,
    /// Kafka record batches v2.
    #[default]
    V2,
}

/// What becomes of old records. Both may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Delete whole segments by age and size.
    pub delete: bool,
    /// Keep the latest value of each key.
    pub compact: bool,
}

impl Default for CleanupPolicy {
    fn default() -> Self {
        Self {
            delete: true,
            compact: false,
        }
    }
}

/// Settings of one log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// Roll the active segment before it grows beyond this many bytes (`segment.bytes`).
    pub segment_bytes: u64,
    /// Roll the active segment when its first record is this old, in ms (`segment.ms`).
    pub segment_age_ms: i64,
    /// Bytes of log per offset-index entry (`index.interval.bytes`).
    pub index_interval_bytes: u32,
    /// Roll when the offset index has this many bytes (`segment.index.bytes`).
    pub max_index_bytes: u32,
    /// When an append counts as acknowledged.
    pub flush: FlushPolicy,
    /// Delete segments whose youngest record is older than this, in ms; `None` keeps them.
    pub retention_ms: Option<i64>,
    /// Delete the oldest segments while the log is larger than this; `None` keeps them.
    pub retention_bytes: Option<u64>,
    /// What becomes of old records.
    pub cleanup: CleanupPolicy,
    /// Keep tombstones of a compacted log this long after they were first kept, in ms
    /// (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// Leave records as they are for at least this long, in ms (`min.compaction.lag.ms`).
    pub min_compaction_lag_ms: i64,
    /// Compact records that are older than this, however few they are, in ms
    /// (`max.compaction.lag.ms`).
    pub max_compaction_lag_ms: i64,
    /// Compact when more than this share of the bytes is dirty (`min.cleanable.dirty.ratio`).
    pub min_cleanable_dirty_ratio: f64,
    /// Write at most this many zeros ahead of appends: of small ones under `FlushPolicy::Always` and
    /// `Messages`, so that a flush need not write file-system metadata; of all under the others, so
    /// that the page cache holds the log in large folios. 0 turns it off.
    pub zero_ahead_bytes: u32,
    /// Move the recovery point after this many bytes: what a restart after a crash reads again.
    pub checkpoint_bytes: u64,
    /// Most producers with idempotence state to remember; the longest idle ones without an open
    /// transaction are forgotten beyond that. 0 remembers all, until they expire.
    pub max_producers: u32,
    /// Format of new segments.
    pub format: Format,
    /// Codec of batches that [`crate::LogCore::append`] builds.
    pub compression: Compression,
    /// Timestamp type of batches that [`crate::LogCore::append`] builds.
    pub timestamp_type: TimestampType,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_age_ms: 7 * 24 * 3600 * 1000,
            index_interval_bytes: 4096,
            max_index_bytes: 10 << 20,
            flush: FlushPolicy::Always,
            retention_ms: Some(7 * 24 * 3600 * 1000),
            retention_bytes: None,
            cleanup: CleanupPolicy::default(),
            delete_retention_ms: 24 * 3600 * 1000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
            zero_ahead_bytes: 256 << 10,
            checkpoint_bytes: 64 << 20,
            max_producers: 200_000,
            format: Format::V2,
            compression: Compression::None,
            timestamp_type: TimestampType::CreateTime,
        }
    }
}

impl LogConfig {
    /// Age at which the active segment is rolled over, in ms: the active segment is never compacted, so
    /// what may not wait longer must leave it (KIP-354).
    pub(crate) fn max_segment_age_ms(&self) -> i64 {
        if self.cleanup.compact && self.max_compaction_lag_ms > 0 {
            self.segment_age_ms.min(self.max_compaction_lag_ms)
        } else {
            self.segment_age_ms
        }
    }

    /// Checks that the settings can work together.
    ///
    /// # Errors
    /// [`StorageError::InvalidConfig`] naming the setting and what is allowed.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, name: &'static str, reason: &str| {
            if ok {
                Ok(())
            } else {
                Err(StorageError::InvalidConfig {
                    name,
                    reason: reason.to_owned(),
                })
            }
        };
        let max_segment = i32::MAX as u64;
        check(
            (128..=max_segment).contains(&self.segment_bytes),
            "segment.bytes",
            "must lie between 128 and 2147483647",
        )?;
        check(self.segment_age_ms >= 1, "segment.ms", "must be at least 1")?;
        check(
            self.max_index_bytes >= 8,
            "segment.index.bytes",
            "must be at least 8",
        )?;
        check(
            self.retention_ms.is_none_or(|ms| ms >= 0),
            "retention.ms",
            "must be at least 0, or absent",
        )?;
        check(
            self.checkpoint_bytes >= 4096,
            "checkpoint.bytes",
            "must be at least 4096",
        )?;
        let messages = !matches!(self.flush, FlushPolicy::Messages(0));
        check(messages, "flush.messages", "must be at least 1")
    }
}
