//! Tells a message v1 from a record batch v2 by the first bytes.
//!
//! | | message v1 | record batch v2 |
//! |---|---|---|
//! | bytes 0–3 | length, at least 18 | high half of the base offset: below 18 until offset 77,309,411,328 |
//! | byte 8 | magic 1 | top of the batch length: 1 for 16 to 32 MiB |
//! | byte 16 | the timestamp's second lowest byte: 2 once in 256 | magic 2 |
//!
//! So neither magic byte decides alone. The rule:
//! 1. The bytes *can be v1* when byte 8 is 1, the length is one that a message can have, the
//!    attributes are possible, and the key's length, as far as it is there, fits the message's.
//! 2. They *can be v2* when byte 16 is 2, the base offset is one that the place can have (at least
//!    0; in a segment: at least the segment's, by less than 2³¹), the batch length is at least 49,
//!    and the whole header, as far as it is there, passes [`BatchHeader::parse`].
//! 3. If they can be exactly one, they are that one; if neither, the format is unknown.
//! 4. If they can be both, the CRC32C decides: exactly one of the readings must be whole and have
//!    the CRC that it claims. Otherwise the answer is an error, never a guess.
//!
//! Where the segment's base offset is known, only a batch of 16 to 32 MiB beyond offset 77 billion
//! gets as far as rule 4. Where it is not, so does one in 256 messages v1.

use std::ops::RangeInclusive;

use super::header::{
    ATTRIBUTES_OFFSET, BATCH_HEADER_BYTES, BATCH_MAGIC, LOG_OVERHEAD_BYTES, MAGIC_OFFSET,
};
use super::{BatchHeader, Compression, RecordError, crc32c, v1};
use crate::Format;

/// Tells what `bytes`, which begin with a whole message or batch, are.
///
/// 17 bytes are often enough, but a case that only a CRC decides needs the whole message or batch.
/// Prefer [`detect_segment_format`] where the bytes are the beginning of a segment.
///
/// # Errors
/// [`RecordError::Truncated`] below 17 bytes, [`RecordError::UnknownFormat`],
/// [`RecordError::AmbiguousFormat`] when both are possible and no CRC could decide: give more
/// bytes.
pub fn detect_format(bytes: &[u8]) -> Result<Format, RecordError> {
    detect(bytes, 0..=i64::MAX)
}

/// Tells what the segment with this base offset holds, by its first bytes: 17 are enough, but for
/// segments beyond offset 77 billion.
///
/// # Errors
/// As [`detect_format`].
pub fn detect_segment_format(
    bytes: &[u8],
    segment_base_offset: i64,
) -> Result<Format, RecordError> {
    let last = segment_base_offset.saturating_add(i32::MAX.into());
    detect(bytes, segment_base_offset.max(0)..=last)
}

fn detect(bytes: &[u8], base_offsets: RangeInclusive<i64>) -> Result<Format, RecordError> {
    let needed = MAGIC_OFFSET + 1;
    if bytes.len() < needed {
        return Err(RecordError::Truncated {
            what: "a message or batch",
            needed,
            available: bytes.len(),
        });
    }
    match (can_be_v1(bytes), can_be_v2(bytes, base_offsets)) {
        (false, false) => Err(RecordError::UnknownFormat),
        (true, false) => Ok(Format::V1),
        (false, true) => Ok(Format::V2),
        (true, true) => match (is_sound_v1(bytes), is_sound_v2(bytes)) {
            (true, false) => Ok(Format::V1),
            (false, true) => Ok(Format::V2),
            _ => Err(RecordError::AmbiguousFormat),
        },
    }
}

/// Whether a message v1 may begin like this; `bytes` are at least 17.
fn can_be_v1(bytes: &[u8]) -> bool {
    let Ok(total) = v1::total_bytes(bytes) else {
        return false;
    };
    let attributes = bytes[9];
    if attributes > 7 || Compression::from_attributes(attributes.into()).is_err() {
        return false;
    }
    let Some(key_length) = bytes.get(18..).and_then(<[u8]>::first_chunk::<4>) else {
        return true;
    };
    let key_length = i64::from(i32::from_be_bytes(*key_length));
    (-1..=(total - v1::MIN_MESSAGE_BYTES) as i64).contains(&key_length)
}

/// Whether a record batch v2 may begin like this; `bytes` are at least 17.
fn can_be_v2(bytes: &[u8], base_offsets: RangeInclusive<i64>) -> bool {
    let Some((base_offset, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    if !base_offsets.contains(&i64::from_be_bytes(*base_offset)) {
        return false;
    }
    if bytes.len() >= BATCH_HEADER_BYTES {
        return BatchHeader::parse(bytes).is_ok();
    }
    let batch_length = i32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]);
    bytes[MAGIC_OFFSET] == BATCH_MAGIC.cast_unsigned()
        && batch_length >= (BATCH_HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32
}

fn is_sound_v1(bytes: &[u8]) -> bool {
    let whole = v1::total_bytes(bytes).map(|total| bytes.get(..total));
    matches!(whole, Ok(Some(message)) if v1::check_crc(message).is_ok())
}

fn is_sound_v2(bytes: &[u8]) -> bool {
    let Ok(header) = BatchHeader::parse(bytes) else {
        return false;
    };
    let covered = bytes.get(ATTRIBUTES_OFFSET..header.total_bytes());
    covered.is_some_and(|covered| crc32c(covered) == header.crc)
}
