//! The 61 bytes at the front of a record batch v2.

use super::{Compression, RecordError, TimestampType};

/// Bytes of a batch header, the first record follows it.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes at the front of a batch that [`BatchHeader::batch_length`] does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;
/// The magic byte of a record batch v2.
pub const BATCH_MAGIC: i8 = 2;
/// The producer id of a batch whose producer is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;
/// The producer epoch of a batch whose producer is not idempotent.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// The base sequence of a batch without sequence numbers.
pub const NO_SEQUENCE: i32 = -1;
/// The timestamp of a record that has none, and the maximum timestamp of an empty batch.
pub const NO_TIMESTAMP: i64 = -1;
/// The leader epoch of a batch that no leader has taken yet.
pub const NO_LEADER_EPOCH: i32 = -1;

/// Where the magic byte stands, in batches v2 as in Kafka's older message sets.
pub(super) const MAGIC_OFFSET: usize = 16;
/// Where the CRC stands.
pub(super) const CRC_OFFSET: usize = 17;
/// The first byte that the CRC covers.
pub(super) const ATTRIBUTES_OFFSET: usize = 21;
const MAX_TIMESTAMP_OFFSET: usize = 35;

const TIMESTAMP_TYPE_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;
const DELETE_HORIZON_BIT: i16 = 0x40;

/// The header of a record batch v2, field by field as it stands in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record (a producer sends 0, the log assigns it).
    pub base_offset: i64,
    /// Bytes of the batch after this field, that is without the first 12.
    pub batch_length: i32,
    /// Epoch of the leader that took the batch, [`NO_LEADER_EPOCH`] before that.
    pub partition_leader_epoch: i32,
    /// Always [`BATCH_MAGIC`].
    pub magic: i8,
    /// CRC32C of everything from the attributes to the end of the batch.
    pub crc: u32,
    /// Codec (bits 0–2), timestamp type (3), transactional (4), control (5), delete horizon (6).
    pub attributes: i16,
    /// Offset of the last record less the base offset; survives compaction.
    pub last_offset_delta: i32,
    /// The timestamp that the records' deltas count from, in Unix ms; the delete horizon instead
    /// when [`BatchHeader::has_delete_horizon`].
    pub base_timestamp: i64,
    /// The largest timestamp of the records, or the log append time, in Unix ms.
    pub max_timestamp: i64,
    /// The idempotent producer's id or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// The idempotent producer's epoch or [`NO_PRODUCER_EPOCH`].
    pub producer_epoch: i16,
    /// The sequence number of the record at the base offset or [`NO_SEQUENCE`].
    pub base_sequence: i32,
    /// Records in the batch; fewer than offsets once it was compacted.
    pub record_count: i32,
}

