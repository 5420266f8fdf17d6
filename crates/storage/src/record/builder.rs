//! Writes record batches v2.

use bytes::Bytes;

use super::header::{ATTRIBUTES_OFFSET, BATCH_MAGIC, CRC_OFFSET, NO_LEADER_EPOCH, NO_TIMESTAMP};
use super::varint::{varint_len, varlong_len, write_varint, write_varlong};
use super::{
    BATCH_HEADER_BYTES, BatchHeader, Compression, Header, LOG_OVERHEAD_BYTES, NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID, NO_SEQUENCE, RecordError, TimestampType, codec, crc32c,
};

/// The longest a batch can be: its length field is a 32-bit signed number.
const MAX_BATCH_BYTES: u64 = i32::MAX as u64;

/// Collects records and writes them as one batch.
///
/// Records are encoded as they are pushed, into one buffer; a push allocates nothing else.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    compression: Compression,
    level: Option<i32>,
    timestamp_type: TimestampType,
    /// The maximum timestamp of the header, when it is not that of the records.
    fixed_max_timestamp: Option<i64>,
    delete_horizon_ms: Option<i64>,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    transactional: bool,
    control: bool,
    base_offset: i64,
    leader_epoch: i32,
    /// The last offset delta of the header, when it is not that of the last record.
    fixed_last_delta: Option<i32>,
    /// Room for the header, then the encoded records.
    buffer: Vec<u8>,
    count: i32,
    last_delta: i32,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A builder of an uncompressed batch at offset 0, without a producer id or leader epoch.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// As [`BatchBuilder::new`], with room for so many bytes of records.
    pub fn with_capacity(record_bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(BATCH_HEADER_BYTES.saturating_add(record_bytes));
        buffer.resize(BATCH_HEADER_BYTES, 0);
        Self {
            compression: Compression::None,
            level: None,
            timestamp_type: TimestampType::CreateTime,
            fixed_max_timestamp: None,
            delete_horizon_ms: None,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            transactional: false,
            control: false,
            base_offset: 0,
            leader_epoch: NO_LEADER_EPOCH,
            fixed_last_delta: None,
            buffer,
            count: 0,
            last_delta: -1,
            base_timestamp: None,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    /// Compresses the records with this codec, at this level or at the codec's default.
    #[must_use]
    pub fn compression(mut self, compression: Compression, level: Option<i32>) -> Self {
        self.compression = compression;
        self.level = level;
        self
    }

    /// Sets the timestamp type. With log append time, readers see the batch's maximum timestamp
    /// as every record's.
    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = timestamp_type;
        self
    }

    /// Gives all records this log append time, in Unix ms.
    #[must_use]
    pub fn log_append_time(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_type = TimestampType::LogAppendTime;
        self.fixed_max_timestamp = Some(timestamp_ms);
        self
    }

    /// Sets the header's maximum timestamp, in Unix ms, to another than the records': a compacted
    /// batch without records keeps the one it had.
    #[must_use]
    pub fn max_timestamp(mut self, timestamp_ms: i64) -> Self {
        self.fixed_max_timestamp = Some(timestamp_ms);
        self
    }

    /// Marks the time, in Unix ms, after which compaction may drop the batch's tombstones and
    /// markers (KIP-534). It becomes the base timestamp, so it must be set before the first record
    /// is pushed; [`BatchBuilder::build`] fails otherwise.
    #[must_use]
    pub fn delete_horizon(mut self, horizon_ms: Option<i64>) -> Self {
        self.delete_horizon_ms = horizon_ms;
        if self.count == 0 {
            self.base_timestamp = horizon_ms;
        }
        self
    }

    /// Sets the idempotent producer's id, epoch and the first record's sequence number.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Says whether the batch is part of a transaction.
    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.transactional = transactional;
        self
    }

    /// Says whether the records are control records.
    #[must_use]
    pub fn control(mut self, control: bool) -> Self {
        self.control = control;
        self
    }

    /// Sets the first offset of the batch.
    #[must_use]
    pub fn base_offset(mut self, base_offset: i64) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// Sets the epoch of the leader that takes the batch.
    #[must_use]
    pub fn leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    /// Sets the header's last offset delta to more than the last record's: a compacted batch
    /// keeps the offset range it had (and with it its producer's last sequence number).
    #[must_use]
    pub fn last_offset_delta(mut self, last_offset_delta: i32) -> Self {
        self.fixed_last_delta = Some(last_offset_delta);
        self
    }

    /// Adds a record at the offset after the last one's.
    ///
    /// # Errors
    /// [`RecordError::TooLarge`] when the batch would exceed 2³¹−1 bytes, before compression;
    /// [`RecordError::BadField`] when no further offset or timestamp can be expressed. The
    /// builder is unchanged then.
    #[inline]
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), RecordError> {
        let delta = self.last_delta.checked_add(1).ok_or(NO_DELTA_LEFT)?;
        self.push_at(delta, timestamp_ms, key, value, headers)
    }

    /// Adds a record at base offset plus `offset_delta`, which must be above the one before.
    ///
    /// # Errors
    /// As [`BatchBuilder::push`]; [`RecordError::BadField`] when the delta is not above the last.
    #[inline]
    pub fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), RecordError> {
        if offset_delta <= self.last_delta {
            return Err(RecordError::BadField {
                field: "offset delta",
                value: offset_delta.into(),
                allowed: "above the one before",
            });
        }
        let base_timestamp = self.base_timestamp.unwrap_or(timestamp_ms);
        let timestamp_delta =
            timestamp_ms
                .checked_sub(base_timestamp)
                .ok_or(RecordError::BadField {
                    field: "timestamp",
                    value: timestamp_ms,
                    allowed: "what 64 bits can express from the batch's first",
                })?;
        let body = body_bytes(timestamp_delta, offset_delta, key, value, headers);
        let total = self.buffer.len() as u64 + body + 5;
        if total > MAX_BATCH_BYTES {
            return Err(RecordError::TooLarge { bytes: total });
        }
        self.write_record(
            body as i32,
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers,
        );
        self.base_timestamp = Some(base_timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        self.last_delta = offset_delta;
        self.count += 1;
        Ok(())
    }

    /// Encodes one record; every length was checked to fit.
    #[inline]
    fn write_record(
        &mut self,
        body: i32,
        timestamp_delta: i64,
        offset_delta: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) {
        let out = &mut self.buffer;
        out.reserve(body as usize + 5);
        write_varint(out, body);
        out.push(0); // attributes
        write_varlong(out, timestamp_delta);
        write_varint(out, offset_delta);
        write_nullable(out, key);
        write_nullable(out, value);
        write_varint(out, headers.len() as i32);
        for header in headers {
            write_nullable(out, Some(&header.key));
            write_nullable(out, header.value.as_deref());
        }
    }

    /// Records pushed so far.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether no record was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch so far, header included, before compression.
    pub fn estimated_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Compresses the records, if a codec was set, and writes the header.
    ///
    /// A batch without records is possible only as compaction leaves it: with a
    /// [`BatchBuilder::last_offset_delta`].
    ///
    /// # Errors
    /// [`RecordError::NotAllowed`] without a record, or when a delete horizon was set too late;
    /// [`RecordError::BadLevel`],
    /// [`RecordError::Compress`]; [`RecordError::BadField`] when the last offset delta is below
    /// the last record's or the offsets overflow.
    pub fn build(mut self) -> Result<Bytes, RecordError> {
        let last_offset_delta = self.fixed_last_delta.unwrap_or(self.last_delta);
        if last_offset_delta < 0 {
            return Err(RecordError::NotAllowed("it has no record".into()));
        }
        if last_offset_delta < self.last_delta {
            return Err(RecordError::BadField {
                field: "last offset delta",
                value: last_offset_delta.into(),
                allowed: "the last record's or more",
            });
        }
        if self.delete_horizon_ms.is_some() && self.delete_horizon_ms != self.base_timestamp {
            let why = "its delete horizon was set after a record was pushed";
            return Err(RecordError::NotAllowed(why.into()));
        }
        let mut bytes = std::mem::take(&mut self.buffer);
        // An empty batch has nothing to compress, whatever its records were compressed with.
        let compression = match self.count {
            0 => Compression::None,
            _ => self.compression,
        };
        if compression != Compression::None {
            let records = bytes;
            let packed = &records[BATCH_HEADER_BYTES..];
            bytes = vec![0; BATCH_HEADER_BYTES];
            codec::compress(compression, self.level, packed, &mut bytes)?;
        }
        seal(self.header(compression, last_offset_delta), bytes)
    }

    fn header(&self, compression: Compression, last_offset_delta: i32) -> BatchHeader {
        BatchHeader {
            base_offset: self.base_offset,
            batch_length: 0,
            partition_leader_epoch: self.leader_epoch,
            magic: BATCH_MAGIC,
            crc: 0,
            attributes: BatchHeader::attributes_of(
                compression,
                self.timestamp_type,
                self.transactional,
                self.control,
                self.delete_horizon_ms.is_some(),
            ),
            last_offset_delta,
            base_timestamp: self.base_timestamp.unwrap_or(NO_TIMESTAMP),
            max_timestamp: self.fixed_max_timestamp.unwrap_or(self.max_timestamp),
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.count,
        }
    }
}

