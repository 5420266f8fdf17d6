//! Appending to a coordinator's partition.

use bytes::Bytes;
use dlog_coordination::{PersistError, Record};
use dlog_storage::record::{BatchBuilder, RecordError};
use dlog_storage::{Acknowledged, AppendMode, StorageError};

use crate::partitions::Partition;

/// Largest batch of records written at once, in bytes.
const MAX_BATCH_BYTES: usize = 512 << 10;

/// Appends records, and gives what to wait for.
pub(super) fn records(
    partition: &Partition,
    records: &[Record],
    now_ms: i64,
) -> Result<Acknowledged, PersistError> {
    let log = partition.log().map_err(|_| PersistError::Unavailable)?;
    let mode = AppendMode::Leader {
        leader_epoch: partition.leader_epoch(),
        log_append_time: None,
    };
    let mut last_offset = -1;
    for batch in batches(records, now_ms)? {
        let appended = log
            .append_batches(batch, mode)
            .map_err(|error| refused(partition, &error))?;
        last_offset = appended.last_offset;
    }
    Ok(log.acknowledged(last_offset))
}

fn refused(partition: &Partition, error: &StorageError) -> PersistError {
    tracing::error!(topic = %partition.topic, partition = partition.index, %error, "the state of a coordinator cannot be written");
    match error {
        StorageError::TooLarge { .. } => PersistError::TooLarge,
        _ => PersistError::Unavailable,
    }
}

/// Records as batches: one, unless many tombstones would make it too large.
fn batches(records: &[Record], now_ms: i64) -> Result<Vec<Bytes>, PersistError> {
    let too_large = |_: RecordError| PersistError::TooLarge;
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new();
    for record in records {
        let is_tombstone = record.value.is_none();
        if is_tombstone && builder.estimated_bytes() > MAX_BATCH_BYTES {
            let full = std::mem::replace(&mut builder, BatchBuilder::new());
            batches.push(full.build().map_err(too_large)?);
        }
        builder
            .push(now_ms, Some(&record.key), record.value.as_deref(), &[])
            .map_err(too_large)?;
    }
    if !builder.is_empty() {
        batches.push(builder.build().map_err(too_large)?);
    }
    Ok(batches)
}
