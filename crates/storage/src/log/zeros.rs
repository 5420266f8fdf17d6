//! Zeros behind the appends: how many are worth their writing.
//!
//! Invariants: zeros never leave the segment, and no append is refused for want of room for them.

use crate::config::{FlushPolicy, LogConfig};

pub(super) static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// How many times its own size a bulk append may write ahead.
const BULK_ZEROS: u64 = 16;

/// How many zeros to write behind `len` bytes at `start`.
///
/// Where each flush covers little, zeros save it the file's metadata: blocks are allocated and the
/// length is set once for many appends. Where writes are bulk and the system flushes when it likes,
/// zeros up to an aligned end let the page cache take one large folio where appends, which are never
/// aligned, would each bring small ones; half of the cost of a bulk append is that.
pub(super) fn zeros_ahead(
    config: &LogConfig,
    written_ahead: u64,
    start: u64,
    len: u64,
    unflushed: u64,
) -> usize {
    let ahead = u64::from(config.zero_ahead_bytes).min(ZEROS.len() as u64);
    let end = start + len;
    if end <= written_ahead || ahead == 0 {
        return 0;
    }
    let zeros = match config.flush {
        // Where a flush covers much, its bytes count, not its metadata: they should not be written
        // twice.
        FlushPolicy::Always | FlushPolicy::Messages(_) if (unflushed + len) * 4 > ahead => 0,
        FlushPolicy::Always | FlushPolicy::Messages(_) => ahead,
        // Bounded by the size of the append, so that a quiet partition stays small.
        FlushPolicy::Interval(_) | FlushPolicy::Os => {
            let unit = (len * BULK_ZEROS).next_power_of_two().min(ahead);
            end.next_multiple_of(unit) - end
        }
    };
    zeros.min(config.segment_bytes.saturating_sub(end)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zeros(flush: FlushPolicy, written_ahead: u64, start: u64, len: u64) -> usize {
        let config = LogConfig {
            flush,
            zero_ahead_bytes: 256 << 10,
            segment_bytes: 1 << 20,
            ..LogConfig::default()
        };
        zeros_ahead(&config, written_ahead, start, len, 0)
    }

    #[test]
    fn small_durable_appends_have_zeros_ahead_and_bulk_ones_have_not() {
        assert_eq!(zeros(FlushPolicy::Always, 0, 0, 1_000), 256 << 10);
        assert_eq!(zeros(FlushPolicy::Always, 5_000, 1_000, 1_000), 0);
        assert_eq!(zeros(FlushPolicy::Always, 0, 0, 100_000), 0);
    }

    #[test]
    fn bulk_appends_end_aligned() {
        assert_eq!(zeros(FlushPolicy::Os, 0, 0, 16_000), (256 << 10) - 16_000);
        assert_eq!(zeros(FlushPolicy::Os, 256 << 10, 16_000, 16_000), 0);
        let start = (256 << 10) - 1_000;
        let end = start + 16_000;
        assert_eq!(
            zeros(FlushPolicy::Os, 256 << 10, start, 16_000) as u64 + end,
            512 << 10
        );
        assert_eq!(zeros(FlushPolicy::Os, 0, 0, 100), 2_048 - 100);
    }

    #[test]
    fn zeros_stay_in_the_segment() {
        assert_eq!(zeros(FlushPolicy::Always, 0, (1 << 20) - 1_500, 1_000), 500);
        assert_eq!(zeros(FlushPolicy::Os, 0, (1 << 20) - 1_500, 1_500), 0);
    }
}
