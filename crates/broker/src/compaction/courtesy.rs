//! How fast compaction may go while clients are served: a decision about counts and times, without a clock.
//!
//! Compaction has time, whoever waits for a reply has not. While records are produced and fetched it goes
//! at a set pace; when nobody did for a moment, as fast as the disk. RocksDB's auto-tuned rate limiter has
//! the same aim.
//!
//! Invariant: the pace is never below what the appends to compacted logs need, so that they do not grow
//! without bound because of it.

/// Time between two looks at what clients do, in ns.
const LOOK_NS: u64 = 100_000_000;
/// The same while there is nothing to compare with.
const FIRST_LOOK_NS: u64 = 25_000_000;
/// Clients that did nothing for so long, in ns, are not held up by anything.
const QUIET_NS: u64 = 1_000_000_000;
/// The appends of so long, in ns, give their rate.
const WINDOW_NS: u64 = 1_000_000_000;
/// Bytes that compaction reads and writes for a byte appended, and as much again: at the default dirty
/// ratio of 0.5 a run reads the new half of a log twice, the old one once, and writes at most all of it,
/// which is 5 for each new byte.
const NEED: f64 = 10.0;

/// What clients and logs did since the server started; only differences count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Record bytes produced and fetched.
    pub(super) moved: u64,
    /// Bytes appended to logs that are compacted.
    pub(super) compactable: u64,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at_ns: u64,
    traffic: Traffic,
}

/// What was seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Courtesy {
    last: Option<Look>,
    /// Whether the last look had one shortly before it to be compared with.
    is_known: bool,
    /// When clients were last seen to do something.
    active_ns: Option<u64>,
    window: Option<Look>,
    /// Bytes a second appended to compacted logs.
    appended: f64,
}

impl Courtesy {
    /// Whether it is time for a look.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        let pause_ns = if self.is_known {
            LOOK_NS
        } else {
            FIRST_LOOK_NS
        };
        self.last
            .is_none_or(|last| now_ns.saturating_sub(last.at_ns) >= pause_ns)
    }

    /// Notes what clients did until now.
    pub(super) fn look(&mut self, now_ns: u64, traffic: Traffic) {
        let look = Look {
            at_ns: now_ns,
            traffic,
        };
        let is_recent = |look: &Look| now_ns.saturating_sub(look.at_ns) <= QUIET_NS;
        match self.last.filter(is_recent) {
            Some(last) => {
                self.is_known = true;
                if last.traffic.moved != traffic.moved {
                    self.active_ns = Some(now_ns);
                }
            }
            // What moved since then may have moved long ago.
            None => {
                self.is_known = false;
                self.window = None;
            }
        }
        self.last = Some(look);
        let window = *self.window.get_or_insert(look);
        let length_ns = now_ns.saturating_sub(window.at_ns);
        if length_ns >= WINDOW_NS {
            let bytes = traffic
                .compactable
                .saturating_sub(window.traffic.compactable);
            self.appended = bytes as f64 / (length_ns as f64 / 1e9);
            self.window = Some(look);
        }
    }

    /// Bytes a second that may be read and written, if clients get `busy` of it while they are active.
    /// Until two looks were made they are taken to be.
    pub(super) fn bytes_per_second(&self, now_ns: u64, busy: f64) -> f64 {
        let was_active = self
            .active_ns
            .is_some_and(|at_ns| now_ns.saturating_sub(at_ns) < QUIET_NS);
        if self.is_known && !was_active {
            return f64::MAX;
        }
        busy.max(self.appended * NEED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const BUSY: f64 = 5e7;

    /// Looks as often as due for `ms`, while so many bytes a ms move and are appended to compacted logs.
    fn pass(
        courtesy: &mut Courtesy,
        now_ns: &mut u64,
        traffic: &mut Traffic,
        ms: u64,
        (moved, compactable): (u64, u64),
    ) {
        for _ in 0..ms {
            *now_ns += MS;
            traffic.moved += moved;
            traffic.compactable += compactable;
            if courtesy.is_due(*now_ns) {
                courtesy.look(*now_ns, *traffic);
            }
        }
    }

    #[test]
    fn clients_slow_it_down_and_their_silence_does_not() {
        let (mut courtesy, mut now_ns, mut traffic) = (Courtesy::default(), 0, Traffic::default());
        assert_eq!(courtesy.bytes_per_second(now_ns, BUSY), BUSY, "not known");
        // What moved before the first look says nothing.
        traffic.moved = 1 << 40;
        pass(&mut courtesy, &mut now_ns, &mut traffic, 60, (0, 0));
        assert_eq!(courtesy.bytes_per_second(now_ns, BUSY), f64::MAX);
        pass(&mut courtesy, &mut now_ns, &mut traffic, 150, (1, 0));
        assert_eq!(courtesy.bytes_per_second(now_ns, BUSY), BUSY);
        pass(&mut courtesy, &mut now_ns, &mut traffic, 800, (0, 0));
        assert_eq!(courtesy.bytes_per_second(now_ns, BUSY), BUSY, "just now");
        pass(&mut courtesy, &mut now_ns, &mut traffic, 400, (0, 0));
        assert_eq!(courtesy.bytes_per_second(now_ns, BUSY), f64::MAX);
    }

    #[test]
    fn a_pause_between_runs_says_nothing_about_clients() {
        let (mut courtesy, mut now_ns, mut traffic) = (Courtesy::default(), 0, Traffic::default());
        pass(&mut courtesy, &mut now_ns, &mut traffic, 500, (1, 0));
        now_ns += 60_000 * MS;
        traffic.moved += 1_000_000;
        pass(&mut courtesy, &mut now_ns, &mut traffic, 1, (0, 0));
        assert_eq!(courtesy.bytes_per_second(now_ns, BUSY), BUSY, "not known");
        pass(&mut courtesy, &mut now_ns, &mut traffic, 60, (0, 0));
        assert_eq!(courtesy.bytes_per_second(now_ns, BUSY), f64::MAX);
    }

    #[test]
    fn it_goes_at_least_as_fast_as_compacted_logs_grow() {
        let (mut courtesy, mut now_ns, mut traffic) = (Courtesy::default(), 0, Traffic::default());
        // 20 MB/s.
        pass(
            &mut courtesy,
            &mut now_ns,
            &mut traffic,
            2_500,
            (20_000, 20_000),
        );
        let rate = courtesy.bytes_per_second(now_ns, BUSY);
        assert!((1.9e8..2.1e8).contains(&rate), "{rate}");
        // Less than the pace that it has anyway.
        pass(&mut courtesy, &mut now_ns, &mut traffic, 2_500, (200, 200));
        assert_eq!(courtesy.bytes_per_second(now_ns, BUSY), BUSY);
        // Logs that were deleted, and their counts with them.
        traffic.compactable = 0;
        pass(&mut courtesy, &mut now_ns, &mut traffic, 2_500, (1, 0));
        assert_eq!(courtesy.bytes_per_second(now_ns, BUSY), BUSY);
    }
}
