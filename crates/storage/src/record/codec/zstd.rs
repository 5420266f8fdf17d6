//! Zstandard: RFC 8878, one frame or several.

use std::io;

use zstd::stream::raw::{CParameter, DParameter};
use zstd::stream::{read::Decoder, write::Encoder};

use super::{Stop, read_bounded};

/// The largest window a frame may ask for: what the highest level uses, 128 MiB.
const MAX_WINDOW_LOG: u32 = 27;
const DEFAULT_LEVEL: i32 = 3;

pub(super) fn compress(level: Option<i32>, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = Encoder::new(out, level.unwrap_or(DEFAULT_LEVEL))?;
    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
    encoder.set_parameter(CParameter::ContentSizeFlag(true))?;
    io::Write::write_all(&mut encoder, bytes)?;
    encoder.finish()?;
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], max_bytes: usize) -> Result<Vec<u8>, Stop> {
    let mut decoder = Decoder::with_buffer(bytes)?;
    // Not tied to `max_bytes`: a stream without its size names its level's window, however short it
    // is. The window is reserved, but only what was really decompressed is ever touched.
    decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
    read_bounded(decoder, max_bytes)
}
