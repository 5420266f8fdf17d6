//! The limits and delays a coordinator works with. Names and defaults are Kafka's broker settings
//! unless the comment says otherwise.

use crate::metadata::TransactionVersion;

/// Settings of one [`crate::TransactionCoordinator`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionConfig {
    /// `transaction.max.timeout.ms`: a longer timeout is refused.
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`: an id that did nothing for so long is forgotten.
    pub id_expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`: from the end of one sweep for
    /// expired ids to the next.
    pub id_expiration_check_interval_ms: i64,
    /// The level of the feature `transaction.version`: what the coordinator itself aborts with,
    /// and the version of the records.
    pub transaction_version: TransactionVersion,
    /// How long to wait before markers, the record of the end, or an abort that could not be
    /// written are tried again. Ours: Kafka has several of its own constants.
    pub retry_backoff_ms: i64,
    /// The longest such wait: they double from one to the next.
    pub retry_backoff_max_ms: i64,
    /// Partitions of one transaction. Ours: Kafka leaves it to the size of a record.
    pub max_partitions: usize,
    /// Transactional ids of one coordinator. Ours: a new id beyond it is refused.
    pub max_ids: usize,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            max_timeout_ms: 900_000,
            id_expiration_ms: 7 * 24 * 3_600 * 1_000,
            id_expiration_check_interval_ms: 3_600_000,
            transaction_version: TransactionVersion::V2,
            retry_backoff_ms: 100,
            retry_backoff_max_ms: 5_000,
            max_partitions: 100_000,
            max_ids: 1_000_000,
        }
    }
}
