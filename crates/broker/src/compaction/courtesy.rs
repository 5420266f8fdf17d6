//! How fast compaction may go while clients are served: a decision about counts and times, without a clock.
//!
//! Compaction has time, whoever waits for a reply has not. While records are produced and fetched it goes
//! at a set pace; when nobody did for a moment, as fast as the disk. RocksDB's auto-tuned rate limiter has
//! the same aim.
//!
//! Invariant: a log does not grow without bound because of it. The pace is at least what the appends to
//! compacted logs need as a rule, and a run over a log that fell behind all the same has no bound.

use std::collections::HashMap;
use std::hash::Hash;

/// Time between two looks at what logs and settings are, in ns.
const LOOK_NS: u64 = 100_000_000;
/// Clients that did nothing for so long, in ns, are not held up by anything.
const QUIET_NS: u64 = 1_000_000_000;
/// The appends of so long at least, in ns, give their rate.
const WINDOW_NS: u64 = 1_000_000_000;
/// Bytes that compaction reads and writes for a byte appended, and a fifth more: at the default dirty
/// ratio of 0.5 a run reads the new half of a log twice, the old one once, and writes at most all of it,
/// which is 5 for each new byte.
const NEED: f64 = 6.0;
/// Bytes a second from which on the disk may read ahead: how much it reads at once is for the system to
/// say, and whoever writes waits for it. Below, a run has the time to read what it needs when it needs it.
const READ_AHEAD_FROM: f64 = 200e6;

/// Whether a run that may read and write so many bytes a second lets the disk read ahead.
pub(super) fn reads_ahead(bytes_per_second: f64) -> bool {
    bytes_per_second.is_nan() || bytes_per_second >= READ_AHEAD_FROM
}

/// What tells whether a log fell behind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backlog {
    /// Share of its bytes that no run covered yet.
    pub(super) dirty_ratio: f64,
    /// The share from which on it is due.
    pub(super) due_ratio: f64,
    /// A run covered some of it. A log that none did is dirty as a whole, which says nothing.
    pub(super) was_compacted: bool,
    /// The last run's map was too small for all that was dirty: each covers only a part.
    pub(super) was_full: bool,
    /// Records are older than `max.compaction.lag.ms` allows.
    pub(super) is_overdue: bool,
}

impl Backlog {
    /// Whether a run must not wait for anybody.
    pub(super) fn is_behind(&self) -> bool {
        let far = self.due_ratio + (1.0 - self.due_ratio) / 2.0;
        self.is_overdue || self.was_full || (self.was_compacted && self.dirty_ratio > far)
    }
}

/// Adds up what was appended to logs that come and go.
#[derive(Debug)]
pub(super) struct Appends<K> {
    seen: HashMap<K, u64>,
    total: u64,
}

impl<K> Default for Appends<K> {
    fn default() -> Self {
        Self {
            seen: HashMap::new(),
            total: 0,
        }
    }
}

impl<K: Eq + Hash> Appends<K> {
    /// Given the bytes appended to each log since it was opened: those since the first call. A log counts
    /// from when it is there for the first time.
    pub(super) fn total(&mut self, logs: impl Iterator<Item = (K, u64)>) -> u64 {
        let mut next = HashMap::with_capacity(self.seen.len());
        for (key, bytes) in logs {
            let before = self.seen.get(&key).copied().unwrap_or(bytes);
            self.total = self.total.saturating_add(bytes.saturating_sub(before));
            next.insert(key, bytes);
        }
        self.seen = next;
        self.total
    }
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at_ns: u64,
    bytes: u64,
}

/// What was seen of the appends to compacted logs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Courtesy {
    looked_ns: Option<u64>,
    window: Option<Mark>,
    /// Bytes a second.
    appended: f64,
}

