//! Ends of transactions on their way into a partition.

use dlog_storage::{Acknowledged, EndMarker, StorageError};

use super::Partition;

/// Appends the end of a producer's transaction; gives what to wait for.
///
/// # Errors
/// [`StorageError::ProducerFenced`] and [`StorageError::CoordinatorFenced`] for a zombie,
/// [`StorageError::Offline`] for a partition without a log, and as
/// [`dlog_storage::LogCore::append_end_marker`].
pub fn append_marker(
    partition: &Partition,
    marker: EndMarker,
) -> Result<Acknowledged, StorageError> {
    let log = partition.log().map_err(|_| StorageError::Offline {
        dir: partition.dir.clone(),
        cause: partition.offline_reason().unwrap_or_default(),
    })?;
    let appended = log.append_end_marker(marker, partition.leader_epoch());
    let appended = appended.inspect_err(|error| {
        tracing::warn!(topic = %partition.topic, partition = partition.index, producer_id = marker.producer_id, producer_epoch = marker.producer_epoch, committed = marker.committed, %error, "the end of a transaction was refused");
    })?;
    Ok(log.acknowledged(appended.last_offset))
}
