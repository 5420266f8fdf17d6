//! Rebuilds a batch with another codec, or with a log append time.

use bytes::Bytes;

use super::header::BATCH_HEADER_BYTES;
use super::{
    Batch, BatchHeader, Compression, DEFAULT_MAX_UNCOMPRESSED_BYTES, RecordError, TimestampType,
    builder, codec,
};

/// What [`recompress_with`] shall make of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recompress {
    /// The codec of the new batch.
    pub to: Compression,
    /// The codec's level, or its default.
    pub level: Option<i32>,
    /// The log append time of all records in Unix ms; none keeps their create times.
    pub log_append_time_ms: Option<i64>,
    /// The most that the records may decompress to.
    pub max_uncompressed_bytes: usize,
}

/// Rebuilds `batch` with another codec; see [`recompress_with`].
///
/// # Errors
/// As [`recompress_with`].
pub fn recompress(
    batch: &Batch,
    to: Compression,
    level: Option<i32>,
) -> Result<Bytes, RecordError> {
    let how = Recompress {
        to,
        level,
        log_append_time_ms: None,
        max_uncompressed_bytes: DEFAULT_MAX_UNCOMPRESSED_BYTES,
    };
    recompress_with(batch, &how)
}

/// Rebuilds `batch` with another codec and, if asked for, a log append time.
///
/// Offsets, their deltas, the leader epoch, the producer's fields, the other attributes and the
/// encoded records stay as they are; the maximum timestamp becomes that of the records. Every
/// record is read, so a batch that comes out is sound inside.
///
/// # Errors
/// Whatever [`Batch::section`] or a record of it reports, [`RecordError::BadLevel`],
/// [`RecordError::Compress`], [`RecordError::TooLarge`].
pub fn recompress_with(batch: &Batch, how: &Recompress) -> Result<Bytes, RecordError> {
    let old = batch.header();
    let section = batch.section(how.max_uncompressed_bytes)?;
    let mut max_timestamp = i64::MIN;
    for record in section.refs() {
        max_timestamp = max_timestamp.max(record?.timestamp_ms);
    }
    let (timestamp_type, max_timestamp) = match how.log_append_time_ms {
        Some(time_ms) => (TimestampType::LogAppendTime, time_ms),
        None if old.record_count == 0 => (old.timestamp_type(), old.max_timestamp),
        None => (old.timestamp_type(), max_timestamp),
    };
    let header = BatchHeader {
        attributes: old.attributes_with(how.to, timestamp_type),
        max_timestamp,
        ..*old
    };
    let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES + section.bytes().len());
    bytes.resize(BATCH_HEADER_BYTES, 0);
    codec::compress(how.to, how.level, section.bytes(), &mut bytes)?;
    builder::seal(header, bytes)
}
