//! Waiting until an append is acknowledged, with or without an async runtime.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};

use super::LogCore;
use crate::error::{Result, StorageError};

/// Who waits for which durable end.
#[derive(Default)]
pub(super) struct Waiters {
    inner: Mutex<Registered>,
}

#[derive(Default)]
struct Registered {
    /// By the durable end that is waited for; the counter keeps equal ends apart.
    wakers: BTreeMap<(i64, u64), Waker>,
    counter: u64,
}

type Key = (i64, u64);

impl Waiters {
    fn register(&self, durable_end: i64, waker: Waker) -> Key {
        let mut inner = self.inner.lock();
        inner.counter += 1;
        let key = (durable_end, inner.counter);
        inner.wakers.insert(key, waker);
        key
    }

    fn remove(&self, key: Key) {
        self.inner.lock().wakers.remove(&key);
    }

    /// Wakes who waits for at most `durable_end`.
    pub(super) fn wake(&self, durable_end: i64) {
        let woken = {
            let mut inner = self.inner.lock();
            let rest = inner.wakers.split_off(&(durable_end, u64::MAX));
            std::mem::replace(&mut inner.wakers, rest)
        };
        woken.into_values().for_each(Waker::wake);
    }

    pub(super) fn wake_all(&self) {
        let woken = std::mem::take(&mut self.inner.lock().wakers);
        woken.into_values().for_each(Waker::wake);
    }
}

/// Resolves when an append is acknowledged by the log's flush policy. Needs no particular async
/// runtime; a thread may call [`Acknowledged::wait`] instead of polling.
#[must_use = "an append is not acknowledged before this resolves"]
#[derive(Debug)]
pub struct Acknowledged {
    log: Arc<LogCore>,
    last_offset: i64,
    /// Truncations before this was made; a later one may take the record away.
    cuts: u64,
    key: Option<Key>,
}

impl Acknowledged {
    /// Whether the append is acknowledged already.
    pub fn is_ready(&self) -> bool {
        self.log.is_acknowledged(self.last_offset)
    }

    /// Blocks until the append is acknowledged, flushing on this thread when that helps.
    ///
    /// # Errors
    /// [`StorageError::Offline`] when the flush failed, [`StorageError::OffsetOutOfRange`] when the
    /// record was truncated meanwhile.
    pub fn wait(self) -> Result<()> {
        self.log.wait_acknowledged(self.last_offset, self.cuts)
    }
}

impl Future for Acknowledged {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(key) = self.key.take() {
            self.log.waiters.remove(key);
        }
        let (last_offset, cuts) = (self.last_offset, self.cuts);
        let needed = self.log.durable_end_needed(last_offset);
        let done = |log: &LogCore| {
            if let Err(error) = log.check_not_cut(last_offset, cuts) {
                return Some(Err(error));
            }
            if log.durable_end() >= needed {
                return Some(Ok(()));
            }
            log.check_open().err().map(Err)
        };
        if let Some(result) = done(&self.log) {
            return Poll::Ready(result);
        }
        let key = self.log.waiters.register(needed, context.waker().clone());
        // The flush may have ended between the look and the registration.
        if let Some(result) = done(&self.log) {
            self.log.waiters.remove(key);
            return Poll::Ready(result);
        }
        self.key = Some(key);
        self.log.request_flush();
        Poll::Pending
    }
}

impl Drop for Acknowledged {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.log.waiters.remove(key);
        }
    }
}

impl LogCore {
    /// A future (and blocking wait) for the acknowledgement of the record at `last_offset`.
    pub fn acknowledged(&self, last_offset: i64) -> Acknowledged {
        let log = self
            .this
            .upgrade()
            .expect("whoever calls this holds the core");
        Acknowledged {
            cuts: log.cuts(),
            log,
            last_offset,
            key: None,
        }
    }

    fn durable_end_needed(&self, last_offset: i64) -> i64 {
        self.config.load().flush.durable_end_for(last_offset)
    }

    fn is_acknowledged(&self, last_offset: i64) -> bool {
        self.durable_end() >= self.durable_end_needed(last_offset)
    }

    /// Number of truncations so far.
    pub(super) fn cuts(&self) -> u64 {
        self.marks.lock().cuts
    }

    /// Refuses to wait for a record that a truncation took away: its offset may be another's by now.
    /// After several truncations the answer is no as well, since only the last one is remembered.
    fn check_not_cut(&self, last_offset: i64, cuts_before: u64) -> Result<()> {
        let marks = self.marks.lock();
        let since = marks.cuts - cuts_before;
        let cut = since > 1 || (since == 1 && marks.last_cut <= last_offset);
        if cut || marks.end.offset <= last_offset {
            let end = marks.end.offset;
            return Err(StorageError::OffsetOutOfRange {
                requested: last_offset,
                start: self.log_start_offset(),
                end,
            });
        }
        Ok(())
    }

    /// Blocks until acknowledged. Of the threads that wait together one flushes for all that
    /// appended before it began; the others sleep until it is done.
    pub(super) fn wait_acknowledged(&self, last_offset: i64, cuts: u64) -> Result<()> {
        let mut busy = self.group.busy.lock();
        while !self.is_acknowledged(last_offset) {
            self.check_not_cut(last_offset, cuts)?;
            if *busy {
                self.group.done.wait(&mut busy);
                continue;
            }
            *busy = true;
            drop(busy);
            let result = self.flush();
            busy = self.group.busy.lock();
            *busy = false;
            self.group.done.notify_all();
            result?;
        }
        drop(busy);
        self.check_not_cut(last_offset, cuts)
    }
}

/// The blocking half of group commit.
#[derive(Default)]
pub(super) struct FlushGroup {
    /// One of the threads is flushing.
    busy: Mutex<bool>,
    done: Condvar,
}
