//! A coordinator's topic is created when it is missing, and read. Waits for the disk.

use std::collections::HashMap;
use std::sync::Arc;

use dlog_coordination::StateMachine;
use dlog_storage::record::control::EndTxnMarker;
use dlog_storage::record::{Batch, RecordError};
use dlog_storage::{Log, ReadLimit, StorageError};
use kafka_protocol::ResponseError;
use parking_lot::Mutex;

use super::{Inner, Kind, Shard};
use crate::partitions::Partition;
use crate::state::BrokerState;
use crate::topics::TopicError;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What a coordinator's partition holds, in the order of the log.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// A record.
    Record {
        /// Its offset.
        offset: i64,
        /// Its key, empty when it has none.
        key: &'a [u8],
        /// Its value; `None` is a tombstone.
        value: Option<&'a [u8]>,
        /// The producer whose transaction it is part of: it counts when that is committed.
        transaction_of: Option<i64>,
    },
    /// The end of a producer's transaction in this partition.
    End {
        /// The producer.
        producer_id: i64,
        /// Committed, or aborted.
        committed: bool,
    },
}

/// Opens all shards.
pub(super) fn all<K: Kind>(state: &Arc<BrokerState>) -> Result<Vec<Arc<Shard<K>>>, TopicError> {
    if state.partitions.topic(K::TOPIC).is_none() {
        match state.create_topic(&K::new_topic(state), false) {
            Ok(_) => {}
            Err(error) if error.code == ResponseError::TopicAlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let unavailable =
        |reason: String| TopicError::new(ResponseError::CoordinatorNotAvailable, reason);
    let hosted = state
        .partitions
        .topic(K::TOPIC)
        .ok_or_else(|| unavailable(format!("{} is not hosted here", K::TOPIC)))?;
    let shards = hosted
        .partitions
        .iter()
        .map(|partition| shard::<K>(state, partition));
    shards
        .collect::<Result<_, StorageError>>()
        .map_err(|error| unavailable(error.to_string()))
}

fn shard<K: Kind>(
    state: &BrokerState,
    partition: &Arc<Partition>,
) -> Result<Arc<Shard<K>>, StorageError> {
    let mut machine = K::machine(state, partition);
    // A partition that is offline answers every write with an error; its state begins anew.
    if let Ok(log) = partition.log() {
        read(log, |stored| K::apply(&mut machine, partition, stored))?;
    }
    let mut effects = Vec::new();
    machine.finish_loading(state.now_ms(), &mut effects);
    let inner = Inner {
        machine,
        callers: HashMap::new(),
        next_token: 0,
        effects,
    };
    Ok(Arc::new(Shard {
        partition: partition.clone(),
        inner: Mutex::new(inner),
        extra: K::Extra::default(),
    }))
}

/// Reads a log from its start to its end.
fn read(log: &Log, mut found: impl FnMut(Stored<'_>)) -> Result<(), StorageError> {
    let mut next = log.log_start_offset();
    loop {
        let slice = log.read_range(next, CHUNK_BYTES, ReadLimit::End)?;
        if slice.is_empty() {
            return Ok(());
        }
        let mut bytes = slice.to_bytes().map_err(|source| StorageError::Io {
            operation: "read",
            path: log.dir().to_path_buf(),
            source,
        })?;
        // The last batch of a slice may be cut short: the next slice begins with it.
        while let Some(batch) = Batch::split_first(&mut bytes)? {
            next = batch.header().last_offset() + 1;
            batch.verify_crc()?;
            read_batch(&batch, &mut found)?;
        }
    }
}

fn read_batch(batch: &Batch, found: &mut impl FnMut(Stored<'_>)) -> Result<(), RecordError> {
    let header = batch.header();
    for record in batch.records()? {
        let record = record?;
        if header.is_control() {
            let marker = EndTxnMarker::from_record(record.key.as_deref(), record.value.as_deref())?;
            if let Some(marker) = marker {
                found(Stored::End {
                    producer_id: header.producer_id,
                    committed: marker.committed,
                });
            }
            continue;
        }
        found(Stored::Record {
            offset: record.offset,
            key: record.key.as_deref().unwrap_or_default(),
            value: record.value.as_deref(),
            transaction_of: header.is_transactional().then_some(header.producer_id),
        });
    }
    Ok(())
}
