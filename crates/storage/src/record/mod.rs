//! Record formats: Kafka's record batch v2 and DistributedLog's original message v1.
//!
//! This module turns records into bytes and back, and nothing else: it reads no file, no clock and
//! no configuration.
//!
//! # Record batch v2
//! All integers are big-endian; the magic byte stands where Kafka's older formats have theirs.
//!
//! | at | bytes | field | |
//! |---|---|---|---|
//! | 0 | 8 | base offset | of the first record; assigned by the log |
//! | 8 | 4 | batch length | of all that follows this field, at least 49 |
//! | 12 | 4 | partition leader epoch | assigned by the log |
//! | 16 | 1 | magic | 2 |
//! | 17 | 4 | CRC32C | of all that follows this field |
//! | 21 | 2 | attributes | bits 0–2 codec, 3 log append time, 4 transactional, 5 control, 6 delete horizon |
//! | 23 | 4 | last offset delta | of the last record, kept by compaction |
//! | 27 | 8 | base timestamp | Unix ms; the delete horizon if bit 6 is set |
//! | 35 | 8 | max timestamp | Unix ms; the log append time if bit 3 is set |
//! | 43 | 8 | producer id | −1: none |
//! | 51 | 2 | producer epoch | −1: none |
//! | 53 | 4 | base sequence | −1: none |
//! | 57 | 4 | record count | |
//! | 61 | … | records | compressed as one block if the codec is not 0 |
//!
//! What a record looks like stands in [`RecordSection`]'s module, variable-length integers in
//! [`varint`], control records in [`control`], message v1 in [`v1`].
//!
//! # Invariants
//! - No input makes this module panic, and none makes it allocate more than the bytes that are
//!   there justify, or than the caller's limit on decompressed bytes.
//! - A [`Batch`] has exactly the bytes that its header says.
//! - Reading shares bytes: keys, values and header values are slices of the batch.

mod batch;
mod builder;
mod codec;
mod compression;
pub mod control;
mod error;
mod format;
mod header;
mod iter;
mod recompress;
mod retain;
pub mod v1;
mod validate;
pub mod varint;

use bytes::Bytes;

pub use batch::Batch;
pub use builder::BatchBuilder;
pub use compression::Compression;
pub use error::{Fault, RecordError};
pub use format::{detect_format, detect_segment_format};
pub use header::{
    BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader, LOG_OVERHEAD_BYTES, NO_LEADER_EPOCH,
    NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, add_to_sequence,
    patch_base_offset_and_epoch, patch_max_timestamp,
};
pub use iter::{RecordRef, RecordRefs, RecordSection, Records};
pub use recompress::{Recompress, recompress, recompress_with};
pub(crate) use retain::{OpenBatch, Selection, write_empty};
pub use validate::{DeepFacts, DeepRules};

/// The most bytes that a batch's records may decompress to where the caller names no limit.
pub const DEFAULT_MAX_UNCOMPRESSED_BYTES: usize = 256 << 20;

/// Who sets the timestamps of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer, for each record.
    #[default]
    CreateTime,
    /// The broker, one for all records of a batch, when it takes them.
    LogAppendTime,
}

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Header {
    /// The key, UTF-8 by convention; several headers may have the same.
    pub key: Bytes,
    /// The value, if there is one.
    pub value: Option<Bytes>,
}

/// A record as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// Its position in the log.
    pub offset: i64,
    /// Its timestamp in Unix ms, set as the batch's [`TimestampType`] says.
    pub timestamp_ms: i64,
    /// The key, if it has one (an empty key is a key).
    pub key: Option<Bytes>,
    /// The value; none is a tombstone in a compacted topic (an empty value is a value).
    pub value: Option<Bytes>,
    /// The headers, in the order the producer gave them.
    pub headers: Vec<Header>,
}

/// CRC32C (Castagnoli), the checksum of both formats.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}
