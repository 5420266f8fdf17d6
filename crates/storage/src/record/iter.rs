//! The records of a batch, read one after the other from its uncompressed bytes.
//!
//! A record is
//!
//! | field | type | |
//! |---|---|---|
//! | length | varint | bytes of the record after this field |
//! | attributes | i8 | no bit has a meaning yet |
//! | timestamp delta | varlong | from the batch's base timestamp, ms |
//! | offset delta | varint | from the batch's base offset |
//! | key length | varint | −1: no key |
//! | key | bytes | |
//! | value length | varint | −1: no value (a tombstone in a compacted topic) |
//! | value | bytes | |
//! | header count | varint | |
//! | header × count | | key length varint, key (UTF-8), value length varint (−1: no value), value |
//!
//! Invariants: nothing is allocated by a length that was not compared with the bytes that are
//! there; an iterator that met an error ends; every record's offset is inside the header's range
//! and above the one before.

use bytes::Bytes;

use super::varint::{read_varint, read_varlong};
use super::{BatchHeader, Header, Record, RecordError, TimestampType};

/// The fewest bytes a record can have: seven fields of one byte.
pub(super) const MIN_RECORD_BYTES: usize = 7;

/// The records of one batch, not compressed (any more).
#[derive(Debug, Clone)]
pub struct RecordSection {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordSection {
    /// Takes the uncompressed record bytes of a batch with this header.
    ///
    /// # Errors
    /// [`RecordError::Inconsistent`] when so many records cannot be in so few bytes.
    pub(super) fn new(header: BatchHeader, bytes: Bytes) -> Result<Self, RecordError> {
        check_count(&header, bytes.len())?;
        Ok(Self { header, bytes })
    }

    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The uncompressed bytes of all records.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records as borrowed slices: no allocation, no reference counting.
    pub fn refs(&self) -> RecordRefs<'_> {
        RecordRefs {
            header: &self.header,
            bytes: &self.bytes,
            walk: Walk::default(),
        }
    }

    /// The records as owned values whose keys and values share this section's bytes.
    pub fn into_records(self) -> Records {
        Records {
            section: self,
            walk: Walk::default(),
        }
    }
}

/// A record whose key, value and headers are slices of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// The record's offset in its log.
    pub offset: i64,
    /// The record's timestamp in Unix ms.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value, if it has one.
    pub value: Option<&'a [u8]>,
    /// Bytes of the record in the batch before compression, its length field included.
    pub encoded_bytes: usize,
    header_count: usize,
    header_bytes: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// How many headers the record has.
    pub fn header_count(&self) -> usize {
        self.header_count
    }

    /// The headers' keys and values, in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        // Every header was read once when the record was, so nothing can fail here.
        let mut cursor = Cursor::new(self.header_bytes);
        (0..self.header_count).map_while(move |_| cursor.header().ok())
    }

    /// An owned record that shares the bytes of `section`, of which `self` must be a part.
    fn to_record(self, section: &Bytes) -> Record {
        let mut headers = Vec::with_capacity(self.header_count);
        headers.extend(self.headers().map(|(key, value)| Header {
            key: section.slice_ref(key),
            value: value.map(|value| section.slice_ref(value)),
        }));
        Record {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.map(|key| section.slice_ref(key)),
            value: self.value.map(|value| section.slice_ref(value)),
            headers,
        }
    }
}

/// The records of a batch as borrowed slices; see [`RecordSection::refs`].
#[derive(Debug, Clone)]
pub struct RecordRefs<'a> {
    header: &'a BatchHeader,
    bytes: &'a [u8],
    walk: Walk,
}

impl<'a> RecordRefs<'a> {
    /// Takes the uncompressed record bytes of a batch with this header.
    ///
    /// # Errors
    /// [`RecordError::Inconsistent`] when so many records cannot be in so few bytes.
    pub(super) fn new(header: &'a BatchHeader, bytes: &'a [u8]) -> Result<Self, RecordError> {
        check_count(header, bytes.len())?;
        Ok(Self {
            header,
            bytes,
            walk: Walk::default(),
        })
    }
}

fn check_count(header: &BatchHeader, bytes: usize) -> Result<(), RecordError> {
    let count = usize::try_from(header.record_count).unwrap_or(usize::MAX);
    if count > bytes / MIN_RECORD_BYTES {
        return Err(RecordError::Inconsistent(format!(
            "{count} records in {bytes} bytes"
        )));
    }
    Ok(())
}

impl<'a> Iterator for RecordRefs<'a> {
    type Item = Result<RecordRef<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.walk.next(self.header, self.bytes)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.walk.size_hint(self.header)
    }
}

/// The records of a batch as owned values; see [`RecordSection::into_records`].
#[derive(Debug, Clone)]
pub struct Records {
    section: RecordSection,
    walk: Walk,
}

