//! LZ4: one frame of version 1, with independent blocks of 64 KiB and no checksum of the content,
//! as Kafka writes it; frames with other options are read.
//!
//! | bytes | field | |
//! |---|---|---|
//! | 4 | magic | 0x184D2204, little-endian as all integers here |
//! | 1 | flags | bits 6–7 version 1, 5 independent blocks, 4 block checksums, 3 content size, 2 content checksum, 0 dictionary |
//! | 1 | block size | bits 4–6: 4 for 64 KiB, 5 for 256 KiB, 6 for 1 MiB, 7 for 4 MiB |
//! | 0 or 8 | content size | |
//! | 1 | header checksum | second byte of xxHash32 |
//! | 4 | block length | 0 ends the frame; the highest bit marks a block that is not compressed |
//! | … | block | followed by its checksum, if the frame has them; then the next block's length |
//! | 0 or 4 | content checksum | |
//!
//! Kafka's default level, 9, is the fast compressor, which is `lz4_flex` here; every other level is high
//! compression, of the C library as in Kafka's own clients (KIP-390).
//!
//! The frame's extent is walked before anything is decoded: a frame without its end mark is cut
//! off, and nothing may follow it (Kafka's reader would not see it).

use std::io::{self, Write};

use lz4::block::CompressionMode;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{Stop, read_bounded};

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const VERSION_MASK: u8 = 0xc0;
const VERSION_1: u8 = 0x40;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
const DICTIONARY: u8 = 0x01;
const UNCOMPRESSED_BLOCK: u32 = 1 << 31;

/// The level that means the fast compressor.
const DEFAULT_LEVEL: i32 = 9;
/// The highest level that the C library has; Kafka's levels beyond it mean the same.
const MAX_LEVEL: i32 = 12;
const BLOCK_BYTES: usize = 64 << 10;
/// Version 1, independent blocks, no checksums; blocks of 64 KiB; the second byte of their xxHash32.
const HEADER: [u8; 3] = [0x60, 0x40, 0x82];

pub(super) fn compress(level: Option<i32>, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    match level {
        None | Some(DEFAULT_LEVEL) => compress_fast(bytes, out),
        Some(level) => compress_high(level.min(MAX_LEVEL), bytes, out),
    }
}

fn compress_high(level: i32, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&HEADER);
    for block in bytes.chunks(BLOCK_BYTES) {
        let mode = CompressionMode::HIGHCOMPRESSION(level);
        let packed = lz4::block::compress(block, Some(mode), false)?;
        // A block that does not get smaller is kept as it is.
        let (block, flag) = if packed.len() < block.len() {
            (&packed[..], 0)
        } else {
            (block, UNCOMPRESSED_BLOCK)
        };
        // At most 64 KiB.
        let length = block.len() as u32 | flag;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&[0; 4]);
    Ok(())
}

fn compress_fast(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(bytes)?;
    encoder.finish().map_err(io::Error::other)?;
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], max_bytes: usize) -> Result<Vec<u8>, Stop> {
    if !walk_frame(bytes)?.is_empty() {
        return Err(Stop::Damaged("bytes follow the frame".into()));
    }
    read_bounded(FrameDecoder::new(bytes), max_bytes)
}

/// Walks the frame at the front of `bytes`, block by block, and returns what follows it.
fn walk_frame(bytes: &[u8]) -> Result<&[u8], Stop> {
    let (head, _) = take(bytes, 6)?;
    if head[..4] != MAGIC {
        return Err(Stop::Damaged("it does not begin with an LZ4 frame".into()));
    }
    let flags = head[4];
    if flags & VERSION_MASK != VERSION_1 {
        return Err(Stop::Damaged("the frame's version is not 1".into()));
    }
    if flags & DICTIONARY != 0 {
        return Err(Stop::Damaged("the frame needs a dictionary".into()));
    }
    let size_bytes = if flags & CONTENT_SIZE == 0 { 0 } else { 8 };
    let checksum_bytes = if flags & BLOCK_CHECKSUMS == 0 { 0 } else { 4 };
    let trailer_bytes = if flags & CONTENT_CHECKSUM == 0 { 0 } else { 4 };
    let (_, mut rest) = take(bytes, head.len() + size_bytes + 1)?;
    loop {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let length = u32::from_le_bytes(*length);
        if length == 0 {
            return Ok(take(tail, trailer_bytes)?.1);
        }
        let block_bytes = (length & !UNCOMPRESSED_BLOCK) as usize;
        rest = take(tail, block_bytes.saturating_add(checksum_bytes))?.1;
    }
}

fn take(bytes: &[u8], count: usize) -> Result<(&[u8], &[u8]), Stop> {
    bytes.split_at_checked(count).ok_or_else(cut_off)
}

fn cut_off() -> Stop {
    Stop::Damaged("the frame is cut off".into())
}
