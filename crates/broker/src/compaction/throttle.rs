//! Keeps all runs together below a number of bytes a second: a decision about times, without a clock.

/// Time that may be made up for: a run that was slower than allowed goes faster for so long.
const BURST_NS: u64 = 100_000_000;

/// When the next byte may be read or written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Throttle {
    free_at_ns: u64,
}

impl Throttle {
    /// Whether so many bytes a second are more than can be measured.
    pub(super) fn is_no_limit(bytes_per_second: f64) -> bool {
        bytes_per_second.is_nan() || bytes_per_second >= 1e15
    }

    /// Notes `bytes` at `now_ns`; returns the ns to wait before the next. See [`Self::is_no_limit`].
    pub(super) fn spent(&mut self, now_ns: u64, bytes: u64, bytes_per_second: f64) -> u64 {
        if Self::is_no_limit(bytes_per_second) {
            self.free_at_ns = now_ns;
            return 0;
        }
        // One byte a second is the slowest: a run must come to its end.
        let cost_ns = bytes as f64 / bytes_per_second.max(1.0) * 1e9;
        let begin = self.free_at_ns.max(now_ns.saturating_sub(BURST_NS));
        self.free_at_ns = begin.saturating_add(cost_ns as u64);
        self.free_at_ns.saturating_sub(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_whatever_the_pieces() {
        for piece in [100, 7_000, 1_000_000] {
            let mut throttle = Throttle::default();
            let (mut now_ns, mut bytes) = (5_000_000_000, 0);
            while now_ns < 15_000_000_000 {
                now_ns += throttle.spent(now_ns, piece, 1e6) + 10_000;
                bytes += piece;
            }
            let seconds = (now_ns - 5_000_000_000) as f64 / 1e9;
            let rate = bytes as f64 / seconds;
            assert!((0.8e6..1.03e6).contains(&rate), "{piece}: {rate}");
        }
    }

    #[test]
    fn no_limit_is_no_wait() {
        let mut throttle = Throttle::default();
        for now_ns in 0..10 {
            assert_eq!(throttle.spent(now_ns, u64::MAX, f64::MAX), 0);
        }
        assert!(
            throttle.spent(10, 1 << 20, 0.0) > 1_000_000_000,
            "a rate of 0 is slow, not endless"
        );
    }
}
