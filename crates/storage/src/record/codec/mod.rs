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
        Compression::Lz4 => lz4::compress(level, bytes, out),
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

/// Reads a decoder to its end, keeping at most `max_bytes` and allocating no more than that.
fn read_bounded(mut decoder: impl Read, max_bytes: usize) -> Result<Vec<u8>, Stop> {
    let mut out = Vec::new();
    let mut filled = 0;
    loop {
        // Twice as much each time, up to the limit.
        let room = filled.max(FIRST_BUFFER_BYTES).min(max_bytes - filled);
        if room == 0 {
            // "Exactly the limit" and "beyond it" differ by what comes next.
            return match decoder.read(&mut [0])? {
                0 => Ok(out),
                _ => Err(Stop::TooLarge),
            };
        }
        out.reserve_exact(room);
        out.resize(filled + room, 0);
        while filled < out.len() {
            let read = decoder.read(&mut out[filled..])?;
            if read == 0 {
                out.truncate(filled);
                return Ok(out);
            }
            filled += read;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    use super::*;

    /// Bytes that compress, but not to nothing, over several blocks of every codec.
    fn sample(length: usize) -> Vec<u8> {
        let word = |i: usize| (i.wrapping_mul(2_654_435_761) >> 11) as u8 & 0x1f;
        (0..length).map(|i| word(i / 5) ^ word(i / 700)).collect()
    }

    fn packed(codec: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(codec, None, bytes, &mut out).unwrap();
        out
    }

    #[test]
    fn every_codec_at_the_sizes_of_its_blocks() {
        for codec in Compression::ALL {
            for length in [0, 1, 32 << 10, (32 << 10) + 1, 64 << 10, 65_537, 300_000] {
                let bytes = sample(length);
                let packed = packed(codec, &bytes);
                assert_eq!(decompress(codec, &packed, length), Ok(bytes));
                if length > 0 {
                    let error = decompress(codec, &packed, length - 1);
                    let limit_bytes = length - 1;
                    assert_eq!(
                        error,
                        Err(RecordError::DecompressedTooLarge { codec, limit_bytes })
                    );
                }
            }
        }
    }

    #[test]
    fn every_level() {
        let bytes = sample(20_000);
        for codec in Compression::ALL {
            let (min, max) = codec.levels().unwrap_or((0, 0));
            for level in [min, -1, 1, 3, 6, 9, max] {
                if codec.check_level(Some(level)).is_err() {
                    continue;
                }
                let mut out = Vec::new();
                compress(codec, Some(level), &bytes, &mut out).unwrap();
                assert_eq!(decompress(codec, &out, 20_000).as_ref(), Ok(&bytes));
            }
            if codec.levels().is_some() {
                let size = |level| {
                    let mut out = Vec::new();
                    compress(codec, level, &bytes, &mut out).unwrap();
                    out.len()
                };
                assert!(size(Some(max)) < size(None), "{codec} has levels");
                let mut out = Vec::new();
                assert!(compress(codec, Some(max + 1), &bytes, &mut out).is_err());
            }
        }
    }

    #[test]
    fn cut_input_is_an_error() {
        let bytes = sample(1_000);
        for codec in Compression::ALL {
            if codec == Compression::None {
                continue;
            }
            let packed = packed(codec, &bytes);
            for length in 0..packed.len() {
                let result = decompress(codec, &packed[..length], 1_000);
                // Frames of Snappy have no end mark: what is cut between them is shorter.
                let shorter = matches!(&result, Ok(out) if out.len() < bytes.len());
                assert!(result.is_err() || shorter, "{codec} cut at {length}");
            }
        }
    }

    #[test]
    fn snappy_in_all_its_shapes() {
        let bytes = sample(100_000);
        let raw = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
        let codec = Compression::Snappy;
        assert_eq!(decompress(codec, &raw, 100_000).as_ref(), Ok(&bytes));
        assert!(decompress(codec, &raw, 99_999).is_err());

        let framed = packed(codec, &bytes);
        let twice = [&framed[..], &framed[..]].concat();
        let expected = [&bytes[..], &bytes[..]].concat();
        assert_eq!(decompress(codec, &twice, 200_000), Ok(expected));
        assert!(decompress(codec, &twice, 199_999).is_err());

        let mut newer = framed;
        newer[15] = 2;
        assert!(decompress(codec, &newer, 100_000).is_err());
    }

    #[test]
    fn gzip_and_zstd_in_several_parts() {
        let (one, two) = (sample(5_000), sample(7_000));
        for codec in [Compression::Gzip, Compression::Zstd] {
            let both = [packed(codec, &one), packed(codec, &two)].concat();
            let expected = [&one[..], &two[..]].concat();
            assert_eq!(decompress(codec, &both, 12_000), Ok(expected));
        }
        let frame = packed(Compression::Lz4, &one);
        let both = [&frame[..], &frame[..]].concat();
        assert!(decompress(Compression::Lz4, &both, 12_000).is_err());
    }

    #[test]
    fn a_zstd_stream_without_its_size_is_read() {
        let bytes = sample(300_000);
        for level in [1, 19, 22] {
            let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), level).unwrap();
            encoder.write_all(&bytes).unwrap();
            let packed = encoder.finish().unwrap();
            let unpacked = decompress(Compression::Zstd, &packed, 300_000);
            assert_eq!(unpacked.as_ref(), Ok(&bytes), "level {level}");
        }
    }

    /// LZ4 frames with every option that other clients set.
    fn lz4_frames(bytes: &[u8]) -> Vec<Vec<u8>> {
        let sizes = [
            BlockSize::Max64KB,
            BlockSize::Max256KB,
            BlockSize::Max1MB,
            BlockSize::Max4MB,
        ];
        let mut frames = Vec::new();
        for block_size in sizes {
            for options in 0..16 {
                let set = |bit: i32| options & bit != 0;
                let mode = if set(1) {
                    BlockMode::Linked
                } else {
                    BlockMode::Independent
                };
                let info = FrameInfo::new()
                    .block_size(block_size)
                    .block_mode(mode)
                    .block_checksums(set(2))
                    .content_checksum(set(4))
                    .content_size(set(8).then_some(bytes.len() as u64));
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(bytes).unwrap();
                frames.push(encoder.finish().unwrap());
            }
        }
        frames
    }

    #[test]
    fn lz4_frames_with_every_option() {
        let bytes = sample(600_000);
        for frame in lz4_frames(&bytes) {
            assert_eq!(
                decompress(Compression::Lz4, &frame, 600_000).as_ref(),
                Ok(&bytes)
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_input_never_panics(
            length in 0usize..3_000,
            flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4),
        ) {
            let bytes = sample(length);
            let mut inputs: Vec<_> = lz4_frames(&bytes)
                .into_iter()
                .map(|frame| (Compression::Lz4, frame))
                .collect();
            inputs.extend(Compression::ALL.map(|codec| (codec, packed(codec, &bytes))));
            for (codec, mut input) in inputs {
                for (at, bit) in &flips {
                    if !input.is_empty() {
                        let at = at.index(input.len());
                        input[at] ^= 1 << bit;
                    }
                }
                if let Ok(out) = decompress(codec, &input, 10_000) {
                    prop_assert!(out.len() <= 10_000);
                }
            }
        }
    }
}
