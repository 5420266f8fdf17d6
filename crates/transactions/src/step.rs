//! What is kept of a transactional id beside its stored state, and the writes under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::{MarkersId, Producer, Token, TopicPartition, WriteId};
use crate::metadata::Metadata;

/// A transactional id in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The last durable state. (While [`TransactionState`](crate::TransactionState) is prepared,
    /// partitions leave it as their markers are written.)
    pub(crate) now: Metadata,
    /// A change is on its way to the log.
    pub(crate) pending: bool,
    /// The epoch was raised to fence a producer, and the record of it failed: it was told to
    /// nobody, and is not raised again.
    pub(crate) fence_failed: bool,
    /// The markers being written.
    pub(crate) markers: Option<OpenMarkers>,
    /// Not to be tried again before this time.
    pub(crate) retry_at_ms: Option<i64>,
    /// Retries since something succeeded.
    pub(crate) retries: u32,
    /// The deadline the coordinator has filed.
    pub(crate) filed_ms: Option<i64>,
}

/// The markers of a transaction whose end is decided.
#[derive(Debug)]
pub(crate) struct OpenMarkers {
    pub(crate) id: MarkersId,
    /// To be tried again.
    pub(crate) again: BTreeSet<TopicPartition>,
    /// A newer coordinator exists: nothing more is written.
    pub(crate) fenced: bool,
}

impl Entry {
    pub(crate) fn new(now: Metadata) -> Self {
        Self {
            now,
            pending: false,
            fence_failed: false,
            markers: None,
            retry_at_ms: None,
            retries: 0,
            filed_ms: None,
        }
    }

    /// Whether requests have to wait: a change is being written, or the end of a transaction.
    pub(crate) fn is_busy(&self) -> bool {
        self.pending || self.now.state.is_prepared()
    }

    /// When time has something to do here, Unix ms.
    pub(crate) fn deadline_ms(&self) -> Option<i64> {
        if self.pending {
            return None;
        }
        if self.now.state.is_prepared() {
            return self.retry_at_ms;
        }
        let abort_at_ms = self.now.abort_at_ms()?;
        Some(abort_at_ms.max(self.retry_at_ms.unwrap_or(i64::MIN)))
    }
}

/// Writes that the shell has not reported yet.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) last: u64,
    pub(crate) open: BTreeMap<WriteId, OpenWrite>,
}

/// What happens when a write ends.
#[derive(Debug)]
pub(crate) enum OpenWrite {
    /// The id's state becomes `next`.
    Change {
        id: Arc<str>,
        next: Box<Metadata>,
        then: Then,
    },
    /// The ids are gone.
    Expire { ids: Vec<Arc<str>> },
}

/// Who waits for a change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    /// The sender of InitProducerId.
    Init { token: Token },
    /// The sender of AddPartitionsToTxn.
    Add { token: Token },
    /// The sender of EndTxn, who is `producer` from then on.
    End { token: Token, producer: Producer },
    /// The abort of whoever held the id: for a newer producer, who is told to try again, or
    /// because of its timeout.
    Fence { token: Option<Token> },
    /// All markers were written.
    Complete,
}
