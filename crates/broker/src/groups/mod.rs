//! The shell around the group state machine: callers that wait, writes to `__consumer_offsets`, time.
//!
//! Groups are spread over the partitions of `__consumer_offsets` by the hash that Kafka uses; each
//! partition has its own coordinator behind its own lock. A step takes the lock, runs the pure core,
//! appends what must be written (so that records are in the order of decisions), and releases it; what
//! depends on the write goes on when the append is acknowledged. The topic is created, and read, when
//! groups are first asked for.

pub mod machine;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dlog_metadata::configs;
use dlog_storage::record::BatchBuilder;
use dlog_storage::{AppendMode, StorageError};
use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, oneshot};

use self::machine::api::OffsetsRecord;
use self::machine::{Coordinator, Effect, GroupConfig, Reply, Token};
use crate::partitions::Partition;
use crate::state::BrokerState;
use crate::topics::{NewTopic, TopicError};

/// Name of the topic that groups are kept in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Largest batch of records written at once, in bytes.
const MAX_BATCH_BYTES: usize = 512 << 10;

/// How often expired offsets are looked for.
const EXPIRY_CHECK_MS: i64 = 600_000;

/// The groups of this node.
#[derive(Default)]
pub struct Groups {
    shards: OnceCell<Vec<Arc<Shard>>>,
    /// Notified when a deadline may have come nearer.
    sooner: Notify,
}

/// The groups of one partition of the offsets topic.
pub struct Shard {
    partition: Arc<Partition>,
    inner: Mutex<Inner>,
}

struct Inner {
    coordinator: Coordinator,
    callers: HashMap<Token, oneshot::Sender<Reply>>,
    next_token: Token,
}

impl Groups {
    /// The shard that a group belongs to. Creates and reads the offsets topic the first time.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` when the topic cannot be created or read.
    pub async fn shard(
        &self,
        state: &Arc<BrokerState>,
        group_id: &str,
    ) -> Result<Arc<Shard>, ResponseError> {
        let shards = self.all(state).await?;
        Ok(shards[shard_index(group_id, shards.len())].clone())
    }

    /// All shards.
    ///
    /// # Errors
    /// As [`Groups::shard`].
    pub async fn all(&self, state: &Arc<BrokerState>) -> Result<&[Arc<Shard>], ResponseError> {
        let opened = self
            .shards
            .get_or_try_init(|| async {
                let loading = state.clone();
                let loaded = tokio::task::spawn_blocking(move || load(&loading)).await;
                let shards = loaded
                    .map_err(|_| ResponseError::CoordinatorNotAvailable)?
                    .map_err(|error| {
                        tracing::error!(%error, "the offsets topic cannot be used");
                        ResponseError::CoordinatorNotAvailable
                    })?;
                tokio::spawn(keep_time(state.clone()));
                Ok::<_, ResponseError>(shards)
            })
            .await?;
        Ok(opened)
    }
}

/// Which partition of the offsets topic a group is kept in: Kafka's `abs(hashCode) % partitions`.
fn shard_index(group_id: &str, shards: usize) -> usize {
    let hash = group_id.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka's abs clears the sign of i32::MIN instead of overflowing.
    let positive = if hash == i32::MIN {
        0
    } else {
        hash.unsigned_abs()
    };
    positive as usize % shards.max(1)
}

/// The settings of groups, as the server was given them.
fn group_config(state: &BrokerState) -> GroupConfig {
    let image = state.image();
    let number = |name: &str, default: i64| {
        let def = configs::broker::find(name);
        let resolved = def
            .map(|def| configs::resolve_broker(def, &image, Some(state.node_id()), &state.statics));
        resolved
            .and_then(|r| r.value().and_then(|value| value.parse().ok()))
            .unwrap_or(default)
    };
    let ms = |name: &str, default: i32| {
        i32::try_from(number(name, i64::from(default))).unwrap_or(default)
    };
    let defaults = GroupConfig::default();
    GroupConfig {
        min_session_timeout_ms: ms(
            "group.min.session.timeout.ms",
            defaults.min_session_timeout_ms,
        ),
        max_session_timeout_ms: ms(
            "group.max.session.timeout.ms",
            defaults.max_session_timeout_ms,
        ),
        max_size: usize::try_from(number("group.max.size", i64::from(i32::MAX)))
            .unwrap_or(defaults.max_size),
        initial_rebalance_delay_ms: number(
            "group.initial.rebalance.delay.ms",
            defaults.initial_rebalance_delay_ms,
        ),
        offsets_retention_ms: number("offsets.retention.minutes", 10_080).saturating_mul(60_000),
        max_offset_metadata_bytes: usize::try_from(number("offset.metadata.max.bytes", 4096))
            .unwrap_or(4096),
    }
}

