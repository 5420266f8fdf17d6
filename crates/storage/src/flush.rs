//! The threads that flush logs, and what is to be flushed when.
//!
//! One [`Flusher`] serves all logs of a data directory. A log asks for a flush when an append must
//! wait for one; requests that arrive while the log is being flushed share the next flush (group
//! commit). Threads are started when there is work and none is idle, up to a bound, since the disk
//! serves concurrent flushes of different files better than one after the other. A quick flush is mostly
//! processor time, though: then no more threads work than there are cores, unless many logs wait, and
//! what waits meanwhile shares a flush.
//!
//! Invariants: a log is queued at most once per kind of work; a thread never holds the queue's lock
//! while it works; dropping the `Flusher` ends its threads once the queue is empty.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// A flush that takes longer than this, in µs, mostly waits for the disk: others need not wait for it.
const SLOW_FLUSH_US: u64 = 1_000;

/// Logs that may wait for each thread beyond the cores' number, where flushes are quick.
const WAITING_PER_THREAD: usize = 4;

/// Hears about flushes, for metrics.
pub trait FlushObserver: Send + Sync {
    /// One flush of one log ended after `elapsed`.
    fn flushed(&self, elapsed: Duration, ok: bool);
}

/// Work that a flusher thread does for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Sync what was appended and wake who waits for it.
    Flush,
    /// Sync, then move the recovery point.
    Checkpoint,
}

/// A log as the flusher sees it.
pub(crate) trait Flushable: Send + Sync {
    /// Does the work; gives what is to be done for the same log next, after what others wait for.
    fn work(&self, work: Work) -> Option<Work>;
}

/// A pool of flushing threads.
pub struct Flusher {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    max_threads: usize,
    /// Threads that always may work at a time.
    cores: usize,
    /// Time of a flush in µs, averaged over the last few.
    average_us: AtomicU64,
    observer: Mutex<Option<Arc<dyn FlushObserver>>>,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<(Weak<dyn Flushable>, Work)>,
    /// Flushes that are due later, by time; the counter keeps equal times apart.
    later: BTreeMap<(Instant, u64), Weak<dyn Flushable>>,
    counter: u64,
    threads: usize,
    /// Threads that sleep; `notified` of them are about to wake up.
    idle: usize,
    notified: usize,
    closing: bool,
    manual: bool,
}

impl fmt::Debug for Flusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flusher")
            .field("max_threads", &self.shared.max_threads)
            .finish_non_exhaustive()
    }
}

