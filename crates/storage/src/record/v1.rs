//! Message v1: the single-message frame of the original DistributedLog.
//!
//! | at | bytes | field | |
//! |---|---|---|---|
//! | 0 | 4 | length | `u32`, of all that follows the CRC field, at least 18 |
//! | 4 | 4 | CRC32C | `u32`, of all that follows this field |
//! | 8 | 1 | magic | 1 |
//! | 9 | 1 | attributes | bits 0–2 codec of the value, the others are 0 |
//! | 10 | 8 | timestamp | `i64`, Unix ms |
//! | 18 | 4 | key length | `i32`, −1: no key |
//! | 22 | … | key | |
//! | … | 4 | value length | `i32`, −1: no value |
//! | … | … | value | compressed on its own with the attributes' codec |
//!
//! All integers are big-endian. A message has no offset: it is the base offset of its segment plus
//! its place in it. The codec applies to a value that is there; a message without a value has
//! codec 0. Keys are never compressed.
//!
//! Kafka's message sets of magic 0 and 1 are another format, which is not read here.

use ::crc32c::crc32c_append;
use bytes::{BufMut, Bytes};

use super::{Compression, DEFAULT_MAX_UNCOMPRESSED_BYTES, RecordError, codec, crc32c};

pub use super::format::{detect_format, detect_segment_format};

/// The magic byte of a message v1.
pub const MAGIC: u8 = 1;
/// Where the magic byte stands.
pub const MAGIC_OFFSET: usize = 8;
/// Bytes in front of what the length field counts: the length and the CRC.
pub const PREFIX_BYTES: usize = 8;
/// Bytes of a message without key and value.
pub const MIN_MESSAGE_BYTES: usize = 26;
/// The most bytes a message can have.
pub const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;

/// The smallest value of the length field.
pub(super) const MIN_LENGTH: u32 = (MIN_MESSAGE_BYTES - PREFIX_BYTES) as u32;
const KEY_LENGTH_OFFSET: usize = 18;
const CODEC_MASK: u8 = 0x07;

/// A message v1, its value decompressed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageV1 {
    /// When it was written, in Unix ms.
    pub timestamp_ms: i64,
    /// The attributes as they stand in the bytes: the codec that the value was compressed with,
    /// 0 for a message without a value.
    pub attributes: u8,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value, if it has one.
    pub value: Option<Bytes>,
}

impl MessageV1 {
    /// Takes one whole message off the front of `bytes`, sharing them. `None`, with `bytes`
    /// unchanged, when fewer bytes than a whole message are there.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn split_first(bytes: &mut Bytes) -> Result<Option<Self>, RecordError> {
        if bytes.len() < MIN_MESSAGE_BYTES {
            return Ok(None);
        }
        let total = total_bytes(bytes)?;
        if bytes.len() < total {
            return Ok(None);
        }
        let message = decode(&bytes.slice(..total))?;
        let _ = bytes.split_to(total);
        Ok(Some(message))
    }

    /// The codec that the value was compressed with.
    ///
    /// # Errors
    /// [`RecordError::UnknownCompression`], never for a message that was decoded.
    pub fn compression(&self) -> Result<Compression, RecordError> {
        Compression::from_attributes(self.attributes.into())
    }
}

/// Bytes of the message at the front of `head`, by its length field.
///
/// # Errors
/// [`RecordError::Truncated`] below 9 bytes, [`RecordError::BadField`] for another magic byte or a
/// length that no message has.
pub fn total_bytes(head: &[u8]) -> Result<usize, RecordError> {
    let (Some(length), Some(&magic)) = (head.first_chunk::<4>(), head.get(MAGIC_OFFSET)) else {
        return Err(RecordError::Truncated {
            what: "a message v1",
            needed: MIN_MESSAGE_BYTES,
            available: head.len(),
        });
    };
    if magic != MAGIC {
        return Err(RecordError::BadField {
            field: "magic byte of a message v1",
            value: magic.into(),
            allowed: "1",
        });
    }
    let length = u32::from_be_bytes(*length);
    if length < MIN_LENGTH || length as usize > MAX_MESSAGE_BYTES - PREFIX_BYTES {
        return Err(RecordError::BadField {
            field: "message length",
            value: length.into(),
            allowed: "18 to 2147483639",
        });
    }
    Ok(PREFIX_BYTES + length as usize)
}