const NO_DELTA_LEFT: RecordError = RecordError::BadField {
    field: "offset delta",
    value: 1 << 31,
    allowed: "at most 2147483647",
};

/// Writes the header, with the length and CRC of the bytes, over the first 61 of `bytes`.
pub(super) fn seal(header: BatchHeader, mut bytes: Vec<u8>) -> Result<Bytes, RecordError> {
    seal_in_place(header, &mut bytes)?;
    Ok(Bytes::from(bytes))
}

/// As [`seal`], of bytes that stay where they are: exactly one batch.
pub(super) fn seal_in_place(mut header: BatchHeader, bytes: &mut [u8]) -> Result<(), RecordError> {
    let length = bytes.len() - LOG_OVERHEAD_BYTES;
    header.batch_length = i32::try_from(length).map_err(|_| RecordError::TooLarge {
        bytes: bytes.len() as u64,
    })?;
    let (head, _) = bytes
        .split_first_chunk_mut::<BATCH_HEADER_BYTES>()
        .expect("the buffer starts with room for the header");
    header.write(head);
    // What is written must be readable: one check for all that a caller can set.
    BatchHeader::parse(head)?;
    let crc = crc32c(&bytes[ATTRIBUTES_OFFSET..]);
    bytes[CRC_OFFSET..ATTRIBUTES_OFFSET].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}

/// Bytes of a record after its length field.
#[inline]
fn body_bytes(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header],
) -> u64 {
    let fixed = 1 + varlong_len(timestamp_delta) + varint_len(offset_delta);
    let mut total = fixed as u64 + nullable_bytes(key) + nullable_bytes(value);
    total += varint_len(saturating_i32(headers.len())) as u64;
    for header in headers {
        total += nullable_bytes(Some(&header.key)) + nullable_bytes(header.value.as_deref());
    }
    total
}

#[inline]
fn nullable_bytes(bytes: Option<&[u8]>) -> u64 {
    match bytes {
        None => 1,
        Some(bytes) => varint_len(saturating_i32(bytes.len())) as u64 + bytes.len() as u64,
    }
}

/// A length as the formats have it. One that does not fit makes a record that is refused as too
/// large by its size alone.
#[inline]
fn saturating_i32(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

#[inline]
fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => write_varint(out, -1),
        Some(bytes) => {
            write_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}
