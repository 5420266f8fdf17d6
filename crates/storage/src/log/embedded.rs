//! Appending records one by one or in batches, for programs that embed the log.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::outgoing::Outgoing;
use super::{AppendMode, Appended, LogCore};
use crate::config::Format;
use crate::error::Result;
use crate::record::{BatchBuilder, Header, RecordError, TimestampType, v1};

/// A record to append. Borrowed, so that nothing is copied before it is encoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Key; `None` for none.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone in a compacted log.
    pub value: Option<&'a [u8]>,
    /// Headers (not kept by format v1).
    pub headers: &'a [Header],
    /// Unix ms; `None` takes the log's clock.
    pub timestamp_ms: Option<i64>,
}

impl<'a> NewRecord<'a> {
    /// A record with a key and a value.
    pub fn new(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self {
            key,
            value,
            ..Self::default()
        }
    }
}

impl LogCore {
    /// Appends one record and waits until it is acknowledged; returns its offset.
    ///
    /// # Errors
    /// As [`crate::LogCore::append_batches`], and [`crate::StorageError::Offline`] when the flush fails.
    pub fn append(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<i64> {
        Ok(self
            .append_records(&[NewRecord::new(key, value)])?
            .base_offset)
    }

    /// Appends records as one batch and waits until it is acknowledged.
    ///
    /// # Errors
    /// As [`crate::LogCore::append`].
    pub fn append_records(&self, records: &[NewRecord<'_>]) -> Result<Appended> {
        let cuts = self.cuts();
        let appended = self.append_records_unacknowledged(records)?;
        self.wait_acknowledged(appended.last_offset, cuts)?;
        Ok(appended)
    }

    /// As [`crate::LogCore::append_records`], without waiting; see [`crate::LogCore::acknowledged`].
    ///
    /// # Errors
    /// As [`crate::LogCore::append_batches`].
    pub fn append_records_unacknowledged(&self, records: &[NewRecord<'_>]) -> Result<Appended> {
        let config = self.config.load();
        let now_ms = self.now_ms();
        let frames = match config.format {
            Format::V2 => vec![self.encode_batch(records, now_ms)?],
            Format::V1 => encode_messages(records, now_ms, &config)?,
        };
        let log_append_time =
            (config.timestamp_type == TimestampType::LogAppendTime).then_some(now_ms);
        // An embedded log has one leader for ever.
        self.append_frames(
            frames,
            AppendMode::Leader {
                leader_epoch: 0,
                log_append_time,
            },
            |_| Ok(()),
        )
    }

    fn encode_batch(&self, records: &[NewRecord<'_>], now_ms: i64) -> Result<Outgoing> {
        let config = self.config.load();
        let mut builder = BatchBuilder::new().compression(config.compression, None);
        for record in records {
            builder.push(
                record.timestamp_ms.unwrap_or(now_ms),
                record.key,
                record.value,
                record.headers,
            )?;
        }
        let frames = super::outgoing::split_batches(builder.build()?)?;
        Ok(frames
            .into_iter()
            .next()
            .unwrap_or_else(|| unreachable!("a built batch is one batch")))
    }
}

fn encode_messages(
    records: &[NewRecord<'_>],
    now_ms: i64,
    config: &Arc<crate::LogConfig>,
) -> Result<Vec<Outgoing>> {
    if records.is_empty() {
        return Err(RecordError::NotAllowed("it has no record".into()).into());
    }
    // A v1 message has no flag for it, and its checksum covers the timestamp: it is given here.
    let by_log = config.timestamp_type == TimestampType::LogAppendTime;
    records
        .iter()
        .map(|record| {
            let timestamp_ms = record.timestamp_ms.filter(|_| !by_log).unwrap_or(now_ms);
            let mut bytes = BytesMut::new();
            v1::encode(
                &mut bytes,
                timestamp_ms,
                record.key,
                record.value,
                config.compression,
            )?;
            Ok(Outgoing::of_message(Bytes::from(bytes), timestamp_ms))
        })
        .collect()
}
