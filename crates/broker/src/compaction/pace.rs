//! The pace of runs: what is counted and set, as the decisions of [`super::courtesy`] and
//! [`super::throttle`] want it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dlog_storage::{CompactionMeter, Log};
use parking_lot::Mutex;

use super::courtesy::{Appends, Courtesy, reads_ahead};
use super::throttle::Throttle;
use super::{Key, compacted, number};
use crate::guard::Level;
use crate::state::BrokerState;

/// What all runs share.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    /// When a client was served last, in ns since the start; 0 when none was.
    served_ns: AtomicU64,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    throttle: Throttle,
    courtesy: Courtesy,
    appends: Appends<Key>,
    limits: Limits,
}

/// Bytes a second.
#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    most: f64,
    /// While clients are served.
    busy: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            served_ns: AtomicU64::new(0),
            shared: Mutex::default(),
        }
    }
}

impl Pace {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A client produces or gets records now.
    pub(super) fn served(&self) {
        self.served_ns
            .store(self.now_ns().max(1), Ordering::Relaxed);
    }

    /// Notes `bytes` of a run; returns how long it has to wait, and how many bytes a second it may.
    fn spent(&self, state: &BrokerState, bytes: u64, is_behind: bool) -> (Duration, f64) {
        let now_ns = self.now_ns();
        let mut shared = self.shared.lock();
        let Shared {
            throttle,
            courtesy,
            appends,
            limits,
        } = &mut *shared;
        if courtesy.is_due(now_ns) {
            let logs = compacted(state);
            let appended = logs.iter().map(|log| (log.key, log.log.appended_bytes()));
            courtesy.look(now_ns, appends.total(appended));
            *limits = Limits {
                most: number(state, "log.cleaner.io.max.bytes.per.second", f64::MAX),
                busy: number(state, "dlog.cleaner.busy.bytes.per.second", f64::MAX),
            };
        }
        // Room on the disk is what clients need most then.
        let is_pressed = matches!(state.guard.level(), Level::Throttle | Level::Refuse);
        let allowed = if is_behind || is_pressed {
            f64::MAX
        } else {
            let served_ns = self.served_ns.load(Ordering::Relaxed);
            let served_ns = (served_ns > 0).then_some(served_ns);
            courtesy.bytes_per_second(now_ns, served_ns, limits.busy)
        };
        let allowed = allowed.min(limits.most);
        let wait_ns = throttle.spent(now_ns, bytes, allowed);
        (Duration::from_nanos(wait_ns), allowed)
    }
}

/// The pace of one run.
pub(super) struct Meter<'a> {
    pub(super) state: &'a BrokerState,
    pub(super) log: &'a Log,
    /// The log fell behind: the run waits for nobody.
    pub(super) is_behind: bool,
    pub(super) reads_ahead: AtomicBool,
}

impl CompactionMeter for Meter<'_> {
    fn spent(&self, bytes: u64) -> Duration {
        let pace = &self.state.compaction.pace;
        let (wait, allowed) = pace.spent(self.state, bytes, self.is_behind);
        self.reads_ahead
            .store(reads_ahead(allowed), Ordering::Relaxed);
        wait
    }

    fn reads_ahead(&self) -> bool {
        self.reads_ahead.load(Ordering::Relaxed)
    }

    fn is_stopped(&self) -> bool {
        self.state.stopping.is_cancelled() || !self.log.config().cleanup.compact
    }
}
