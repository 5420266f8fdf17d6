//! Errors of the server, and how storage errors look to Kafka clients.

use std::net::SocketAddr;
use std::path::PathBuf;

use dlog_metadata::MetadataError;
use dlog_storage::StorageError;
use kafka_protocol::ResponseError;

/// Result of starting or stopping the server.
pub type Result<T, E = BrokerError> = std::result::Result<T, E>;

/// Why the server could not start or stop properly.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A setting that cannot work.
    #[error("invalid setting {name}: {reason}")]
    Config {
        /// The setting.
        name: &'static str,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({listener}): {source}")]
    Listen {
        /// Name of the listener.
        listener: String,
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The identity file of the data folder does not fit.
    #[error("{path}: {reason}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// A file or folder of the data folder cannot be read or written.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The storage engine failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The metadata could not be read or written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// The Kafka error that tells a client what became of its request.
pub fn storage_error_code(error: &StorageError) -> ResponseError {
    match error {
        StorageError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        StorageError::Record(_) => ResponseError::CorruptMessage,
        StorageError::TooLarge { .. } => ResponseError::RecordListTooLarge,
        StorageError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        StorageError::ProducerFenced { .. } => ResponseError::InvalidProducerEpoch,
        StorageError::CoordinatorFenced { .. } => ResponseError::TransactionCoordinatorFenced,
        StorageError::InvalidTxnState { .. } => ResponseError::InvalidTxnState,
        StorageError::InvalidConfig { .. } => ResponseError::InvalidConfig,
        StorageError::Closed { .. } => ResponseError::NotLeaderOrFollower,
        _ => ResponseError::KafkaStorageError,
    }
}