/// `N` bytes of `bytes` from `at`; the caller has checked the length.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads and checks the header at the front of `bytes`.
    ///
    /// The checks are those that need no record: the magic, the batch's length, that offsets and
    /// counts are not negative, fit each other and do not overflow. The CRC is not one of them.
    ///
    /// # Errors
    /// [`RecordError::UnsupportedMagic`] when another magic byte is there (even if fewer than 61
    /// bytes are), [`RecordError::Truncated`], [`RecordError::BadField`],
    /// [`RecordError::Inconsistent`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if let Some(&magic) = bytes.get(MAGIC_OFFSET)
            && magic.cast_signed() != BATCH_MAGIC
        {
            return Err(RecordError::UnsupportedMagic(magic.cast_signed()));
        }
        if bytes.len() < BATCH_HEADER_BYTES {
            return Err(RecordError::Truncated {
                what: "a batch header",
                needed: BATCH_HEADER_BYTES,
                available: bytes.len(),
            });
        }
        let header = Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            batch_length: i32::from_be_bytes(array(bytes, 8)),
            partition_leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            magic: bytes[MAGIC_OFFSET].cast_signed(),
            crc: u32::from_be_bytes(array(bytes, CRC_OFFSET)),
            attributes: i16::from_be_bytes(array(bytes, ATTRIBUTES_OFFSET)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, MAX_TIMESTAMP_OFFSET)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: i32::from_be_bytes(array(bytes, 57)),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), RecordError> {
        let bad = |field, value, allowed| {
            Err(RecordError::BadField {
                field,
                value,
                allowed,
            })
        };
        if self.batch_length < (BATCH_HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32 {
            return bad("batch length", self.batch_length.into(), "49 or more");
        }
        if self.base_offset < 0 {
            return bad("base offset", self.base_offset, "0 or more");
        }
        if self.last_offset_delta < 0 {
            let value = self.last_offset_delta.into();
            return bad("last offset delta", value, "0 or more");
        }
        // The offset after the last one must exist too.
        if self.base_offset > i64::MAX - i64::from(self.last_offset_delta) - 1 {
            return bad("base offset", self.base_offset, "what leaves a next offset");
        }
        if self.record_count < 0 {
            return bad("record count", self.record_count.into(), "0 or more");
        }
        if i64::from(self.record_count) > i64::from(self.last_offset_delta) + 1 {
            return Err(RecordError::Inconsistent(format!(
                "{} records in {} offsets",
                self.record_count,
                i64::from(self.last_offset_delta) + 1
            )));
        }
        Ok(())
    }

    /// Writes the header's 61 bytes, as the fields are (nothing is computed or checked).
    pub fn write(&self, out: &mut [u8; BATCH_HEADER_BYTES]) {
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out[16] = self.magic.cast_unsigned();
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// Bytes of the whole batch, header included.
    pub fn total_bytes(&self) -> usize {
        LOG_OVERHEAD_BYTES + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record that the batch had when it was written.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the last one.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// [`RecordError::UnknownCompression`].
    pub fn compression(&self) -> Result<Compression, RecordError> {
        Compression::from_attributes(self.attributes)
    }

    /// Who sets the records' timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & TIMESTAMP_TYPE_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch is part of a transaction (KIP-98).
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the records are control records, which consumers do not see (KIP-98).
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether the base timestamp is a delete horizon: the time after which compaction may drop
    /// the batch's tombstones and markers (KIP-534).
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON_BIT != 0
    }

    /// The delete horizon in Unix ms, if the batch has one.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// Whether an idempotent producer wrote the batch.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// The sequence number of the record at the last offset; [`NO_SEQUENCE`] without sequences.
    /// Sequence numbers go from 2³¹−1 on to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        add_to_sequence(self.base_sequence, self.last_offset_delta)
    }

    pub(super) fn attributes_of(
        compression: Compression,
        timestamp_type: TimestampType,
        transactional: bool,
        control: bool,
        delete_horizon: bool,
    ) -> i16 {
        let flag = |set: bool, bit: i16| if set { bit } else { 0 };
        i16::from(compression.id())
            | flag(
                timestamp_type == TimestampType::LogAppendTime,
                TIMESTAMP_TYPE_BIT,
            )
            | flag(transactional, TRANSACTIONAL_BIT)
            | flag(control, CONTROL_BIT)
            | flag(delete_horizon, DELETE_HORIZON_BIT)
    }

    /// Changes who set the timestamps; the CRC, which covers this, is left to the caller.
    pub fn set_timestamp_type(&mut self, timestamp_type: TimestampType) {
        self.attributes = match timestamp_type {
            TimestampType::CreateTime => self.attributes & !TIMESTAMP_TYPE_BIT,
            TimestampType::LogAppendTime => self.attributes | TIMESTAMP_TYPE_BIT,
        };
    }

    /// These attributes with another codec and another timestamp type.
    pub(super) fn attributes_with(&self, codec: Compression, timestamps: TimestampType) -> i16 {
        Self::attributes_of(codec, timestamps, false, false, false)
            | (self.attributes & !(0x07 | TIMESTAMP_TYPE_BIT))
    }
}

/// The sequence number `increment` after `sequence`; it goes from 2³¹−1 on to 0 (KIP-98).
pub fn add_to_sequence(sequence: i32, increment: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(increment);
    (sum & i64::from(i32::MAX)) as i32
}

/// Writes the offset and the leader epoch that a log assigned into a batch's header. Both stand
/// before the bytes that the CRC covers, so it stays valid.
pub fn patch_base_offset_and_epoch(
    head: &mut [u8; BATCH_HEADER_BYTES],
    base_offset: i64,
    leader_epoch: i32,
) {
    head[0..8].copy_from_slice(&base_offset.to_be_bytes());
    head[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Writes a timestamp type and a maximum timestamp into a whole batch and brings its CRC up to
/// date. With [`TimestampType::LogAppendTime`] every record then has that timestamp.
///
/// # Errors
/// As [`BatchHeader::parse`]; [`RecordError::Truncated`] when `batch` is not one whole batch.
pub fn patch_max_timestamp(
    batch: &mut [u8],
    timestamp_type: TimestampType,
    max_timestamp_ms: i64,
) -> Result<(), RecordError> {
    let header = BatchHeader::parse(batch)?;
    if header.total_bytes() != batch.len() {
        return Err(RecordError::Truncated {
            what: "a whole batch",
            needed: header.total_bytes(),
            available: batch.len(),
        });
    }
    let keep = header.attributes & !TIMESTAMP_TYPE_BIT;
    let bit = match timestamp_type {
        TimestampType::CreateTime => 0,
        TimestampType::LogAppendTime => TIMESTAMP_TYPE_BIT,
    };
    batch[ATTRIBUTES_OFFSET..ATTRIBUTES_OFFSET + 2].copy_from_slice(&(keep | bit).to_be_bytes());
    batch[MAX_TIMESTAMP_OFFSET..MAX_TIMESTAMP_OFFSET + 8]
        .copy_from_slice(&max_timestamp_ms.to_be_bytes());
    let crc = super::crc32c(&batch[ATTRIBUTES_OFFSET..]);
    batch[CRC_OFFSET..ATTRIBUTES_OFFSET].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}