impl Iterator for Records {
    type Item = Result<Record, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.walk.next(&self.section.header, &self.section.bytes)?;
        Some(next.map(|record| record.to_record(&self.section.bytes)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.walk.size_hint(&self.section.header)
    }
}

/// How far a batch has been read.
#[derive(Debug, Clone, Default)]
struct Walk {
    position: usize,
    /// Records returned so far.
    returned: i32,
    /// The smallest offset delta that the next record may have.
    min_delta: i64,
    ended: bool,
}

impl Walk {
    #[inline]
    fn next<'a>(
        &mut self,
        header: &BatchHeader,
        bytes: &'a [u8],
    ) -> Option<Result<RecordRef<'a>, RecordError>> {
        if self.ended {
            return None;
        }
        if self.returned >= header.record_count {
            self.ended = true;
            let rest = bytes.len() - self.position;
            return (rest > 0).then(|| {
                Err(RecordError::Inconsistent(format!(
                    "{rest} bytes follow the last record"
                )))
            });
        }
        match self.read(header, &bytes[self.position..]) {
            Ok(record) => {
                self.position += record.encoded_bytes;
                self.returned += 1;
                Some(Ok(record))
            }
            Err(reason) => {
                self.ended = true;
                Some(Err(RecordError::BadRecord {
                    index: self.returned,
                    reason: reason.to_string(),
                }))
            }
        }
    }

    #[inline]
    fn read<'a>(
        &mut self,
        header: &BatchHeader,
        bytes: &'a [u8],
    ) -> Result<RecordRef<'a>, RecordError> {
        let (length, length_bytes) = read_varint(bytes)?;
        let length = check_length("record length", length)?;
        let body = bytes[length_bytes..].get(..length);
        let body = body.ok_or(RecordError::Truncated {
            what: "a record",
            needed: length_bytes.saturating_add(length),
            available: bytes.len(),
        })?;
        let mut cursor = Cursor::new(body);
        cursor.take(1)?; // attributes, no bit has a meaning
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = i64::from(cursor.varint()?);
        let key = cursor.nullable("key length")?;
        let value = cursor.nullable("value length")?;
        let header_count = check_length("header count", cursor.varint()?)?;
        let header_bytes = cursor.rest;
        for _ in 0..header_count {
            cursor.header()?;
        }
        if !cursor.rest.is_empty() {
            return Err(RecordError::BadField {
                field: "record length",
                value: length as i64,
                allowed: "the length of its fields",
            });
        }
        self.check_offset(header, offset_delta)?;
        Ok(RecordRef {
            offset: header.base_offset + offset_delta,
            timestamp_ms: timestamp(header, timestamp_delta)?,
            key,
            value,
            encoded_bytes: length_bytes + length,
            header_count,
            header_bytes,
        })
    }

    #[inline]
    fn check_offset(&mut self, header: &BatchHeader, delta: i64) -> Result<(), RecordError> {
        if delta < self.min_delta || delta > i64::from(header.last_offset_delta) {
            return Err(RecordError::BadField {
                field: "offset delta",
                value: delta,
                allowed: "above the one before, at most the batch's last",
            });
        }
        self.min_delta = delta + 1;
        Ok(())
    }

    fn size_hint(&self, header: &BatchHeader) -> (usize, Option<usize>) {
        if self.ended {
            return (0, Some(0));
        }
        let rest = usize::try_from(header.record_count - self.returned).unwrap_or(0);
        // One more: the error about bytes behind the last record. At least: one error.
        (rest.min(1), Some(rest.saturating_add(1)))
    }
}

#[inline]
fn timestamp(header: &BatchHeader, delta: i64) -> Result<i64, RecordError> {
    match header.timestamp_type() {
        TimestampType::LogAppendTime => Ok(header.max_timestamp),
        TimestampType::CreateTime => {
            header
                .base_timestamp
                .checked_add(delta)
                .ok_or(RecordError::BadField {
                    field: "timestamp delta",
                    value: delta,
                    allowed: "what does not overflow the timestamp",
                })
        }
    }
}

#[inline]
fn check_length(field: &'static str, value: i32) -> Result<usize, RecordError> {
    usize::try_from(value).map_err(|_| RecordError::BadField {
        field,
        value: value.into(),
        allowed: "0 or more",
    })
}

/// The bytes of a record that were not read yet.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    #[inline]
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(bytes)
            .ok_or(RecordError::Truncated {
                what: "a field of a record",
                needed: bytes,
                available: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn varint(&mut self) -> Result<i32, RecordError> {
        let (value, used) = read_varint(self.rest)?;
        self.rest = &self.rest[used..];
        Ok(value)
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, RecordError> {
        let (value, used) = read_varlong(self.rest)?;
        self.rest = &self.rest[used..];
        Ok(value)
    }

    #[inline]
    fn nullable(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, RecordError> {
        match self.varint()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => self.take(length).map(Some),
                Err(_) => Err(RecordError::BadField {
                    field,
                    value: length.into(),
                    allowed: "-1 or more",
                }),
            },
        }
    }

    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), RecordError> {
        let key_length = check_length("header key length", self.varint()?)?;
        let key = self.take(key_length)?;
        Ok((key, self.nullable("header value length")?))
    }
}
