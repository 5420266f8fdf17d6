//! What tests share: the simulated disk's surroundings, a meter for compaction.
#![allow(dead_code, reason = "every test file uses another part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use dlog_storage::disk::SimDisk;
use dlog_storage::{CompactionMeter, Flusher, LogEnv};

/// A simulated disk, flushes when the test says so, and a clock that goes on with every look.
pub fn env(disk: &SimDisk) -> LogEnv {
    let clock = AtomicI64::new(1_000);
    LogEnv {
        disk: Arc::new(disk.clone()),
        flusher: Arc::new(Flusher::manual()),
        clock: Arc::new(move || clock.fetch_add(1, Ordering::Relaxed)),
        take_lock: true,
    }
}

/// To the end, without a wait; gives way to others or not.
pub struct Speed {
    pub is_fast: bool,
}

impl CompactionMeter for Speed {
    fn spent(&self, _bytes: u64) -> Duration {
        Duration::ZERO
    }

    fn reads_ahead(&self) -> bool {
        self.is_fast
    }

    fn is_stopped(&self) -> bool {
        false
    }
}
