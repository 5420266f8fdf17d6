//! Compresses and decompresses the records of a batch, one codec a file.
//!
//! Decompression is bounded by the caller: output beyond `max_bytes` is an error, found before
//! more than that was kept. Each decoder must consume its input to the end, so that what follows
//! the compressed data cannot hide in a batch.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::io::{self, Read};

use super::{Compression, RecordError};

/// The first buffer of a decompression; it grows as output comes.
const FIRST_BUFFER_BYTES: usize = 64 << 10;

/// Appends `bytes`, compressed, to `out`.
pub(super) fn compress(
    codec: Compression,
    level: Option<i32>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    codec.check_level(level)?;
    let done = match codec {
        Compression::None => {
            out.extend_from_slice(bytes);
            Ok(())
        }
        Compression::Gzip => gzip::compress(level, bytes, out),
        Compression::Snappy => snappy::compress(bytes, out),
        Compression::Lz4 => lz4::compress(bytes, out),
        Compression::Zstd => zstd::compress(level, bytes, out),
    };
    done.map_err(|error| RecordError::Compress {
        codec,
        reason: error.to_string(),
    })
}

/// Decompresses all of `bytes` to at most `max_bytes`.
pub(super) fn decompress(
    codec: Compression,
    bytes: &[u8],
    max_bytes: usize,
) -> Result<Vec<u8>, RecordError> {
    let result = match codec {
        Compression::None if bytes.len() > max_bytes => Err(Stop::TooLarge),
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => gzip::decompress(bytes, max_bytes),
        Compression::Snappy => snappy::decompress(bytes, max_bytes),
        Compression::Lz4 => lz4::decompress(bytes, max_bytes),
        Compression::Zstd => zstd::decompress(bytes, max_bytes),
    };
    result.map_err(|stop| match stop {
        Stop::TooLarge => RecordError::DecompressedTooLarge {
            codec,
            limit_bytes: max_bytes,
        },
        Stop::Damaged(reason) => RecordError::Decompress { codec, reason },
    })
}

/// Why a decoder stopped.
enum Stop {
    /// There would be more output than allowed.
    TooLarge,
    /// The input is not what the codec writes.
    Damaged(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Reads a decoder to its end, keeping at most `max_bytes`.
fn read_bounded(decoder: impl Read, max_bytes: usize) -> Result<Vec<u8>, Stop> {
    let mut out = Vec::with_capacity(FIRST_BUFFER_BYTES.min(max_bytes));
    // One byte more than allowed tells "exactly the limit" from "beyond it".
    let allowed = (max_bytes as u64).saturating_add(1);
    decoder.take(allowed).read_to_end(&mut out)?;
    if out.len() > max_bytes {
        return Err(Stop::TooLarge);
    }
    Ok(out)
}