/// Creates the offsets topic when it is missing, and reads it.
fn load(state: &Arc<BrokerState>) -> Result<Vec<Arc<Shard>>, TopicError> {
    let partitions = state
        .statics
        .get("offsets.topic.num.partitions")
        .and_then(|n| n.parse().ok())
        .unwrap_or(50);
    if state.partitions.topic(OFFSETS_TOPIC).is_none() {
        let config = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let new = NewTopic {
            name: OFFSETS_TOPIC.to_owned(),
            partitions,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: vec![
                config("cleanup.policy", "compact"),
                config("compression.type", "producer"),
                config("segment.bytes", "104857600"),
            ],
        };
        match state.create_topic(&new, false) {
            Ok(_) => {}
            Err(error) if error.code == ResponseError::TopicAlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let unusable = || {
        TopicError::new(
            ResponseError::CoordinatorNotAvailable,
            "the offsets topic is not hosted here",
        )
    };
    let hosted = state.partitions.topic(OFFSETS_TOPIC).ok_or_else(unusable)?;
    let config = group_config(state);
    hosted
        .partitions
        .iter()
        .map(|partition| load_shard(state, partition, &config))
        .collect()
}

fn load_shard(
    state: &BrokerState,
    partition: &Arc<Partition>,
    config: &GroupConfig,
) -> Result<Arc<Shard>, TopicError> {
    let mut coordinator = Coordinator::new(config.clone());
    let failed = |error: StorageError| {
        TopicError::new(ResponseError::CoordinatorNotAvailable, error.to_string())
    };
    // A partition that is offline answers every write with an error; its groups start anew.
    if let Ok(log) = partition.log() {
        let now_ms = state.now_ms();
        for record in log.read(log.log_start_offset()).map_err(failed)? {
            let record = record.map_err(failed)?;
            let key = record.key.unwrap_or_default();
            if let Err(error) = coordinator.apply_record(&key, record.value.as_deref(), now_ms) {
                tracing::warn!(partition = partition.index, offset = record.offset, %error, "a record of the offsets topic is skipped");
            }
        }
        coordinator.finish_loading();
    }
    let inner = Inner {
        coordinator,
        callers: HashMap::new(),
        next_token: 0,
    };
    Ok(Arc::new(Shard {
        partition: partition.clone(),
        inner: Mutex::new(inner),
    }))
}

impl Shard {
    /// Looks at the groups.
    pub fn read<T>(&self, f: impl FnOnce(&Coordinator) -> T) -> T {
        f(&self.inner.lock().coordinator)
    }

    /// Runs a step whose answer comes at once.
    pub fn step<T>(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        f: impl FnOnce(&mut Coordinator) -> T,
    ) -> T {
        let mut inner = self.inner.lock();
        let result = f(&mut inner.coordinator);
        self.carry_out(state, &mut inner);
        drop(inner);
        state.groups.sooner.notify_one();
        result
    }

    /// Runs a step whose answer comes later; `None` when the server stops first.
    pub async fn ask(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        f: impl FnOnce(&mut Coordinator, Token),
    ) -> Option<Reply> {
        let answer = {
            let mut inner = self.inner.lock();
            inner.next_token += 1;
            let token = inner.next_token;
            let (caller, answer) = oneshot::channel();
            inner.callers.insert(token, caller);
            f(&mut inner.coordinator, token);
            self.carry_out(state, &mut inner);
            answer
        };
        state.groups.sooner.notify_one();
        tokio::select! {
            answer = answer => answer.ok(),
            () = state.stopping.cancelled() => None,
        }
    }

    /// Does what the core asked for.
    fn carry_out(self: &Arc<Self>, state: &Arc<BrokerState>, inner: &mut Inner) {
        loop {
            let effects = inner.coordinator.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Reply(token, reply) => {
                        // A caller that went away needs no answer.
                        if let Some(caller) = inner.callers.remove(&token) {
                            let _ = caller.send(reply);
                        }
                    }
                    Effect::Persist { id, records } => self.write(state, inner, id, &records),
                }
            }
        }
    }

    /// Appends records; the core hears about it when they are acknowledged.
    fn write(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        inner: &mut Inner,
        id: u64,
        records: &[OffsetsRecord],
    ) {
        let now_ms = state.now_ms();
        let appended = self.append(records, now_ms);
        match appended {
            Ok(acknowledged) if !acknowledged.is_ready() => {
                let (shard, state) = (self.clone(), state.clone());
                tokio::spawn(async move {
                    let result = acknowledged.await;
                    if let Err(error) = &result {
                        tracing::error!(partition = shard.partition.index, %error, "group state was not written");
                    }
                    let now_ms = state.now_ms();
                    shard.step(&state, |coordinator| {
                        coordinator.persisted(id, result.is_ok(), now_ms);
                    });
                });
            }
            Ok(_) => inner.coordinator.persisted(id, true, now_ms),
            Err(error) => {
                tracing::error!(partition = self.partition.index, %error, "group state cannot be written");
                inner.coordinator.persisted(id, false, now_ms);
            }
        }
    }

    fn append(
        &self,
        records: &[OffsetsRecord],
        now_ms: i64,
    ) -> Result<dlog_storage::Acknowledged, String> {
        let log = self.partition.log().map_err(|error| error.to_string())?;
        let mode = AppendMode::Leader {
            leader_epoch: self.partition.leader_epoch(),
            log_append_time: None,
        };
        let mut last_offset = -1;
        for batch in batches(records, now_ms)? {
            last_offset = log
                .append_batches(batch, mode)
                .map_err(|error| error.to_string())?
                .last_offset;
        }
        Ok(log.acknowledged(last_offset))
    }
}

