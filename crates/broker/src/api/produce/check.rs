//! Whether a producer's batch may be appended, and in which codec. Pure.

use bytes::Bytes;
use dlog_storage::record::{
    Batch, Compression, DeepRules, Fault, Recompress, RecordError, TimestampType, recompress_with,
};
use kafka_protocol::ResponseError;

use crate::partitions::TopicSettings;

/// Position of the magic byte, in old message formats too.
const MAGIC_POSITION: usize = 16;

/// Versions before this one cannot carry zstd (KIP-110).
const ZSTD: i16 = 7;

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Kafka's error.
    pub(super) code: ResponseError,
    /// For people.
    pub(super) message: String,
    /// The records at fault: index in the batch and reason.
    pub(super) records: Vec<(i32, String)>,
}

impl Refusal {
    pub(super) fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            records: Vec::new(),
        }
    }
}

impl From<ResponseError> for Refusal {
    fn from(code: ResponseError) -> Self {
        Self::new(code, code.to_string())
    }
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        let code = match error.fault() {
            Fault::Corrupt => ResponseError::CorruptMessage,
            Fault::Invalid => ResponseError::InvalidRecord,
            Fault::Timestamp => ResponseError::InvalidTimestamp,
            Fault::Unsupported => ResponseError::UnsupportedForMessageFormat,
            Fault::Compression => ResponseError::UnsupportedCompressionType,
            Fault::TooLarge => ResponseError::MessageTooLarge,
        };
        let message = error.to_string();
        let records = match error {
            RecordError::BadRecord { index, .. } | RecordError::BadTimestamp { index, .. } => {
                vec![(index, message.clone())]
            }
            _ => Vec::new(),
        };
        Self {
            code,
            message,
            records,
        }
    }
}

/// A batch that may be appended.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    /// The batch.
    pub(super) bytes: Bytes,
    /// Number of records.
    pub(super) records: u64,
}

/// Whether batches of the topic may have to be decompressed or compressed.
pub(super) fn looks_inside(settings: &TopicSettings) -> bool {
    settings.compression.is_some()
        || settings.log.cleanup.compact
        || settings.timestamp_before_max_ms != i64::MAX
}

/// Checks what a producer sent for one partition: exactly one batch v2 that keeps the topic's rules.
pub(super) fn check(
    records: Option<Bytes>,
    version: i16,
    settings: &TopicSettings,
    now_ms: i64,
) -> Result<Checked, Refusal> {
    let bytes = records.unwrap_or_default();
    let batch = only_batch(bytes, version)?;
    if batch.bytes().len() > settings.max_message_bytes {
        let message = format!(
            "The record batch size in the append is {} bytes which exceeds the maximum configured value of {}.",
            batch.bytes().len(),
            settings.max_message_bytes
        );
        return Err(Refusal::new(ResponseError::MessageTooLarge, message));
    }
    batch.verify_crc()?;
    batch.validate_from_producer()?;
    let codec = batch.header().compression()?;
    if codec == Compression::Zstd && version < ZSTD {
        return Err(Refusal::new(
            ResponseError::UnsupportedCompressionType,
            format!(
                "Produce requests with version {version} are not allowed to use ZStandard compression"
            ),
        ));
    }
    check_times(&batch, settings, now_ms)?;
    check_inside(&batch, settings, now_ms)?;
    let records = u64::try_from(batch.header().record_count).unwrap_or(0);
    let bytes = match settings.compression {
        Some(wanted) if wanted != codec => recompressed(&batch, wanted, settings, now_ms)?,
        _ => batch.into_bytes(),
    };
    Ok(Checked { bytes, records })
}

/// Takes the one batch out of its bytes.
fn only_batch(mut bytes: Bytes, version: i16) -> Result<Batch, Refusal> {
    let invalid = |what: &str| {
        let message = format!("Produce requests with version {version} {what}");
        Err(Refusal::new(ResponseError::InvalidRecord, message))
    };
    if bytes.is_empty() {
        return invalid("must have at least one record batch per partition");
    }
    match bytes.get(MAGIC_POSITION) {
        None => return invalid("must have at least one record batch per partition"),
        Some(2) => {}
        Some(_) => {
            return invalid("are only allowed to contain record batches with magic version 2");
        }
    }
    let Some(batch) = Batch::split_first(&mut bytes)? else {
        return Err(Refusal::new(
            ResponseError::CorruptMessage,
            "the record batch is longer than the bytes that were sent for the partition",
        ));
    };
    if !bytes.is_empty() {
        return invalid("are only allowed to contain exactly one record batch per partition");
    }
    Ok(batch)
}

/// Checks the youngest timestamp, which the header has.
fn check_times(batch: &Batch, settings: &TopicSettings, now_ms: i64) -> Result<(), Refusal> {
    let latest = now_ms.saturating_add(settings.timestamp_after_max_ms);
    let youngest = batch.header().max_timestamp;
    if settings.timestamp_type == TimestampType::CreateTime && youngest > latest {
        let message = format!(
            "Timestamp {youngest} of message with offset 0 is out of range. The timestamp should be within [{}, {latest}]",
            now_ms.saturating_sub(settings.timestamp_before_max_ms)
        );
        return Err(Refusal {
            code: ResponseError::InvalidTimestamp,
            message: "One or more records have been rejected due to invalid timestamp".to_owned(),
            records: vec![(0, message)],
        });
    }
    Ok(())
}

/// Looks at the records where a rule of the topic is about single records.
fn check_inside(batch: &Batch, settings: &TopicSettings, now_ms: i64) -> Result<(), Refusal> {
    let bounded = settings.timestamp_before_max_ms != i64::MAX;
    let by_producer = settings.timestamp_type == TimestampType::CreateTime;
    if !(settings.log.cleanup.compact || bounded && by_producer) {
        return Ok(());
    }
    let rules = DeepRules {
        max_uncompressed_bytes: settings.max_decompressed_bytes,
        require_keys: settings.log.cleanup.compact,
        timestamps_ms: (bounded && by_producer).then(|| {
            now_ms.saturating_sub(settings.timestamp_before_max_ms)
                ..=now_ms.saturating_add(settings.timestamp_after_max_ms)
        }),
    };
    batch.validate_deep(&rules)?;
    Ok(())
}

fn recompressed(
    batch: &Batch,
    to: Compression,
    settings: &TopicSettings,
    now_ms: i64,
) -> Result<Bytes, Refusal> {
    let how = Recompress {
        to,
        level: settings.compression_level,
        log_append_time_ms: (settings.timestamp_type == TimestampType::LogAppendTime)
            .then_some(now_ms),
        max_uncompressed_bytes: settings.max_decompressed_bytes,
    };
    let bytes = recompress_with(batch, &how)?;
    if bytes.len() > settings.max_message_bytes {
        let message = format!(
            "The record batch has {} bytes in the topic's codec which exceeds the maximum configured value of {}.",
            bytes.len(),
            settings.max_message_bytes
        );
        return Err(Refusal::new(ResponseError::MessageTooLarge, message));
    }
    Ok(bytes)
}
