//! Appending to a coordinator's partition.

use bytes::Bytes;
use dlog_coordination::{LogEntry, PersistError, Producer, Record};
use dlog_storage::record::{BatchBuilder, NO_SEQUENCE, RecordError};
use dlog_storage::{Acknowledged, AppendMode, StorageError};

use crate::partitions::{Partition, append_marker};
use crate::transactions::end_marker;

/// Largest batch of records written at once, in bytes.
const MAX_BATCH_BYTES: usize = 512 << 10;

/// Appends an entry; gives the offset of its first record and what to wait for.
pub(super) fn entry(
    partition: &Partition,
    entry: &LogEntry,
    now_ms: i64,
) -> Result<(i64, Acknowledged), PersistError> {
    match entry {
        LogEntry::Records(records) => append(partition, batches(records, now_ms)?),
        LogEntry::InTransaction { producer, records } => {
            append(partition, vec![in_transaction(*producer, records, now_ms)?])
        }
        LogEntry::Marker(marker) => {
            let appended = append_marker(partition, end_marker(marker, now_ms));
            // Nobody asks where a marker is.
            let acknowledged = appended.map_err(|error| refused(partition, &error))?;
            Ok((-1, acknowledged))
        }
    }
}

fn append(partition: &Partition, batches: Vec<Bytes>) -> Result<(i64, Acknowledged), PersistError> {
    let log = partition.log().map_err(|_| PersistError::Unavailable)?;
    let mode = AppendMode::Leader {
        leader_epoch: partition.leader_epoch(),
        log_append_time: None,
    };
    let (mut first_offset, mut last_offset) = (None, -1);
    for batch in batches {
        let appended = log
            .append_batches(batch, mode)
            .map_err(|error| refused(partition, &error))?;
        first_offset.get_or_insert(appended.base_offset);
        last_offset = appended.last_offset;
    }
    Ok((first_offset.unwrap_or(-1), log.acknowledged(last_offset)))
}

fn refused(partition: &Partition, error: &StorageError) -> PersistError {
    let error_is = match error {
        // What a client of an old epoch gets to hear.
        StorageError::ProducerFenced { .. } => return PersistError::ProducerFenced,
        StorageError::CoordinatorFenced { .. } => return PersistError::CoordinatorFenced,
        StorageError::TooLarge { .. } => PersistError::TooLarge,
        _ => PersistError::Unavailable,
    };
    tracing::error!(topic = %partition.topic, partition = partition.index, %error, "the state of a coordinator cannot be written");
    error_is
}

/// The records of a transaction, in one batch. They have no sequence: nobody repeats them.
fn in_transaction(
    producer: Producer,
    records: &[Record],
    now_ms: i64,
) -> Result<Bytes, PersistError> {
    let mut builder = BatchBuilder::new()
        .producer(producer.id, producer.epoch, NO_SEQUENCE)
        .transactional(true);
    for record in records {
        builder
            .push(now_ms, Some(&record.key), record.value.as_deref(), &[])
            .map_err(|_| PersistError::TooLarge)?;
    }
    builder.build().map_err(|_| PersistError::TooLarge)
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