/// Records as batches of bounded size.
fn batches(records: &[OffsetsRecord], now_ms: i64) -> Result<Vec<Bytes>, String> {
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        let bytes = key.len() + value.as_ref().map_or(0, Vec::len);
        if !builder.is_empty() && builder.estimated_bytes() + bytes > MAX_BATCH_BYTES {
            let full = std::mem::replace(&mut builder, BatchBuilder::new());
            batches.push(full.build().map_err(|error| error.to_string())?);
        }
        builder
            .push(now_ms, Some(key), value.as_deref(), &[])
            .map_err(|error| error.to_string())?;
    }
    if !builder.is_empty() {
        batches.push(builder.build().map_err(|error| error.to_string())?);
    }
    Ok(batches)
}

/// Lets time pass for all groups until the server stops.
async fn keep_time(state: Arc<BrokerState>) {
    let mut next_expiry_ms = state.now_ms() + EXPIRY_CHECK_MS;
    loop {
        let Some(shards) = state.groups.shards.get() else {
            // The cell is filled right after this task was started.
            tokio::task::yield_now().await;
            continue;
        };
        let now_ms = state.now_ms();
        let expire = now_ms >= next_expiry_ms;
        if expire {
            next_expiry_ms = now_ms + EXPIRY_CHECK_MS;
        }
        let mut next_ms = next_expiry_ms;
        for shard in shards {
            let mut inner = shard.inner.lock();
            inner.coordinator.tick(now_ms);
            if expire {
                inner.coordinator.expire_offsets(now_ms);
            }
            shard.carry_out(&state, &mut inner);
            next_ms = next_ms.min(inner.coordinator.next_deadline_ms().unwrap_or(i64::MAX));
        }
        let wait =
            Duration::from_millis(u64::try_from(next_ms - state.now_ms()).unwrap_or(0).max(1));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = state.groups.sooner.notified() => {}
            () = state.stopping.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shard_index;

    #[test]
    fn groups_are_spread_as_in_kafka() {
        // `Math.abs("my-group".hashCode()) % 50` and others, from a JVM.
        assert_eq!(shard_index("", 50), 0);
        assert_eq!(shard_index("a", 50), 47);
        assert_eq!(
            shard_index("polygenelubricants", 50),
            0,
            "its hash code is the smallest integer"
        );
    }
}
