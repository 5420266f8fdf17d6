//! Messages of the original format go on as v2 batches: compaction is where a log leaves v1 behind.

use bytes::Bytes;

use super::CompactionReport;
use super::keep::Rules;
use crate::record::{BatchBuilder, Compression, RecordError, v1};

/// A batch ends after so many bytes of messages, before compression.
const BATCH_BYTES: usize = 64 << 10;

/// A message that stays.
struct Message {
    offset: i64,
    timestamp_ms: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
}

/// Gathers the messages that stay and writes them in batches.
pub(super) struct Packer<'a> {
    rules: &'a Rules<'a>,
    messages: Vec<Message>,
    bytes: usize,
    /// The codec of the first of them: the batch gets it.
    codec: Compression,
}

impl<'a> Packer<'a> {
    pub(super) fn new(rules: &'a Rules<'a>) -> Self {
        Self {
            rules,
            messages: Vec::new(),
            bytes: 0,
            codec: Compression::None,
        }
    }

    /// Takes the next message, which may go; appends a batch to `out` when one is complete.
    pub(super) fn push(
        &mut self,
        offset: i64,
        bytes: &[u8],
        report: &mut CompactionReport,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let message = v1::decode(&Bytes::copy_from_slice(bytes))?;
        report.records_read += 1;
        let is_newest = self.rules.map.is_newest((message.key.as_deref(), offset));
        let has_value = message.value.is_some();
        if !self.rules.keeps(offset, is_newest, has_value, None) {
            return Ok(());
        }
        report.records_kept += 1;
        // What the map covers and what it does not are apart: only tombstones of the former get a horizon.
        let at_border = self.messages.first().is_some_and(|first| {
            (first.offset < self.rules.mapped.end) != (offset < self.rules.mapped.end)
        });
        if self.bytes + bytes.len() > BATCH_BYTES || at_border {
            self.finish(out)?;
        }
        if self.messages.is_empty() {
            self.codec = message.compression()?;
        }
        self.bytes += bytes.len();
        self.messages.push(Message {
            offset,
            timestamp_ms: message.timestamp_ms,
            key: message.key,
            value: message.value,
        });
        Ok(())
    }

    /// Whether nothing is gathered.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Appends what was gathered to `out`.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let messages = std::mem::take(&mut self.messages);
        self.bytes = 0;
        let Some(first) = messages.first() else {
            return Ok(());
        };
        let settled = self.rules.mapped.contains(&first.offset);
        let has_tombstones = messages.iter().any(|message| message.value.is_none());
        let horizon_ms = (settled && has_tombstones).then(|| self.rules.horizon_ms());
        let mut builder = BatchBuilder::new()
            .base_offset(first.offset)
            .compression(self.codec, None)
            .delete_horizon(horizon_ms);
        for message in &messages {
            builder.push_at(
                i32::try_from(message.offset - first.offset).unwrap_or(i32::MAX),
                message.timestamp_ms,
                message.key.as_deref(),
                message.value.as_deref(),
                &[],
            )?;
        }
        out.extend_from_slice(&builder.build()?);
        Ok(())
    }
}