impl Flusher {
    /// A pool of at most `max_threads` threads (at least one), none of them started yet.
    pub fn new(max_threads: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue: Mutex::new(Queue::default()),
                wake: Condvar::new(),
                max_threads: max_threads.max(1),
                cores: thread::available_parallelism().map_or(2, |cores| cores.get().max(2)),
                average_us: AtomicU64::new(SLOW_FLUSH_US),
                observer: Mutex::new(None),
            }),
        }
    }

    /// A pool without threads: work waits for [`Flusher::run_pending`]. For tests and simulation.
    pub fn manual() -> Self {
        let pool = Self::new(1);
        pool.shared.queue.lock().manual = true;
        pool
    }

    /// Does all queued work on this thread, delayed work included.
    pub fn run_pending(&self) {
        loop {
            let next = {
                let mut queue = self.shared.queue.lock();
                let later = queue.later.pop_first().map(|(_, log)| (log, Work::Flush));
                queue.ready.pop_front().or(later)
            };
            let Some((log, work)) = next else { return };
            self.shared.perform(log, work);
        }
    }

    /// Sets who hears about flushes.
    pub fn observe(&self, observer: Arc<dyn FlushObserver>) {
        *self.shared.observer.lock() = Some(observer);
    }

    pub(crate) fn report(&self, elapsed: Duration, ok: bool) {
        self.shared.note(elapsed);
        let observer = self.shared.observer.lock().clone();
        if let Some(observer) = observer {
            observer.flushed(elapsed, ok);
        }
    }

    /// Queues work for a log.
    pub(crate) fn submit(&self, log: Weak<dyn Flushable>, work: Work) {
        let mut queue = self.shared.queue.lock();
        queue.ready.push_back((log, work));
        self.shared.wake_or_spawn(&mut queue);
    }

    /// Queues a flush that is due after `delay`.
    pub(crate) fn submit_later(&self, log: Weak<dyn Flushable>, delay: Duration) {
        let mut queue = self.shared.queue.lock();
        queue.counter += 1;
        let key = (Instant::now() + delay, queue.counter);
        queue.later.insert(key, log);
        self.shared.wake_or_spawn(&mut queue);
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.queue.lock().closing = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn wake_or_spawn(self: &Arc<Self>, queue: &mut Queue) {
        if queue.manual {
            return;
        }
        let sleeping = queue.idle.saturating_sub(queue.notified);
        if self.is_enough(queue.threads - sleeping, queue.ready.len()) && queue.later.is_empty() {
            // They come back to the queue.
            return;
        }
        if sleeping > 0 || queue.threads >= self.max_threads {
            queue.notified = (queue.notified + 1).min(queue.idle);
            self.wake.notify_one();
            return;
        }
        let shared = self.clone();
        let name = format!("dlog-flush-{}", queue.threads);
        let spawned = thread::Builder::new()
            .name(name)
            .spawn(move || shared.run());
        match spawned {
            Ok(_) => queue.threads += 1,
            // With no thread at all nobody would ever be acknowledged.
            Err(error) if queue.threads == 0 => panic!("cannot start a flushing thread: {error}"),
            Err(error) => tracing::warn!(%error, "cannot start another flushing thread"),
        }
    }

    fn note(&self, elapsed: Duration) {
        let sample = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX >> 3);
        let average = self.average_us.load(Ordering::Relaxed);
        // Another thread's sample may be lost: an average can do without it.
        self.average_us
            .store((average * 7 + sample) / 8, Ordering::Relaxed);
    }

    /// Whether no more than the threads at work need to work on the logs that wait.
    fn is_enough(&self, working: usize, waiting: usize) -> bool {
        self.average_us.load(Ordering::Relaxed) < SLOW_FLUSH_US
            && working >= self.cores + waiting / WAITING_PER_THREAD
    }

    fn run(&self) {
        while let Some((log, work)) = self.next() {
            self.perform(log, work);
        }
    }

    /// Works for a log. What it wants next is queued without waking anybody: this thread comes back.
    fn perform(&self, log: Weak<dyn Flushable>, work: Work) {
        let next = log.upgrade().and_then(|log| log.work(work));
        if let Some(next) = next {
            self.queue.lock().ready.push_back((log, next));
        }
    }

    /// Waits for work; `None` once the pool is dropped and nothing is queued.
    fn next(&self) -> Option<(Weak<dyn Flushable>, Work)> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(entry) = queue.later.first_entry()
                && entry.key().0 <= Instant::now()
            {
                return Some((entry.remove(), Work::Flush));
            }
            if let Some(work) = queue.ready.pop_front() {
                return Some(work);
            }
            if queue.closing {
                queue.threads -= 1;
                return None;
            }
            queue.idle += 1;
            match queue.later.first_key_value().map(|(key, _)| key.0) {
                Some(due) => {
                    self.wake.wait_until(&mut queue, due);
                }
                None => self.wake.wait(&mut queue),
            }
            queue.idle -= 1;
            queue.notified = queue.notified.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    struct Meets(Barrier);

    impl Flushable for Meets {
        fn work(&self, _: Work) -> Option<Work> {
            self.0.wait();
            None
        }
    }

    /// Two works that need each other, submitted while one thread is idle: the second must not wait
    /// for the thread that the first one woke.
    #[test]
    fn works_that_come_together_are_done_together() {
        let flusher = Flusher::new(2);
        let one = Arc::new(Meets(Barrier::new(1)));
        let two = Arc::new(Meets(Barrier::new(3)));
        let weak = |log: &Arc<Meets>| Arc::downgrade(log) as Weak<dyn Flushable>;
        flusher.submit(weak(&one), Work::Flush);
        while flusher.shared.queue.lock().idle == 0 {
            thread::yield_now();
        }
        flusher.submit(weak(&two), Work::Flush);
        flusher.submit(weak(&two), Work::Flush);
        two.0.wait();
    }

    #[test]
    fn quick_flushes_take_more_threads_than_cores_only_where_many_logs_wait() {
        let flusher = Flusher::new(64);
        let shared = &flusher.shared;
        let cores = shared.cores;
        assert!(!shared.is_enough(cores, 1), "a flush is slow until known");
        (0..100).for_each(|_| shared.note(Duration::from_micros(100)));
        assert!(shared.is_enough(cores, 1));
        assert!(!shared.is_enough(cores - 1, 1));
        assert!(!shared.is_enough(cores, WAITING_PER_THREAD));
        (0..100).for_each(|_| shared.note(Duration::from_millis(5)));
        assert!(!shared.is_enough(cores, 1));
    }
}
