//! What a broker checks before it takes a producer's batch.

use std::ops::RangeInclusive;

use super::{
    Batch, DEFAULT_MAX_UNCOMPRESSED_BYTES, NO_TIMESTAMP, RecordError, TimestampType, iter,
};

/// What [`Batch::validate_deep`] checks beyond the format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeepRules {
    /// The most that the records may decompress to.
    pub max_uncompressed_bytes: usize,
    /// Whether every record must have a key, as in a compacted topic.
    pub require_keys: bool,
    /// The accepted timestamps in Unix ms; [`NO_TIMESTAMP`] is always accepted.
    pub timestamps_ms: Option<RangeInclusive<i64>>,
}

impl Default for DeepRules {
    fn default() -> Self {
        Self {
            max_uncompressed_bytes: DEFAULT_MAX_UNCOMPRESSED_BYTES,
            require_keys: false,
            timestamps_ms: None,
        }
    }
}

/// What [`Batch::validate_deep`] learned about the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeepFacts {
    /// The largest timestamp of the records in Unix ms; the header's may be wrong, and
    /// [`patch_max_timestamp`](super::patch_max_timestamp) puts it right.
    pub max_timestamp_ms: i64,
    /// The offset of the first record with the largest timestamp.
    pub offset_of_max_timestamp: i64,
    /// Bytes of all records before compression.
    pub uncompressed_bytes: usize,
    /// Bytes of the largest record before compression.
    pub largest_record_bytes: usize,
}

impl Batch {
    /// Checks what the header alone shows of a producer's batch: that it has as many records as
    /// offsets and at least one, that it is no control batch, that the timestamps are the
    /// producer's, that sequences and transactions have a producer id, and that the codec exists.
    ///
    /// # Errors
    /// [`RecordError::NotAllowed`], [`RecordError::Inconsistent`], [`RecordError::BadTimestamp`],
    /// [`RecordError::UnknownCompression`].
    pub fn validate_from_producer(&self) -> Result<(), RecordError> {
        let header = self.header();
        let refuse = |why: &str| Err(RecordError::NotAllowed(why.into()));
        header.compression()?;
        if header.record_count == 0 {
            return refuse("it has no record");
        }
        if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
            return Err(RecordError::Inconsistent(format!(
                "{} records, but the last offset delta is {}",
                header.record_count, header.last_offset_delta
            )));
        }
        if header.is_control() {
            return refuse("control records are written by the broker");
        }
        if header.has_delete_horizon() {
            return refuse("a delete horizon is set by compaction");
        }
        if header.timestamp_type() == TimestampType::LogAppendTime {
            return Err(RecordError::BadTimestamp {
                index: 0,
                reason: "log append time is set by the broker".into(),
            });
        }
        if header.has_producer_id() {
            if header.base_sequence < 0 {
                return refuse("it has a producer id, but no sequence number");
            }
            if header.producer_epoch < 0 {
                return refuse("it has a producer id, but no producer epoch");
            }
        } else if header.is_transactional() {
            return refuse("it is transactional, but has no producer id");
        }
        Ok(())
    }

    /// Checks a producer's batch and every record of it, as Kafka's broker does: the header
    /// ([`Batch::validate_from_producer`]), the CRC, that all records are whole and their offsets
    /// contiguous, and the given rules.
    ///
    /// # Errors
    /// [`RecordError::CrcMismatch`], whatever [`Batch::section`] reports, and about one record
    /// [`RecordError::BadRecord`] or [`RecordError::BadTimestamp`].
    pub fn validate_deep(&self, rules: &DeepRules) -> Result<DeepFacts, RecordError> {
        self.verify_crc()?;
        self.validate_from_producer()?;
        let section = self.section(rules.max_uncompressed_bytes)?;
        let mut facts = DeepFacts {
            max_timestamp_ms: NO_TIMESTAMP,
            offset_of_max_timestamp: self.header().base_offset,
            uncompressed_bytes: section.bytes().len(),
            largest_record_bytes: 0,
        };
        // As many records as offsets, each above the one before, none beyond the last: the
        // iterator has proven that they are contiguous when it comes to its end.
        for (record, index) in section.refs().zip(0..) {
            let record = record?;
            rules.check(&record, index)?;
            if record.timestamp_ms > facts.max_timestamp_ms {
                facts.max_timestamp_ms = record.timestamp_ms;
                facts.offset_of_max_timestamp = record.offset;
            }
            facts.largest_record_bytes = facts.largest_record_bytes.max(record.encoded_bytes);
        }
        Ok(facts)
    }
}

impl DeepRules {
    fn check(&self, record: &iter::RecordRef<'_>, index: i32) -> Result<(), RecordError> {
        if self.require_keys && record.key.is_none() {
            return Err(RecordError::BadRecord {
                index,
                reason: "a compacted topic takes no record without a key".into(),
            });
        }
        let time_ms = record.timestamp_ms;
        if time_ms < NO_TIMESTAMP {
            return Err(RecordError::BadTimestamp {
                index,
                reason: format!("timestamp {time_ms} is negative"),
            });
        }
        if let Some(range) = &self.timestamps_ms
            && time_ms != NO_TIMESTAMP
            && !range.contains(&time_ms)
        {
            return Err(RecordError::BadTimestamp {
                index,
                reason: format!(
                    "timestamp {time_ms} is outside the accepted {} to {}",
                    range.start(),
                    range.end()
                ),
            });
        }
        Ok(())
    }
}
