//! Variable-length integers of record batch v2: zigzag, then 7 bits a byte, low bits first.
//!
//! | type | bits | bytes | a byte's high bit |
//! |---|---|---|---|
//! | varint | 32 | 1 to 5 | another byte follows |
//! | varlong | 64 | 1 to 10 | another byte follows |
//!
//! Zigzag maps 0, −1, 1, −2, 2 … to 0, 1, 2, 3, 4 …, so that small negative numbers stay short.
//! Writers here always write the shortest form. Readers accept zero-padded forms within the type's
//! length, because Kafka's own reader does, and refuse what is longer or does not fit the type.

use super::RecordError;

/// Most bytes of a 32-bit variable-length integer.
pub const MAX_VARINT_BYTES: usize = 5;
/// Most bytes of a 64-bit variable-length integer.
pub const MAX_VARLONG_BYTES: usize = 10;

#[inline]
fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

#[inline]
fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Bytes that [`write_varint`] writes for `value`.
#[inline]
pub fn varint_len(value: i32) -> usize {
    let significant = 32 - (zigzag32(value) | 1).leading_zeros();
    significant.div_ceil(7) as usize
}

/// Bytes that [`write_varlong`] writes for `value`.
#[inline]
pub fn varlong_len(value: i64) -> usize {
    let significant = 64 - (zigzag64(value) | 1).leading_zeros();
    significant.div_ceil(7) as usize
}

/// Appends a 32-bit variable-length integer.
#[inline]
pub fn write_varint(out: &mut Vec<u8>, value: i32) {
    write_unsigned(out, u64::from(zigzag32(value)));
}

/// Appends a 64-bit variable-length integer.
#[inline]
pub fn write_varlong(out: &mut Vec<u8>, value: i64) {
    write_unsigned(out, zigzag64(value));
}

#[inline]
fn write_unsigned(out: &mut Vec<u8>, mut rest: u64) {
    // Almost every integer of a record fits one byte.
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads a 32-bit variable-length integer from the front of `bytes`; returns it and its length.
///
/// # Errors
/// [`RecordError::Varint`] when the bytes end inside it, when it has more than
/// [`MAX_VARINT_BYTES`] bytes, or when it has bits beyond the 32nd.
#[inline]
pub fn read_varint(bytes: &[u8]) -> Result<(i32, usize), RecordError> {
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        let raw = i32::from(first);
        return Ok(((raw >> 1) ^ -(raw & 1), 1));
    }
    let (raw, used) = read_unsigned(bytes, MAX_VARINT_BYTES)?;
    let raw = u32::try_from(raw).map_err(|_| RecordError::Varint("does not fit 32 bits"))?;
    let value = (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed();
    Ok((value, used))
}

/// Reads a 64-bit variable-length integer from the front of `bytes`; returns it and its length.
///
/// # Errors
/// [`RecordError::Varint`] when the bytes end inside it, when it has more than
/// [`MAX_VARLONG_BYTES`] bytes, or when it has bits beyond the 64th.
#[inline]
pub fn read_varlong(bytes: &[u8]) -> Result<(i64, usize), RecordError> {
    let (raw, used) = read_unsigned(bytes, MAX_VARLONG_BYTES)?;
    let value = (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed();
    Ok((value, used))
}

#[inline]
fn read_unsigned(bytes: &[u8], max_bytes: usize) -> Result<(u64, usize), RecordError> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(max_bytes).enumerate() {
        let payload = u64::from(byte & 0x7f);
        // The tenth byte of a 64-bit integer has room for one bit.
        if index == MAX_VARLONG_BYTES - 1 && payload > 1 {
            return Err(RecordError::Varint("does not fit 64 bits"));
        }
        value |= payload << (7 * index);
        if byte < 0x80 {
            return Ok((value, index + 1));
        }
    }
    Err(RecordError::Varint(if bytes.len() < max_bytes {
        "is cut off"
    } else {
        "is longer than its type allows"
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_values() {
        // From the definition: zigzag, then groups of seven bits, low group first.
        let table: [(i32, &[u8]); 9] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8192, &[0x80, 0x80, 0x01]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in table {
            let mut out = Vec::new();
            write_varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(varint_len(value), bytes.len(), "{value}");
            assert_eq!(read_varint(bytes), Ok((value, bytes.len())));
            assert_eq!(read_varlong(bytes), Ok((i64::from(value), bytes.len())));
        }
        let mut out = Vec::new();
        write_varlong(&mut out, i64::MIN);
        assert_eq!(
            out,
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]
        );
        assert_eq!(read_varlong(&out), Ok((i64::MIN, 10)));
    }

    #[test]
    fn limits() {
        let too_long = [0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert!(read_varint(&too_long).is_err());
        assert_eq!(read_varlong(&too_long), Ok((0, 6)));
        assert!(read_varlong(&[0x80; 11]).is_err());
        let beyond_32_bits = [0xff, 0xff, 0xff, 0xff, 0x1f];
        assert!(read_varint(&beyond_32_bits).is_err());
        let beyond_64_bits = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert!(read_varlong(&beyond_64_bits).is_err());
        assert!(read_varint(&[]).is_err());
        assert!(read_varint(&[0x80]).is_err());
        // Zero-padded, within the length: Kafka reads it, so do we.
        assert_eq!(read_varint(&[0x82, 0x00]), Ok((1, 2)));
    }

    proptest! {
        #[test]
        fn round_trip(value: i64, small: i32) {
            let mut out = Vec::new();
            write_varlong(&mut out, value);
            prop_assert_eq!(out.len(), varlong_len(value));
            prop_assert_eq!(read_varlong(&out), Ok((value, out.len())));
            out.clear();
            write_varint(&mut out, small);
            prop_assert_eq!(out.len(), varint_len(small));
            prop_assert_eq!(read_varint(&out), Ok((small, out.len())));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let _ = read_varint(&bytes);
            let _ = read_varlong(&bytes);
        }
    }
}
