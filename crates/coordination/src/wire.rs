//! Kafka's primitive encodings, both the plain ones (i16/i32 lengths) and the compact ones
//! (unsigned varint of length + 1, tagged fields). Every length is checked against the bytes left
//! before anything is sliced or allocated.

use crate::CodecError;

/// Reads fields off the front of a byte slice.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that have not been read.
    pub fn left(&self) -> usize {
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

    /// One byte.
    pub fn i8(&mut self, field: &'static str) -> Result<i8, CodecError> {
        Ok(i8::from_be_bytes(self.array(field)?))
    }

    /// Two bytes.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, CodecError> {
        Ok(i16::from_be_bytes(self.array(field)?))
    }

    /// Four bytes.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, CodecError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    /// Eight bytes.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, CodecError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    /// Sixteen bytes.
    pub fn u128(&mut self, field: &'static str) -> Result<u128, CodecError> {
        Ok(u128::from_be_bytes(self.array(field)?))
    }

    /// An unsigned varint of at most 32 bits.
    pub fn uvarint(&mut self, field: &'static str) -> Result<u32, CodecError> {
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

    /// A text that may be null.
    pub fn opt_str(
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

    /// A text; null is an error.
    pub fn str(&mut self, compact: bool, field: &'static str) -> Result<&'a str, CodecError> {
        self.opt_str(compact, field)?
            .ok_or(CodecError::BadLength { field, length: -1 })
    }

    /// Bytes; null is an error.
    pub fn bytes(&mut self, compact: bool, field: &'static str) -> Result<&'a [u8], CodecError> {
        let length = self
            .length(compact, true, field)?
            .ok_or(CodecError::BadLength { field, length: -1 })?;
        self.take(length, field)
    }

    /// Bytes that may be null.
    pub fn opt_bytes(
        &mut self,
        compact: bool,
        field: &'static str,
    ) -> Result<Option<&'a [u8]>, CodecError> {
        match self.length(compact, true, field)? {
            Some(length) => self.take(length, field).map(Some),
            None => Ok(None),
        }
    }

    /// The count of an array whose elements take at least `element_bytes` each.
    pub fn count(
        &mut self,
        compact: bool,
        element_bytes: usize,
        field: &'static str,
    ) -> Result<usize, CodecError> {
        self.opt_count(compact, element_bytes, field)?
            .ok_or(CodecError::BadLength { field, length: -1 })
    }

    /// The same for an array that may be null (`None`).
    pub fn opt_count(
        &mut self,
        compact: bool,
        element_bytes: usize,
        field: &'static str,
    ) -> Result<Option<usize>, CodecError> {
        let Some(count) = self.length(compact, true, field)? else {
            return Ok(None);
        };
        if count.saturating_mul(element_bytes) > self.left() {
            return Err(CodecError::BadLength {
                field,
                length: count as i64,
            });
        }
        Ok(Some(count))
    }

    /// Calls `visit(tag, bytes)` for every tagged field.
    pub fn tagged(
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
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// With room for `bytes` bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
        }
    }

    /// What was written.
    pub fn finish(self) -> bytes::Bytes {
        self.bytes.into()
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// One byte.
    pub fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// An array that is not there.
    pub fn null_array(&mut self, compact: bool) {
        if compact {
            self.uvarint(0);
        } else {
            self.i32(-1);
        }
    }

    /// Two bytes.
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// Four bytes.
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// Eight bytes.
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// An unsigned varint.
    pub fn uvarint(&mut self, mut value: u32) {
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

    /// A text. An error means that it is too long for its length field.
    pub fn str(
        &mut self,
        value: &str,
        compact: bool,
        field: &'static str,
    ) -> Result<(), CodecError> {
        self.length(value.len(), compact, false, field)?;
        self.raw(value.as_bytes());
        Ok(())
    }

    /// A text that may be null.
    pub fn opt_str(
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

    /// Bytes with their length.
    pub fn byte_field(
        &mut self,
        value: &[u8],
        compact: bool,
        field: &'static str,
    ) -> Result<(), CodecError> {
        self.length(value.len(), compact, true, field)?;
        self.raw(value);
        Ok(())
    }

    /// The count of an array.
    pub fn count(
        &mut self,
        count: usize,
        compact: bool,
        field: &'static str,
    ) -> Result<(), CodecError> {
        self.length(count, compact, true, field)
    }
}
