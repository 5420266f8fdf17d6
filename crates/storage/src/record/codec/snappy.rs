//! Snappy in the frames of snappy-java, and raw Snappy.
//!
//! | bytes | field | |
//! |---|---|---|
//! | 8 | magic | `82 53 4e 41 50 50 59 00` |
//! | 4 | version | 1, big-endian |
//! | 4 | compatible version | 1 |
//! | 4 | block length | of the compressed bytes, big-endian |
//! | … | block | raw Snappy of up to 32 KiB; blocks follow to the end of the data |
//!
//! Without the magic the data is one raw Snappy block, as some clients write it. Streams may be
//! concatenated: where a block's length would stand, another header may.

use std::io;

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::Stop;

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
/// What snappy-java puts into a block.
const BLOCK_BYTES: usize = 32 << 10;
/// No Snappy element yields more: a copy of 64 bytes takes 3.
const MAX_RATIO: usize = 64 / 3 + 1;

pub(super) fn compress(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = Encoder::new();
    for block in bytes.chunks(BLOCK_BYTES) {
        let start = out.len();
        out.resize(start + 4 + max_compress_len(block.len()), 0);
        let written = encoder.compress(block, &mut out[start + 4..])?;
        out[start..start + 4].copy_from_slice(&(written as u32).to_be_bytes());
        out.truncate(start + 4 + written);
    }
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], max_bytes: usize) -> Result<Vec<u8>, Stop> {
    let mut out = Vec::new();
    if !bytes.starts_with(&MAGIC) {
        append_block(bytes, &mut out, max_bytes)?;
        return Ok(out);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        if rest.starts_with(&MAGIC) {
            rest = after_header(rest)?;
            continue;
        }
        let (length, tail) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| damaged("a block's length is cut off"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, tail) = tail
            .split_at_checked(length)
            .ok_or_else(|| damaged("a block is longer than the data"))?;
        append_block(block, &mut out, max_bytes)?;
        rest = tail;
    }
    Ok(out)
}

/// Checks a stream's header and returns what follows it.
fn after_header(bytes: &[u8]) -> Result<&[u8], Stop> {
    let (header, rest) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or_else(|| damaged("the header is cut off"))?;
    let compatible = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    if compatible > VERSION {
        return Err(damaged("it needs a newer version of the framing"));
    }
    Ok(rest)
}

fn append_block(block: &[u8], out: &mut Vec<u8>, max_bytes: usize) -> Result<(), Stop> {
    let claimed = decompress_len(block).map_err(|error| Stop::Damaged(error.to_string()))?;
    if claimed > block.len().saturating_mul(MAX_RATIO) {
        return Err(damaged("a block claims more than it can hold"));
    }
    if claimed > max_bytes.saturating_sub(out.len()) {
        return Err(Stop::TooLarge);
    }
    let start = out.len();
    out.resize(start + claimed, 0);
    Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(|error| Stop::Damaged(error.to_string()))?;
    Ok(())
}

fn damaged(reason: &str) -> Stop {
    Stop::Damaged(reason.to_owned())
}
