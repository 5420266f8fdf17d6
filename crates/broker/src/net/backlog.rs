//! The memory of replies that a client has not taken yet.
//!
//! The number of queued replies is bounded too, but replies differ: one may have a hundred bytes or tens of
//! millions. Invariant: while more than [`MOST_BYTES`] wait for a client, none of its requests is read, so a
//! connection holds that and one reply more. File ranges cost no memory and do not count.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes that may wait before the client is not read from any more.
const MOST_BYTES: usize = 2 << 20;

/// What waits for one client. One half of the connection adds, the other one takes away.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: AtomicUsize,
    has_room: Notify,
}

impl Backlog {
    /// A reply of this many bytes waits.
    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Replies with this many bytes were written.
    pub(super) fn take(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "what is taken was added");
        if before > MOST_BYTES && before - bytes <= MOST_BYTES {
            self.has_room.notify_one();
        }
    }

    /// Whether requests must wait.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > MOST_BYTES
    }

    /// Resolves when requests need not wait any more.
    pub(super) async fn room(&self) {
        while self.is_full() {
            self.has_room.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn requests_wait_while_too_much_waits_for_the_client() {
        let backlog = Backlog::default();
        backlog.add(MOST_BYTES);
        assert!(!backlog.is_full());
        assert_eq!(backlog.room().now_or_never(), Some(()));
        backlog.add(10);
        backlog.add(MOST_BYTES);
        assert!(backlog.is_full());
        let mut room = Box::pin(backlog.room());
        assert_eq!(room.as_mut().now_or_never(), None);
        backlog.take(MOST_BYTES);
        assert_eq!(room.as_mut().now_or_never(), None, "ten bytes too many");
        backlog.take(10);
        assert_eq!(room.now_or_never(), Some(()));
    }

    #[test]
    fn room_that_was_made_before_it_is_waited_for_counts() {
        let backlog = Backlog::default();
        backlog.add(MOST_BYTES + 1);
        backlog.take(1);
        assert_eq!(backlog.room().now_or_never(), Some(()));
        backlog.add(1);
        assert_eq!(backlog.room().now_or_never(), None, "no room is left over");
    }
}
