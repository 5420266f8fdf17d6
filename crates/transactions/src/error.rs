//! The protocol errors a client is told, and which of them a failed write becomes.

use thiserror::Error;

use crate::api::TransactionApi;

pub use dlog_coordination::{CodecError, PersistError};

/// An error of the transaction protocol. [`TransactionError::code`] is its number on the wire,
/// [`TransactionError::code_for`] the one that an old client understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum TransactionError {
    /// Something on the server's side that the client cannot help.
    #[error("the server failed unexpectedly")]
    UnknownServerError,
    /// The transactions are still being read, or no producer id is at hand; try again.
    #[error("the coordinator is loading")]
    CoordinatorLoadInProgress,
    /// The transactional id cannot be served right now; try again.
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    /// Another broker answers for this transactional id.
    #[error("this is not the transactional id's coordinator")]
    NotCoordinator,
    /// The transactional id is empty or too long, or the request breaks another bound.
    #[error("the request is not valid")]
    InvalidRequest,
    /// No more transactional ids can be taken.
    #[error("the coordinator holds as many transactional ids as it may")]
    PolicyViolation,
    /// The transaction is not in a state in which this can be asked for.
    #[error("the transaction is not in a state for this")]
    InvalidTxnState,
    /// The transactional id does not go with this producer id.
    #[error("the producer id is not the transactional id's")]
    InvalidProducerIdMapping,
    /// The timeout is not positive, or beyond `transaction.max.timeout.ms`.
    #[error("the transaction timeout is out of bounds")]
    InvalidTransactionTimeout,
    /// What was asked for before is not finished; try again.
    #[error("another change of the transaction is under way")]
    ConcurrentTransactions,
    /// A newer producer took over the transactional id.
    #[error("a newer producer has this transactional id")]
    ProducerFenced,
    /// There is no such transactional id.
    #[error("there is no such transactional id")]
    TransactionalIdNotFound,
    /// The partition is not part of the transaction, which should be aborted (KIP-890).
    #[error("the partition is not part of the transaction")]
    TransactionAbortable,
}

impl TransactionError {
    /// The error's number in Kafka's protocol.
    pub fn code(self) -> i16 {
        match self {
            Self::UnknownServerError => -1,
            Self::CoordinatorLoadInProgress => 14,
            Self::CoordinatorNotAvailable => 15,
            Self::NotCoordinator => 16,
            Self::InvalidRequest => 42,
            Self::PolicyViolation => 44,
            Self::InvalidTxnState => 48,
            Self::InvalidProducerIdMapping => 49,
            Self::InvalidTransactionTimeout => 50,
            Self::ConcurrentTransactions => 51,
            Self::ProducerFenced => 90,
            Self::TransactionalIdNotFound => 105,
            Self::TransactionAbortable => 120,
        }
    }

    /// The number to answer a request of `version` with: clients before PRODUCER_FENCED existed
    /// know INVALID_PRODUCER_EPOCH (47) instead.
    pub fn code_for(self, api: TransactionApi, version: i16) -> i16 {
        let fenced_since = match api {
            TransactionApi::InitProducerId => 4,
            TransactionApi::AddPartitionsToTxn
            | TransactionApi::AddOffsetsToTxn
            | TransactionApi::EndTxn => 2,
        };
        if self == Self::ProducerFenced && version < fenced_since {
            47
        } else {
            self.code()
        }
    }
}

impl From<PersistError> for TransactionError {
    fn from(error: PersistError) -> Self {
        match error {
            PersistError::Unavailable | PersistError::TimedOut => Self::CoordinatorNotAvailable,
            PersistError::NotLeader => Self::NotCoordinator,
            // Nothing in the coordinator's own log belongs to a producer.
            PersistError::TooLarge
            | PersistError::Failed
            | PersistError::ProducerFenced
            | PersistError::CoordinatorFenced => Self::UnknownServerError,
        }
    }
}