/// Appends a message; its value is compressed with `compression` at the codec's default level.
///
/// # Errors
/// [`RecordError::TooLarge`] above [`MAX_MESSAGE_BYTES`], [`RecordError::Compress`]; `out` is
/// unchanged then.
pub fn encode(
    out: &mut impl BufMut,
    timestamp_ms: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    compression: Compression,
) -> Result<(), RecordError> {
    let mut packed = Vec::new();
    let (value, attributes) = match value {
        Some(value) if compression != Compression::None => {
            codec::compress(compression, None, value, &mut packed)?;
            (Some(packed.as_slice()), compression.id())
        }
        value => (value, 0),
    };
    let length_of = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len) as u64;
    let total = MIN_MESSAGE_BYTES as u64 + length_of(key) + length_of(value);
    if total > MAX_MESSAGE_BYTES as u64 {
        return Err(RecordError::TooLarge { bytes: total });
    }
    let mut head = [0; KEY_LENGTH_OFFSET - PREFIX_BYTES];
    head[0] = MAGIC;
    head[1] = attributes;
    head[2..].copy_from_slice(&timestamp_ms.to_be_bytes());
    // The checksum stands in front of what it covers: go over the parts once for it.
    let length_field = |bytes: Option<&[u8]>| bytes.map_or(-1, |b| b.len() as i32).to_be_bytes();
    let (key_length, value_length) = (length_field(key), length_field(value));
    let parts = [
        &head[..],
        &key_length,
        key.unwrap_or_default(),
        &value_length,
        value.unwrap_or_default(),
    ];
    let crc = parts.iter().fold(0, |crc, part| crc32c_append(crc, part));
    out.put_u32((total as usize - PREFIX_BYTES) as u32);
    out.put_u32(crc);
    for part in parts {
        out.put_slice(part);
    }
    Ok(())
}

/// Reads bytes that must be exactly one message, checks its CRC and decompresses its value, to at
/// most [`DEFAULT_MAX_UNCOMPRESSED_BYTES`]. Key and uncompressed value share `bytes`.
///
/// # Errors
/// As [`decode_with_limit`].
pub fn decode(bytes: &Bytes) -> Result<MessageV1, RecordError> {
    decode_with_limit(bytes, DEFAULT_MAX_UNCOMPRESSED_BYTES)
}

/// As [`decode`], with a limit on the bytes that the value may decompress to.
///
/// # Errors
/// As [`total_bytes`]; [`RecordError::Truncated`], [`RecordError::CrcMismatch`],
/// [`RecordError::BadField`], [`RecordError::UnknownCompression`], [`RecordError::Decompress`],
/// [`RecordError::DecompressedTooLarge`]; [`RecordError::Inconsistent`] when bytes follow the
/// message.
pub fn decode_with_limit(bytes: &Bytes, max_bytes: usize) -> Result<MessageV1, RecordError> {
    let total = total_bytes(bytes)?;
    if bytes.len() < total {
        return Err(truncated(total, bytes.len()));
    }
    if bytes.len() > total {
        return Err(RecordError::Inconsistent(format!(
            "{} bytes follow the message",
            bytes.len() - total
        )));
    }
    check_crc(bytes)?;
    let attributes = bytes[9];
    if attributes & !CODEC_MASK != 0 {
        return Err(RecordError::BadField {
            field: "attributes",
            value: attributes.into(),
            allowed: "0 in all bits but the lowest three",
        });
    }
    let codec = Compression::from_attributes(attributes.into())?;
    let (key, value_at) = nullable(bytes, KEY_LENGTH_OFFSET, "key length")?;
    let (value, end) = nullable(bytes, value_at, "value length")?;
    if end != total {
        return Err(RecordError::BadField {
            field: "message length",
            value: (total - PREFIX_BYTES) as i64,
            allowed: "the length of its fields",
        });
    }
    let value = match value {
        Some(packed) if codec != Compression::None => {
            Some(codec::decompress(codec, &packed, max_bytes)?.into())
        }
        value => value,
    };
    Ok(MessageV1 {
        timestamp_ms: i64::from_be_bytes(array(bytes, 10)?),
        attributes,
        key,
        value,
    })
}

/// Compares the CRC of one whole message with that of its bytes.
pub(super) fn check_crc(message: &[u8]) -> Result<(), RecordError> {
    let stored = u32::from_be_bytes(array(message, 4)?);
    let actual = crc32c(message.get(PREFIX_BYTES..).unwrap_or_default());
    if stored == actual {
        return Ok(());
    }
    Err(RecordError::CrcMismatch { stored, actual })
}

/// Reads a length at `at` and as many bytes; returns them and where they end.
fn nullable(
    bytes: &Bytes,
    at: usize,
    field: &'static str,
) -> Result<(Option<Bytes>, usize), RecordError> {
    let length = i32::from_be_bytes(array(bytes, at)?);
    let start = at + 4;
    if length == -1 {
        return Ok((None, start));
    }
    let length = usize::try_from(length).map_err(|_| RecordError::BadField {
        field,
        value: length.into(),
        allowed: "-1 or more",
    })?;
    let end = start.saturating_add(length);
    if end > bytes.len() {
        return Err(truncated(end, bytes.len()));
    }
    Ok((Some(bytes.slice(start..end)), end))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], RecordError> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or_else(|| truncated(at + N, bytes.len()))
}

fn truncated(needed: usize, available: usize) -> RecordError {
    RecordError::Truncated {
        what: "a message v1",
        needed,
        available,
    }
}
