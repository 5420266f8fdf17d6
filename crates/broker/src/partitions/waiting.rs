//! Fetches that wait, and the lists that they wait in.
//!
//! *A fetch joins a list before it looks: what changes in between wakes it.*

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Partition;

/// A fetch that waits for something to read.
#[derive(Debug, Default)]
struct FetchWaiter {
    /// Notified when there may be more.
    more: Notify,
}

/// The fetches that wait for one thing.
#[derive(Debug, Default)]
pub struct WaitList {
    has_waiters: AtomicBool,
    waiters: Mutex<Vec<Weak<FetchWaiter>>>,
}

impl WaitList {
    /// Wakes all of them.
    pub fn wake(&self) {
        if !self.has_waiters.load(Ordering::SeqCst) {
            return;
        }
        let waiters = {
            let mut waiters = self.waiters.lock();
            self.has_waiters.store(false, Ordering::SeqCst);
            std::mem::take(&mut *waiters)
        };
        for waiter in waiters.iter().filter_map(Weak::upgrade) {
            waiter.more.notify_one();
        }
    }

    /// Has a fetch woken by the next change. It must look at what it waits for after this, not before.
    fn register(&self, waiter: &Arc<FetchWaiter>) {
        let mut waiters = self.waiters.lock();
        // A weak pointer keeps the address taken, so equal addresses are the same fetch.
        if waiters.iter().any(|w| w.as_ptr() == Arc::as_ptr(waiter)) {
            return;
        }
        // Fetches that ended by their timeout are swept here, so the list stays as long as it is used.
        if waiters.len() >= 16 && waiters.len().is_power_of_two() {
            waiters.retain(|w| w.strong_count() > 0);
        }
        waiters.push(Arc::downgrade(waiter));
        self.has_waiters.store(true, Ordering::SeqCst);
    }
}

/// A fetch's place in waiting lists.
#[derive(Debug, Default)]
pub struct Waiting {
    waiter: Arc<FetchWaiter>,
}

impl Waiting {
    /// Joins the waiting list of a partition until it is woken once.
    pub fn join(&self, partition: &Partition) {
        self.join_list(partition.waiters());
    }

    /// Joins a waiting list until it is woken once.
    pub fn join_list(&self, list: &WaitList) {
        list.register(&self.waiter);
    }

    /// Resolves when anything changed since the last time this resolved.
    pub async fn changed(&self) {
        self.waiter.more.notified().await;
    }
}
