//! What tests on the simulated disk share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dlog_storage::disk::SimDisk;
use dlog_storage::{Flusher, LogEnv};

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
