//! InitProducerId: a producer takes over a transactional id.

use std::sync::Arc;

use crate::api::{Effect, InitProducerId, NO_PRODUCER_EPOCH, Producer, Reply, Token};
use crate::error::TransactionError;
use crate::metadata::{Metadata, TransactionState, is_exhausted};
use crate::step::{Entry, Then};

use super::{TransactionCoordinator, reply};

impl TransactionCoordinator {
    /// InitProducerId with a transactional id. Answered with [`Reply::InitProducerId`]. A
    /// transaction that is under way is aborted first: the producer is told
    /// CONCURRENT_TRANSACTIONS and asks again.
    pub fn init_producer_id(
        &mut self,
        now_ms: i64,
        request: &InitProducerId,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        if let Err(error) = self.begin_init(now_ms, request, token, out) {
            reply(out, token, Reply::InitProducerId(Err(error)));
        }
    }

    fn begin_init(
        &mut self,
        now_ms: i64,
        request: &InitProducerId,
        token: Token,
        out: &mut Vec<Effect>,
    ) -> Result<(), TransactionError> {
        let id = request.transactional_id.as_str();
        self.check_request(id)?;
        if !(1..=self.config.max_timeout_ms).contains(&request.timeout_ms) {
            return Err(TransactionError::InvalidTransactionTimeout);
        }
        let Some(entry) = self.entries.get(id) else {
            return self.begin_new(now_ms, request, token, out);
        };
        if entry.is_busy() {
            return Err(TransactionError::ConcurrentTransactions);
        }
        if !request
            .expected
            .is_none_or(|producer| knows(&entry.now, producer))
        {
            return Err(TransactionError::ProducerFenced);
        }
        match entry.now.state {
            TransactionState::Ongoing => self.fence(now_ms, id, Some(token), out),
            state if state.may_expire() => {
                let next = self.next_producer(now_ms, request, out)?;
                self.change(id, next, Then::Init { token }, out);
                Ok(())
            }
            _ => Err(TransactionError::ConcurrentTransactions),
        }
    }

    fn begin_new(
        &mut self,
        now_ms: i64,
        request: &InitProducerId,
        token: Token,
        out: &mut Vec<Effect>,
    ) -> Result<(), TransactionError> {
        if self.entries.len() >= self.config.max_ids {
            return Err(TransactionError::PolicyViolation);
        }
        let id: Arc<str> = request.transactional_id.as_str().into();
        let fresh = Metadata::new(self.take_producer_id(out)?, request.timeout_ms, now_ms);
        self.entries.insert(id.clone(), Entry::new(fresh));
        let next = self.next_producer(now_ms, request, out)?;
        self.change(&id, next, Then::Init { token }, out);
        Ok(())
    }

    /// Who the producer will be, when no transaction is under way.
    fn next_producer(
        &mut self,
        now_ms: i64,
        request: &InitProducerId,
        out: &mut Vec<Effect>,
    ) -> Result<Metadata, TransactionError> {
        let entry = self.entries.get(request.transactional_id.as_str());
        let now = entry.map(|entry| entry.now.clone());
        let now = now.ok_or(TransactionError::UnknownServerError)?;
        let expected_epoch = request.expected.map(|producer| producer.epoch);
        let rotates = is_exhausted(now.producer.epoch)
            && expected_epoch.is_none_or(|epoch| epoch == now.producer.epoch);
        if rotates {
            let producer_id = self.take_producer_id(out)?;
            let keep_last_epoch = expected_epoch.is_some();
            return Ok(now.rotated(producer_id, keep_last_epoch, request.timeout_ms, now_ms));
        }
        now.bumped(expected_epoch, request.timeout_ms, now_ms)
            .ok_or(TransactionError::ProducerFenced)
    }
}

/// Whether a producer that says who it was (KIP-360) may go on: the id is new, or the producer id
/// is still its own, or it was the one before and had no epoch left: the answer that gave it the
/// new one was lost.
fn knows(now: &Metadata, expected: Producer) -> bool {
    now.producer.epoch == NO_PRODUCER_EPOCH
        || expected.id == now.producer.id
        || (expected.id == now.previous_producer_id && is_exhausted(expected.epoch))
}
