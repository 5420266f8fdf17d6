//! A coordinator's topic is created when it is missing, and read. Waits for the disk.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use dlog_coordination::StateMachine;
use dlog_storage::record::control::EndTxnMarker;
use dlog_storage::record::{Batch, RecordError};
use dlog_storage::{Log, ReadLimit, StorageError};
use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::SetOnce;

use super::{Inner, Kind, Shard};
use crate::state::BrokerState;
use crate::topics::TopicError;

/// Shards that are read side by side.
const MOST_THREADS: usize = 4;

/// A shard that could not be read is tried again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(5);

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

/// Why a shard could not be read.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    /// The partition's log failed before.
    #[error("the partition is offline")]
    Offline,
    /// It fails now.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Creates the topic when it is missing; the shards know nothing yet.
pub(super) fn open<K: Kind>(state: &Arc<BrokerState>) -> Result<Vec<Arc<Shard<K>>>, TopicError> {
    if state.partitions.topic(K::TOPIC).is_none() {
        match state.create_topic(&K::new_topic(state), false) {
            Ok(_) => {}
            Err(error) if error.code == ResponseError::TopicAlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let hosted = state.partitions.topic(K::TOPIC).ok_or_else(|| {
        let reason = format!("{} is not hosted here", K::TOPIC);
        TopicError::new(ResponseError::CoordinatorNotAvailable, reason)
    })?;
    let shards = hosted.partitions.iter().map(|partition| {
        let inner = Inner {
            machine: K::machine(state, partition),
            callers: HashMap::new(),
            next_token: 0,
            effects: Vec::new(),
        };
        Arc::new(Shard {
            partition: partition.clone(),
            inner: Mutex::new(inner),
            loaded: SetOnce::new(),
            extra: K::Extra::default(),
        })
    });
    Ok(shards.collect())
}

/// Begins to read the shards, on threads that may wait for the disk.
pub(super) fn begin<K: Kind>(state: &Arc<BrokerState>, shards: &[Arc<Shard<K>>]) {
    let next = Arc::new(AtomicUsize::new(0));
    let shards: Arc<[Arc<Shard<K>>]> = shards.into();
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    for _ in 0..threads.min(MOST_THREADS) {
        let (state, shards, next) = (state.clone(), shards.clone(), next.clone());
        tokio::task::spawn_blocking(move || {
            while let Some(shard) = shards.get(next.fetch_add(1, Ordering::Relaxed)) {
                if state.stopping.is_cancelled() {
                    return;
                }
                load(&state, shard);
            }
        });
    }
}

/// Reads a shard; one that cannot be read is tried again later, and says meanwhile that it is loading.
fn load<K: Kind>(state: &Arc<BrokerState>, shard: &Arc<Shard<K>>) {
    match read(state, shard) {
        Ok(()) => K::all_of(state).sooner.notify_one(),
        Err(error) => {
            let (topic, partition) = (K::TOPIC, shard.partition.index);
            tracing::error!(topic, partition, %error, "the state of a coordinator cannot be read");
            shard.inner.lock().machine = K::machine(state, &shard.partition);
            let (state, shard) = (state.clone(), shard.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(RETRY_AFTER) => {}
                    () = state.stopping.cancelled() => return,
                }
                let _ = tokio::task::spawn_blocking(move || load(&state, &shard)).await;
            });
        }
    }
}

/// Reads a shard's partition from its start to its end. The shard is locked for one batch at a time, and
/// at the end while nothing can come behind.
fn read<K: Kind>(state: &BrokerState, shard: &Shard<K>) -> Result<(), LoadError> {
    let log = shard.partition.log().map_err(|_| LoadError::Offline)?;
    let mut next = log.log_start_offset();
    loop {
        let mut bytes = chunk(log, next)?;
        if bytes.is_empty() {
            let mut inner = shard.inner.lock();
            if !log
                .read_range(next, CHUNK_BYTES, ReadLimit::End)?
                .is_empty()
            {
                continue;
            }
            let Inner {
                machine, effects, ..
            } = &mut *inner;
            machine.finish_loading(state.now_ms(), effects);
            let _ = shard.loaded.set(());
            return Ok(());
        }
        // The last batch of a chunk may be cut short: the next chunk begins with it.
        while let Some(batch) = Batch::split_first(&mut bytes).map_err(StorageError::from)? {
            next = batch.header().last_offset() + 1;
            batch.verify_crc().map_err(StorageError::from)?;
            let machine = &mut shard.inner.lock().machine;
            read_batch(&batch, &mut |stored| {
                K::apply(machine, &shard.partition, stored);
            })
            .map_err(StorageError::from)?;
        }
    }
}

fn chunk(log: &Log, from: i64) -> Result<Bytes, StorageError> {
    let slice = log.read_range(from, CHUNK_BYTES, ReadLimit::End)?;
    if slice.is_empty() {
        return Ok(Bytes::new());
    }
    slice.to_bytes().map_err(|source| StorageError::Io {
        operation: "read",
        path: log.dir().to_path_buf(),
        source,
    })
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
