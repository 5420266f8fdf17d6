//! Kafka's primitive encodings, both the plain ones (i16/i32 lengths) and the compact ones
//! (unsigned varint of length + 1, tagged fields). Every length is checked against the bytes left
//! before anything is sliced or allocated.

use crate::error::CodecError;

/// Reads fields off the front of a byte slice.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], CodecError> {
        let (head, tail) = self
            .rest
            .split_at_checked(count)
            .ok_or(CodecError::Truncated {
                field,
                needed: count,
                left: self.rest.len(),
            })?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CodecError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, field)?);
        Ok(bytes)
    }

    pub(super) fn i16(&mut self, field: &'static str) -> Result<i16, CodecError> {
        Ok(i16::from_be_bytes(self.array(field)?))
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, CodecError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, CodecError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    pub(super) fn u128(&mut self, field: &'static str) -> Result<u128, CodecError> {
        Ok(u128::from_be_bytes(self.array(field)?))
    }

    pub(super) fn uvarint(&mut self, field: &'static str) -> Result<u32, CodecError> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array::<1>(field)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| CodecError::BadLength {
                    field,
                    length: value as i64,
                });
            }
        }
        Err(CodecError::BadLength {
            field,
            length: value as i64,
        })
    }

    /// The length of a text or byte field, `None` for null. `wide`: a plain length is i32, not i16.
    fn length(
        &mut self,
        compact: bool,
        wide: bool,
        field: &'static str,
    ) -> Result<Option<usize>, CodecError> {
        let length = match (compact, wide) {
            (true, _) => i64::from(self.uvarint(field)?) - 1,
            (false, true) => i64::from(self.i32(field)?),
            (false, false) => i64::from(self.i16(field)?),
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(CodecError::BadLength { field, length }),
        }
    }

    pub(super) fn opt_str(
        &mut self,
        compact: bool,
        field: &'static str,
    ) -> Result<Option<&'a str>, CodecError> {
        let Some(length) = self.length(compact, false, field)? else {
            return Ok(None);
        };
        let bytes = self.take(length, field)?;
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| CodecError::NotUtf8 { field })
    }

    pub(super) fn str(
        &mut self,
        compact: bool,
        field: &'static str,
    ) -> Result<&'a str, CodecError> {
        self.opt_str(compact, field)?
            .ok_or(CodecError::BadLength { field, length: -1 })
    }

    pub(super) fn bytes(
        &mut self,
        compact: bool,
        field: &'static str,
    ) -> Result<&'a [u8], CodecError> {
        let length = self
            .length(compact, true, field)?
            .ok_or(CodecError::BadLength { field, length: -1 })?;
        self.take(length, field)
    }

    /// The count of an array whose elements take at least `element_bytes` each.
    pub(super) fn count(
        &mut self,
        compact: bool,
        element_bytes: usize,
        field: &'static str,
    ) -> Result<usize, CodecError> {
        let count = self
            .length(compact, true, field)?
            .ok_or(CodecError::BadLength { field, length: -1 })?;
        if count.saturating_mul(element_bytes) > self.left() {
            return Err(CodecError::BadLength {
                field,
                length: count as i64,
            });
        }
        Ok(count)
    }

    /// Calls `visit(tag, bytes)` for every tagged field.
    pub(super) fn tagged(
        &mut self,
        mut visit: impl FnMut(u32, &'a [u8]) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let count = self.uvarint("tagged fields")?;
        for _ in 0..count {
            let tag = self.uvarint("tag")?;
            let length = self.uvarint("tagged field")? as usize;
            let bytes = self.take(length, "tagged field")?;
            visit(tag, bytes)?;
        }
        Ok(())
    }
}

/// Appends fields to a buffer.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
        }
    }

    pub(super) fn finish(self) -> bytes::Bytes {
        self.bytes.into()
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn length(
        &mut self,
        length: usize,
        compact: bool,
        wide: bool,
        field: &'static str,
    ) -> Result<(), CodecError> {
        let too_long = || CodecError::BadLength {
            field,
            length: length as i64,
        };
        match (compact, wide) {
            (true, _) => self.uvarint(
                u32::try_from(length)
                    .ok()
                    .and_then(|l| l.checked_add(1))
                    .ok_or_else(too_long)?,
            ),
            (false, true) => self.i32(i32::try_from(length).map_err(|_| too_long())?),
            (false, false) => self.i16(i16::try_from(length).map_err(|_| too_long())?),
        }
        Ok(())
    }

    pub(super) fn str(
        &mut self,
        value: &str,
        compact: bool,
        field: &'static str,
    ) -> Result<(), CodecError> {
        self.length(value.len(), compact, false, field)?;
        self.raw(value.as_bytes());
        Ok(())
    }

    pub(super) fn opt_str(
        &mut self,
        value: Option<&str>,
        compact: bool,
        field: &'static str,
    ) -> Result<(), CodecError> {
        match value {
            Some(value) => self.str(value, compact, field)?,
            None if compact => self.uvarint(0),
            None => self.i16(-1),
        }
        Ok(())
    }

    pub(super) fn byte_field(
        &mut self,
        value: &[u8],
        compact: bool,
        field: &'static str,
    ) -> Result<(), CodecError> {
        self.length(value.len(), compact, true, field)?;
        self.raw(value);
        Ok(())
    }

    pub(super) fn count(
        &mut self,
        count: usize,
        compact: bool,
        field: &'static str,
    ) -> Result<(), CodecError> {
        self.length(count, compact, true, field)
    }
}
