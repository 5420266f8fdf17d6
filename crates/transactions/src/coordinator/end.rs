//! The end of a transaction is decided: by EndTxn, or because its producer is fenced.
//!
//! What version 2 (KIP-890) answers to a producer without an open transaction. *Repeated* is the
//! epoch before the current one: the answer to the same request was lost.
//!
//! | state | abort, repeated | abort, current | commit, repeated | commit, current |
//! |---|---|---|---|---|
//! | Empty | PRODUCER_FENCED | aborts, new epoch | PRODUCER_FENCED | INVALID_TXN_STATE |
//! | CompleteAbort | the current epoch | aborts, new epoch | INVALID_TXN_STATE | INVALID_TXN_STATE |
//! | CompleteCommit | INVALID_TXN_STATE | aborts, new epoch | the current epoch | INVALID_TXN_STATE |
//!
//! Version 2 is for coordinators whose `transaction.version` is 2: older records do not keep what a
//! repetition is known by. Before version 2 an epoch other than the current one is fenced, and a repetition is known by the
//! state alone.

use crate::api::{Effect, EndTxn, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Producer, Reply, Token};
use crate::error::TransactionError;
use crate::metadata::{Metadata, TransactionState, TransactionVersion, is_exhausted};
use crate::step::Then;

use super::{TransactionCoordinator, reply};

/// What to do about an EndTxn that is not refused.
enum Verdict {
    /// Write the decision.
    Decide,
    /// It was done before: only the answer was lost.
    Done(Producer),
}

impl TransactionCoordinator {
    /// EndTxn. Answered with [`Reply::EndTxn`] once the decision is durable; markers follow.
    pub fn end_txn(&mut self, now_ms: i64, request: &EndTxn, token: Token, out: &mut Vec<Effect>) {
        match self.begin_end(now_ms, request, token, out) {
            Ok(Verdict::Decide) => {}
            Ok(Verdict::Done(producer)) => reply(out, token, Reply::EndTxn(Ok(producer))),
            Err(error) => reply(out, token, Reply::EndTxn(Err(error))),
        }
    }

    fn begin_end(
        &mut self,
        now_ms: i64,
        request: &EndTxn,
        token: Token,
        out: &mut Vec<Effect>,
    ) -> Result<Verdict, TransactionError> {
        let id = request.transactional_id.as_str();
        self.check_request(id)?;
        let entry = self.entries.get(id);
        let entry = entry.ok_or(TransactionError::InvalidProducerIdMapping)?;
        let now = entry.now.clone();
        let bumps = request.client_version.bumps_epoch();
        let verdict = if bumps {
            judge_v2(&now, entry.is_busy(), request)?
        } else {
            judge_v1(&now, entry.is_busy(), request)?
        };
        if matches!(verdict, Verdict::Decide) {
            let version = if bumps {
                request.client_version
            } else {
                TransactionVersion::V0
            };
            let next_id = self.next_producer_id(&now, version, out)?;
            let next = now.prepared(request.committed, version, next_id, now_ms);
            let producer = if bumps {
                next.producer_afterwards()
            } else {
                Producer::NONE
            };
            self.change(id, next, Then::End { token, producer }, out);
        }
        Ok(verdict)
    }

    /// A fresh producer id when the coming epoch is the last one.
    fn next_producer_id(
        &mut self,
        now: &Metadata,
        version: TransactionVersion,
        out: &mut Vec<Effect>,
    ) -> Result<i64, TransactionError> {
        if version.bumps_epoch() && is_exhausted(now.producer.epoch) {
            self.take_producer_id(out)
        } else {
            Ok(NO_PRODUCER_ID)
        }
    }

    /// Aborts the transaction under way and shuts its producer out (PrepareEpochFence). The step is
    /// never stored: it becomes PrepareAbort at once.
    pub(super) fn fence(
        &mut self,
        now_ms: i64,
        id: &str,
        token: Option<Token>,
        out: &mut Vec<Effect>,
    ) -> Result<(), TransactionError> {
        let version = self.config.transaction_version;
        let Some(entry) = self.entries.get_mut(id) else {
            return Ok(());
        };
        if entry.pending || entry.now.state != TransactionState::Ongoing {
            return Ok(());
        }
        let version = if version.bumps_epoch() {
            // The abort itself raises the epoch.
            version
        } else {
            if !entry.fence_failed {
                entry.now.producer.epoch = entry.now.producer.epoch.saturating_add(1);
            }
            entry.now.last_epoch = NO_PRODUCER_EPOCH;
            TransactionVersion::V0
        };
        let now = entry.now.clone();
        let next_id = self.next_producer_id(&now, version, out)?;
        let next = now.prepared(false, version, next_id, now_ms);
        self.change(id, next, Then::Fence { token }, out);
        Ok(())
    }
}

fn judge_v1(now: &Metadata, busy: bool, request: &EndTxn) -> Result<Verdict, TransactionError> {
    if now.producer.id != request.producer.id {
        return Err(TransactionError::InvalidProducerIdMapping);
    }
    if now.producer.epoch != request.producer.epoch {
        return Err(TransactionError::ProducerFenced);
    }
    if busy {
        return Err(TransactionError::ConcurrentTransactions);
    }
    match (now.state, request.committed) {
        (TransactionState::Ongoing, _) => Ok(Verdict::Decide),
        (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => {
            Ok(Verdict::Done(Producer::NONE))
        }
        _ => Err(TransactionError::InvalidTxnState),
    }
}

fn judge_v2(now: &Metadata, busy: bool, request: &EndTxn) -> Result<Verdict, TransactionError> {
    // First of all: the producer may already have the identity that is on its way to the log.
    if busy {
        return Err(TransactionError::ConcurrentTransactions);
    }
    let Producer { id, epoch } = request.producer;
    let over_to_new_id =
        now.previous_producer_id == id && epoch == i16::MAX - 1 && now.producer.epoch == 0;
    // Only the end of a transaction of version 2 has raised the epoch. (Kafka does not look at that:
    // after the transaction of an older client, a fenced producer of version 2 that repeats its
    // EndTxn is handed the identity of the living one.)
    let repeated = now.client_version.bumps_epoch()
        && (over_to_new_id || epoch.checked_add(1) == Some(now.producer.epoch));
    if now.producer.id != id && !over_to_new_id {
        return Err(TransactionError::InvalidProducerIdMapping);
    }
    let completed = now.state != TransactionState::Ongoing && now.state != TransactionState::Empty;
    let valid = now.producer == request.producer || (completed && repeated);
    if !valid {
        return Err(TransactionError::ProducerFenced);
    }
    match (now.state, request.committed) {
        (TransactionState::Ongoing, _) | (TransactionState::Empty, false) => Ok(Verdict::Decide),
        (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false)
            if repeated =>
        {
            Ok(Verdict::Done(now.producer))
        }
        (TransactionState::CompleteCommit | TransactionState::CompleteAbort, false)
            if !repeated =>
        {
            Ok(Verdict::Decide)
        }
        _ => Err(TransactionError::InvalidTxnState),
    }
}
