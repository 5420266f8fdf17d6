//! What the shell tells of a failed write, and damage in a stored record.

use thiserror::Error;

/// Why the shell could not make a write durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PersistError {
    /// Too few replicas, no such partition, or the log is offline: it may work later.
    #[error("the partition cannot take the write now")]
    Unavailable,
    /// This broker no longer leads the partition.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// The write was not confirmed in time; it may or may not have happened.
    #[error("the write was not confirmed in time")]
    TimedOut,
    /// The records exceed what the partition accepts.
    #[error("the records are too large for the partition")]
    TooLarge,
    /// A newer epoch of the producer is known there: its transaction is not the current one.
    #[error("a newer epoch of the producer is known")]
    ProducerFenced,
    /// A newer coordinator of the transaction has written there.
    #[error("a newer coordinator of the transaction is known")]
    CoordinatorFenced,
    /// Anything else.
    #[error("the write failed")]
    Failed,
}

/// A key or value that cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    /// The bytes end inside a field.
    #[error("{field}: needs {needed} bytes, {left} are left")]
    Truncated {
        /// The field being read.
        field: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes that remain.
        left: usize,
    },
    /// A length or count is negative, or larger than the bytes that follow could hold.
    #[error("{field}: length {length} is not possible here")]
    BadLength {
        /// The field being read or written.
        field: &'static str,
        /// The length found.
        length: i64,
    },
    /// A text is not UTF-8.
    #[error("{field}: not UTF-8")]
    NotUtf8 {
        /// The field being read.
        field: &'static str,
    },
    /// A record was to be applied to a coordinator that serves already.
    #[error("records are applied only while loading")]
    NotLoading,
    /// The version is not one this codec knows.
    #[error("{what}: version {version} is not known")]
    UnknownVersion {
        /// What was being read.
        what: &'static str,
        /// The version found.
        version: i16,
    },
}
