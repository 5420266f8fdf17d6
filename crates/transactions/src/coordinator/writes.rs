//! What happens when a write has ended.

use std::sync::Arc;

use crate::api::{Effect, NO_PRODUCER_EPOCH, Reply, WriteId};
use crate::error::{PersistError, TransactionError};
use crate::metadata::{Metadata, TransactionState};
use crate::step::{OpenWrite, Then};

use super::{TransactionCoordinator, reply};

impl TransactionCoordinator {
    /// The shell reports the end of a write. Each counts once. After an error the state is as
    /// before, whether or not the record will turn up in the log: nothing was built on it.
    pub fn persisted(
        &mut self,
        now_ms: i64,
        write: WriteId,
        result: Result<(), PersistError>,
        out: &mut Vec<Effect>,
    ) {
        match self.writes.open.remove(&write) {
            None => {}
            Some(OpenWrite::Change { id, next, then }) => match result {
                Ok(()) => self.changed(now_ms, &id, *next, then, out),
                Err(error) => self.not_changed(now_ms, &id, then, error.into(), out),
            },
            Some(OpenWrite::Expire { ids }) => self.finish_expiry(&ids, result.is_ok()),
        }
    }

    fn changed(
        &mut self,
        now_ms: i64,
        id: &Arc<str>,
        next: Metadata,
        then: Then,
        out: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let producer = next.producer;
        let (before, after) = (entry.now.state, next.state);
        entry.now = next;
        entry.retries = 0;
        entry.pending = false;
        entry.fence_failed = false;
        entry.retry_at_ms = None;
        match (before.is_open(), after.is_open()) {
            (false, true) => self.counts.open += 1,
            (true, false) => self.counts.open -= 1,
            _ => {}
        }
        match then {
            Then::Init { token } => reply(out, token, Reply::InitProducerId(Ok(producer))),
            Then::Add { token } => reply(out, token, Reply::AddPartitions(Ok(()))),
            Then::End { token, producer } => {
                reply(out, token, Reply::EndTxn(Ok(producer)));
                self.begin_ending(now_ms, id, out);
            }
            Then::Fence { token } => {
                if let Some(token) = token {
                    let again = TransactionError::ConcurrentTransactions;
                    reply(out, token, Reply::InitProducerId(Err(again)));
                }
                self.begin_ending(now_ms, id, out);
            }
            Then::Complete => {
                if let Some(markers) = entry.markers.take() {
                    self.markers.remove(&markers.id);
                }
                match after {
                    TransactionState::CompleteCommit => self.counts.committed += 1,
                    _ => self.counts.aborted += 1,
                }
                out.push(Effect::Ended {
                    transactional_id: id.clone(),
                });
            }
        }
        self.file(id);
    }

    fn not_changed(
        &mut self,
        now_ms: i64,
        id: &Arc<str>,
        then: Then,
        error: TransactionError,
        out: &mut Vec<Effect>,
    ) {
        refuse(then, error, out);
        let bumps = self.config.transaction_version.bumps_epoch();
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.pending = false;
        match then {
            Then::Init { .. } if entry.now.producer.epoch == NO_PRODUCER_EPOCH => {
                // Nobody has this id yet.
                self.entries.remove(id);
            }
            Then::Fence { .. } => {
                entry.fence_failed = !bumps;
                self.retry_later(now_ms, id);
            }
            Then::Complete => self.retry_later(now_ms, id),
            _ => {}
        }
        self.file(id);
    }
}

/// Tells whoever waits that it did not work.
pub(super) fn refuse(then: Then, error: TransactionError, out: &mut Vec<Effect>) {
    match then {
        Then::Init { token } | Then::Fence { token: Some(token) } => {
            reply(out, token, Reply::InitProducerId(Err(error)));
        }
        Then::Add { token } => reply(out, token, Reply::AddPartitions(Err(error))),
        Then::End { token, .. } => reply(out, token, Reply::EndTxn(Err(error))),
        Then::Fence { token: None } | Then::Complete => {}
    }
}