impl Courtesy {
    /// Whether it is time for a look.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        self.looked_ns
            .is_none_or(|at_ns| now_ns.saturating_sub(at_ns) >= LOOK_NS)
    }

    /// Notes how many bytes were appended to compacted logs until now; only differences count. A pause
    /// between runs counts as well: what came meanwhile has to be compacted too.
    pub(super) fn look(&mut self, now_ns: u64, bytes: u64) {
        self.looked_ns = Some(now_ns);
        let mark = Mark {
            at_ns: now_ns,
            bytes,
        };
        let window = *self.window.get_or_insert(mark);
        let length_ns = now_ns.saturating_sub(window.at_ns);
        if length_ns >= WINDOW_NS {
            let bytes = bytes.saturating_sub(window.bytes);
            self.appended = bytes as f64 / (length_ns as f64 / 1e9);
            self.window = Some(mark);
        }
    }

    /// Bytes a second that may be read and written, given when a client was last served and how many it is
    /// while they are.
    pub(super) fn bytes_per_second(&self, now_ns: u64, served_ns: Option<u64>, busy: f64) -> f64 {
        let is_busy = served_ns.is_some_and(|at_ns| now_ns.saturating_sub(at_ns) < QUIET_NS);
        if !is_busy || busy.is_nan() {
            return f64::MAX;
        }
        busy.max(self.appended * NEED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const BUSY: f64 = 5e7;

    #[test]
    fn clients_slow_it_down_and_their_silence_does_not() {
        let courtesy = Courtesy::default();
        assert_eq!(courtesy.bytes_per_second(5 * S, None, BUSY), f64::MAX);
        let served_ns = Some(5 * S);
        assert_eq!(courtesy.bytes_per_second(5 * S, served_ns, BUSY), BUSY);
        // Threads may ask in another order than they looked at the clock.
        assert_eq!(courtesy.bytes_per_second(5 * S - 1, served_ns, BUSY), BUSY);
        assert_eq!(courtesy.bytes_per_second(6 * S - 1, served_ns, BUSY), BUSY);
        assert_eq!(courtesy.bytes_per_second(6 * S, served_ns, BUSY), f64::MAX);
        assert_eq!(
            courtesy.bytes_per_second(5 * S, served_ns, f64::NAN),
            f64::MAX
        );
    }

    #[test]
    fn it_goes_at_least_as_fast_as_compacted_logs_grow() {
        let mut courtesy = Courtesy::default();
        let rate =
            |courtesy: &Courtesy, now_ns| courtesy.bytes_per_second(now_ns, Some(now_ns), BUSY);
        // 20 MB/s, seen every 100 ms.
        let (mut now_ns, mut bytes) = (0, 1 << 40);
        for _ in 0..25 {
            assert!(courtesy.is_due(now_ns));
            courtesy.look(now_ns, bytes);
            assert!(!courtesy.is_due(now_ns + 1));
            (now_ns, bytes) = (now_ns + S / 10, bytes + 2_000_000);
        }
        assert!((1.14e8..1.26e8).contains(&rate(&courtesy, now_ns)));
        // A minute without a run, and with little: the next run does not go by what was before.
        (now_ns, bytes) = (now_ns + 60 * S, bytes + 1_000_000);
        courtesy.look(now_ns, bytes);
        assert_eq!(rate(&courtesy, now_ns), BUSY);
        // A minute with much.
        (now_ns, bytes) = (now_ns + 60 * S, bytes + 6_000_000_000);
        courtesy.look(now_ns, bytes);
        assert!((0.594e9..0.606e9).contains(&rate(&courtesy, now_ns)));
    }

    #[test]
    fn logs_that_come_and_go_do_not_look_like_appends() {
        let mut appends = Appends::default();
        let mut total = |logs: &[(&'static str, u64)]| appends.total(logs.iter().copied());
        assert_eq!(total(&[("a", 1_000)]), 0);
        assert_eq!(total(&[("a", 1_100)]), 100);
        assert_eq!(total(&[("a", 1_100), ("b", 5_000_000)]), 100, "b is new");
        assert_eq!(total(&[("b", 5_000_007)]), 107, "a is gone");
        assert_eq!(total(&[("b", 3)]), 107, "b was opened again");
        assert_eq!(total(&[("b", 10)]), 114);
    }

    #[test]
    fn a_log_that_fell_behind_waits_for_nobody() {
        let usual = Backlog {
            dirty_ratio: 0.6,
            due_ratio: 0.5,
            was_compacted: true,
            ..Backlog::default()
        };
        assert!(!usual.is_behind());
        let (was_full, is_overdue) = (true, true);
        assert!(Backlog { was_full, ..usual }.is_behind());
        assert!(
            Backlog {
                is_overdue,
                ..usual
            }
            .is_behind()
        );
        let dirty = Backlog {
            dirty_ratio: 0.8,
            ..usual
        };
        assert!(dirty.is_behind());
        let never = Backlog {
            dirty_ratio: 1.0,
            was_compacted: false,
            ..usual
        };
        assert!(!never.is_behind());
    }

    #[test]
    fn only_who_is_fast_reads_ahead() {
        assert!(reads_ahead(f64::MAX) && reads_ahead(f64::NAN) && reads_ahead(4e8));
        assert!(!reads_ahead(BUSY));
    }
}
