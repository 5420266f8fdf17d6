//! Keeps all runs together below a number of bytes a second: a decision about times, without a clock.

/// Time that may be made up for: a run that was slower than allowed goes faster for so long.
const BURST_S: f64 = 0.1;

/// What was read and written and is not paid for with time yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Throttle {
    /// Bytes; below 0 they may be spent without a wait.
    debt: f64,
    at_ns: u64,
}

impl Throttle {
    /// Whether so many bytes a second are more than can be measured.
    fn is_no_limit(bytes_per_second: f64) -> bool {
        bytes_per_second.is_nan() || bytes_per_second >= 1e15
    }

    /// Notes `bytes` at `now_ns`; returns the ns to wait before the next, at so many bytes a second from
    /// now on: what is owed is owed in bytes. More than can be measured is no limit, and pays all debts.
    pub(super) fn spent(&mut self, now_ns: u64, bytes: u64, bytes_per_second: f64) -> u64 {
        let passed_s = now_ns.saturating_sub(self.at_ns) as f64 / 1e9;
        self.at_ns = self.at_ns.max(now_ns);
        if Self::is_no_limit(bytes_per_second) {
            self.debt = 0.0;
            return 0;
        }
        // One byte a second is the slowest: a run must come to its end.
        let rate = bytes_per_second.max(1.0);
        self.debt = (self.debt - passed_s * rate).max(-BURST_S * rate) + bytes as f64;
        (self.debt.max(0.0) / rate * 1e9) as u64
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
            assert_eq!(throttle.spent(now_ns, u64::MAX, f64::NAN), 0);
        }
        assert!(
            throttle.spent(10, 1 << 20, 0.0) > 1_000_000_000,
            "a rate of 0 is slow, not endless"
        );
    }

    #[test]
    fn another_rate_holds_for_what_is_owed_already() {
        let mut throttle = Throttle::default();
        let slow = throttle.spent(1_000_000_000, 1 << 20, 1.0);
        assert!(slow > 1_000_000 * 1_000_000_000, "{slow}");
        let faster = throttle.spent(1_000_000_000, 0, 1e6);
        assert!(faster < 1_100_000_000, "{faster}");
    }
}
