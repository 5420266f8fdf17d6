//! Gzip: RFC 1952, one member or several.

use std::io::{self, Write};

use flate2::Compression as Level;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{Stop, read_bounded};

pub(super) fn compress(level: Option<i32>, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let level = match level.map(u32::try_from) {
        Some(Ok(level)) => Level::new(level),
        // −1 is gzip's own name for its default.
        Some(Err(_)) | None => Level::default(),
    };
    let mut encoder = GzEncoder::new(out, level);
    encoder.write_all(bytes)?;
    encoder.finish()?;
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], max_bytes: usize) -> Result<Vec<u8>, Stop> {
    read_bounded(MultiGzDecoder::new(bytes), max_bytes)
}
