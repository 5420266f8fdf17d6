//! One frame on its way to the file: parsed, given its offsets, and cut into slices to write.
//!
//! Record bytes are shared with where they came from; only the 61 bytes of a batch's header are copied.

use std::cell::Cell;
use std::io::IoSlice;

use bytes::Bytes;

use super::AppendMode;
use crate::config::Format;
use crate::error::{Result, StorageError};
use crate::producer_state::Place;
use crate::record::control::EndTxnMarker;
use crate::record::{BATCH_HEADER_BYTES, Batch, BatchHeader, RecordError, TimestampType};
use crate::replay;

/// One frame on its way to the file.
pub(super) struct Outgoing {
    /// Header of a v2 batch as it will be written; `None` for a v1 message.
    pub(super) header: Option<BatchHeader>,
    head: [u8; BATCH_HEADER_BYTES],
    /// The whole frame as it came; of a batch only what follows the header is written from here.
    bytes: Bytes,
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) max_timestamp_ms: i64,
    /// What a control batch says of a transaction.
    pub(super) marker: Option<EndTxnMarker>,
    /// Where it was written.
    pub(super) place: Cell<Place>,
}

impl Outgoing {
    fn of_batch(batch: &Batch) -> Self {
        let header = *batch.header();
        Self {
            marker: replay::end_marker(batch),
            place: Cell::default(),
            header: Some(header),
            head: [0; BATCH_HEADER_BYTES],
            bytes: batch.bytes().clone(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            max_timestamp_ms: header.max_timestamp,
        }
    }

    /// A v1 message.
    pub(super) fn of_message(bytes: Bytes, timestamp_ms: i64) -> Self {
        Self {
            marker: None,
            place: Cell::default(),
            header: None,
            head: [0; BATCH_HEADER_BYTES],
            bytes,
            base_offset: 0,
            last_offset: 0,
            max_timestamp_ms: timestamp_ms,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn format(&self) -> Format {
        if self.header.is_some() {
            Format::V2
        } else {
            Format::V1
        }
    }

    /// Gives the frame its place; the record bytes stay as they are.
    pub(super) fn assign(&mut self, base_offset: i64, mode: AppendMode) {
        if let (
            Some(header),
            AppendMode::Leader {
                leader_epoch,
                log_append_time,
            },
        ) = (&mut self.header, mode)
        {
            header.base_offset = base_offset;
            header.partition_leader_epoch = leader_epoch;
            if let Some(now_ms) = log_append_time {
                header.set_timestamp_type(TimestampType::LogAppendTime);
                header.max_timestamp = now_ms;
                self.max_timestamp_ms = now_ms;
            }
        }
        self.base_offset = base_offset;
        self.last_offset = self
            .header
            .map_or(base_offset, |header| header.last_offset());
        let Some(header) = &mut self.header else {
            return;
        };
        header.write(&mut self.head);
        if matches!(
            mode,
            AppendMode::Leader {
                log_append_time: Some(_),
                ..
            }
        ) {
            // Attributes and timestamps lie under the checksum (bytes 21 on).
            let crc = crc32c::crc32c(&self.head[21..]);
            header.crc = crc32c::crc32c_append(crc, &self.bytes[BATCH_HEADER_BYTES..]);
            header.write(&mut self.head);
        }
    }

    pub(super) fn push_slices<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>) {
        if self.header.is_some() {
            slices.push(IoSlice::new(&self.head));
            slices.push(IoSlice::new(&self.bytes[BATCH_HEADER_BYTES..]));
        } else {
            slices.push(IoSlice::new(&self.bytes));
        }
    }
}

pub(super) fn split_batches(mut bytes: Bytes) -> Result<Vec<Outgoing>> {
    let mut frames = Vec::with_capacity(1);
    while !bytes.is_empty() {
        match Batch::split_first(&mut bytes)? {
            Some(batch) => frames.push(Outgoing::of_batch(&batch)),
            None => return Err(cut_short(bytes.len()).into()),
        }
    }
    if frames.is_empty() {
        return Err(cut_short(0).into());
    }
    Ok(frames)
}

fn cut_short(available: usize) -> RecordError {
    RecordError::Truncated {
        what: "a whole batch",
        needed: BATCH_HEADER_BYTES.max(available + 1),
        available,
    }
}

/// The leader's offset. Only compaction leaves holes: recovery would take any other for damage and
/// cut what was acknowledged behind it.
pub(super) fn followed(frame: &Outgoing, next: i64, holes_allowed: bool) -> Result<i64> {
    if frame.base_offset == next || (holes_allowed && frame.base_offset > next) {
        return Ok(frame.base_offset);
    }
    Err(StorageError::OffsetOutOfRange {
        requested: frame.base_offset,
        start: next,
        end: next,
    })
}
