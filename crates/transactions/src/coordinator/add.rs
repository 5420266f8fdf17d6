//! AddPartitionsToTxn and AddOffsetsToTxn, and the check of a broker that a partition is part of a
//! transaction.

use crate::api::{AddPartitions, Effect, Reply, Token, TopicPartition};
use crate::error::TransactionError;
use crate::metadata::TransactionState;
use crate::step::Then;

use super::{MAX_NAME_BYTES, TransactionCoordinator, reply};

impl TransactionCoordinator {
    /// AddPartitionsToTxn and AddOffsetsToTxn for one transaction. Answered with
    /// [`Reply::AddPartitions`]; the first partitions begin the transaction.
    pub fn add_partitions(
        &mut self,
        now_ms: i64,
        request: AddPartitions,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        match self.begin_add(now_ms, request, token, out) {
            Ok(true) => {}
            Ok(false) => reply(out, token, Reply::AddPartitions(Ok(()))),
            Err(error) => reply(out, token, Reply::AddPartitions(Err(error))),
        }
    }

    /// Whether there is something to write.
    fn begin_add(
        &mut self,
        now_ms: i64,
        request: AddPartitions,
        token: Token,
        out: &mut Vec<Effect>,
    ) -> Result<bool, TransactionError> {
        let id = request.transactional_id.as_str();
        self.check_request(id)?;
        check_names(&request.partitions)?;
        let entry = self.entries.get(id);
        let entry = entry.ok_or(TransactionError::InvalidProducerIdMapping)?;
        // First of all: the producer may already have the identity that is on its way to the log.
        if entry.is_busy() {
            return Err(TransactionError::ConcurrentTransactions);
        }
        let now = &entry.now;
        if now.producer.id != request.producer.id {
            return Err(TransactionError::InvalidProducerIdMapping);
        }
        if now.producer.epoch != request.producer.epoch {
            return Err(TransactionError::ProducerFenced);
        }
        let known = |partition| now.partitions.contains(partition);
        if now.state == TransactionState::Ongoing && request.partitions.iter().all(known) {
            return Ok(false);
        }
        let next = now.with_partitions(request.partitions, request.client_version, now_ms);
        if next.partitions.len() > self.config.max_partitions {
            return Err(TransactionError::InvalidRequest);
        }
        self.change(&request.transactional_id, next, Then::Add { token }, out);
        Ok(true)
    }

    /// AddPartitionsToTxn of a broker that only wants to know (verify-only, version 4 on): for each
    /// partition whether it is part of the producer's transaction. A change under way is not
    /// waited for: the append itself checks again.
    pub fn verify_partitions(
        &self,
        request: &AddPartitions,
    ) -> Vec<(TopicPartition, Result<(), TransactionError>)> {
        let checked = self
            .check_request(&request.transactional_id)
            .and_then(|()| {
                let entry = self.entries.get(request.transactional_id.as_str());
                let now = &entry.ok_or(TransactionError::InvalidProducerIdMapping)?.now;
                if now.producer.id != request.producer.id {
                    Err(TransactionError::InvalidProducerIdMapping)
                } else if now.producer.epoch != request.producer.epoch {
                    Err(TransactionError::ProducerFenced)
                } else if now.state.is_prepared() {
                    Err(TransactionError::ConcurrentTransactions)
                } else {
                    Ok(now)
                }
            });
        let outcome = |partition: &TopicPartition| match checked {
            Err(error) => Err(error),
            Ok(now) if now.partitions.contains(partition) => Ok(()),
            Ok(_) => Err(TransactionError::TransactionAbortable),
        };
        let partitions = request.partitions.iter();
        partitions
            .map(|partition| (partition.clone(), outcome(partition)))
            .collect()
    }
}

fn check_names(partitions: &[TopicPartition]) -> Result<(), TransactionError> {
    let fits = |partition: &TopicPartition| partition.topic.len() <= MAX_NAME_BYTES;
    if partitions.iter().all(fits) {
        Ok(())
    } else {
        Err(TransactionError::InvalidRequest)
    }
}
