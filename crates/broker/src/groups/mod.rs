//! The shell around the group state machine: callers that wait, writes to `__consumer_offsets`, time.
//!
//! Groups are spread over the partitions of `__consumer_offsets` by the hash that Kafka uses; each
//! partition has its own coordinator behind its own lock. A step takes the lock, runs the pure core,
//! appends what must be written (so that records are in the order of decisions), and releases it; what
//! depends on the write goes on when the append is acknowledged. The topic is created, and read, when
//! groups are first asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dlog_groups::{
    Applied, Effect, GroupConfig, GroupCoordinator, GroupError, GroupRecord, PersistError, Reply,
    Token, WriteId, partition_for_group,
};
use dlog_metadata::configs;
use dlog_storage::record::{BatchBuilder, RecordError};
use dlog_storage::{AppendMode, StorageError};
use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, oneshot};

use crate::partitions::Partition;
use crate::state::BrokerState;
use crate::topics::{NewTopic, TopicError};

/// Name of the topic that groups are kept in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Largest batch of records written at once, in bytes.
const MAX_BATCH_BYTES: usize = 512 << 10;

/// The groups are looked at this often even when none of them asks for it, in ms.
const LONGEST_SLEEP_MS: i64 = 600_000;

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
    coordinator: GroupCoordinator,
    callers: HashMap<Token, oneshot::Sender<Reply>>,
    next_token: Token,
    /// Of loading, carried out with the first step.
    effects: Vec<Effect>,
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
    ) -> Result<Arc<Shard>, GroupError> {
        let shards = self.all(state).await?;
        let count = u32::try_from(shards.len()).unwrap_or(u32::MAX);
        Ok(shards[partition_for_group(group_id, count) as usize].clone())
    }

    /// Reads the groups, if there are any, before somebody asks for one.
    pub async fn warm_up(&self, state: &Arc<BrokerState>) {
        if state.partitions.topic(OFFSETS_TOPIC).is_some() {
            // Whoever asks next tries again, and hears of the error.
            let _ = self.all(state).await;
        }
    }

    /// All shards.
    ///
    /// # Errors
    /// As [`Groups::shard`].
    pub async fn all(&self, state: &Arc<BrokerState>) -> Result<&[Arc<Shard>], GroupError> {
        let opened = self
            .shards
            .get_or_try_init(|| async {
                let loading = state.clone();
                let loaded = tokio::task::spawn_blocking(move || load(&loading)).await;
                let shards = loaded
                    .map_err(|_| GroupError::CoordinatorNotAvailable)?
                    .map_err(|error| {
                        tracing::error!(%error, "the offsets topic cannot be used");
                        GroupError::CoordinatorNotAvailable
                    })?;
                tokio::spawn(keep_time(state.clone()));
                Ok::<_, GroupError>(shards)
            })
            .await?;
        Ok(opened)
    }
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
    let count = |name: &str, default: usize| {
        usize::try_from(number(name, i64::try_from(default).unwrap_or(i64::MAX))).unwrap_or(default)
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
        initial_rebalance_delay_ms: ms(
            "group.initial.rebalance.delay.ms",
            defaults.initial_rebalance_delay_ms,
        ),
        max_group_size: count("group.max.size", defaults.max_group_size),
        offsets_retention_ms: number("offsets.retention.minutes", 10_080).saturating_mul(60_000),
        offsets_retention_check_interval_ms: number(
            "offsets.retention.check.interval.ms",
            defaults.offsets_retention_check_interval_ms,
        ),
        offset_metadata_max_bytes: count(
            "offset.metadata.max.bytes",
            defaults.offset_metadata_max_bytes,
        ),
        ..defaults
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
    let mut coordinator = GroupCoordinator::new(config.clone());
    let failed = |error: StorageError| {
        TopicError::new(ResponseError::CoordinatorNotAvailable, error.to_string())
    };
    // A partition that is offline answers every write with an error; its groups start anew.
    if let Ok(log) = partition.log() {
        for record in log.read(log.log_start_offset()).map_err(failed)? {
            let record = record.map_err(failed)?;
            let key = record.key.unwrap_or_default();
            match coordinator.apply_record(&key, record.value.as_deref()) {
                Ok(Applied::Yes) => {}
                Ok(Applied::OtherKind(kind)) => {
                    tracing::debug!(
                        partition = partition.index,
                        offset = record.offset,
                        kind,
                        "a record of another kind of group is left alone"
                    );
                }
                Err(error) => {
                    tracing::warn!(partition = partition.index, offset = record.offset, %error, "a record of the offsets topic is skipped");
                }
            }
        }
    }
    let mut effects = Vec::new();
    coordinator.finish_loading(state.now_ms(), &mut effects);
    let inner = Inner {
        coordinator,
        callers: HashMap::new(),
        next_token: 0,
        effects,
    };
    Ok(Arc::new(Shard {
        partition: partition.clone(),
        inner: Mutex::new(inner),
    }))
}

impl Shard {
    /// Looks at the groups.
    pub fn read<T>(&self, f: impl FnOnce(&GroupCoordinator) -> T) -> T {
        f(&self.inner.lock().coordinator)
    }

    /// Runs a step whose answer comes at once.
    pub fn step<T>(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        f: impl FnOnce(&mut GroupCoordinator, i64, &mut Vec<Effect>) -> T,
    ) -> T {
        let mut inner = self.inner.lock();
        let before_ms = inner.coordinator.next_deadline_ms();
        let mut effects = std::mem::take(&mut inner.effects);
        let result = f(&mut inner.coordinator, state.now_ms(), &mut effects);
        self.carry_out(state, &mut inner, effects);
        let after_ms = inner.coordinator.next_deadline_ms();
        drop(inner);
        if after_ms.is_some_and(|after| before_ms.is_none_or(|before| after < before)) {
            state.groups.sooner.notify_one();
        }
        result
    }

    /// Runs a step whose answer comes later.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` when the server stops first.
    pub async fn ask(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        f: impl FnOnce(&mut GroupCoordinator, i64, Token, &mut Vec<Effect>),
    ) -> Result<Reply, GroupError> {
        let (caller, answer) = oneshot::channel();
        let token = {
            let mut inner = self.inner.lock();
            inner.next_token += 1;
            let token = inner.next_token;
            inner.callers.insert(token, caller);
            token
        };
        self.step(state, |groups, now_ms, effects| {
            f(groups, now_ms, token, effects);
        });
        let stopped = GroupError::CoordinatorNotAvailable;
        tokio::select! {
            answer = answer => answer.map_err(|_| stopped),
            () = state.stopping.cancelled() => Err(stopped),
        }
    }

    /// Does what the core asked for; what that leads to, too.
    fn carry_out(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        inner: &mut Inner,
        mut effects: Vec<Effect>,
    ) {
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Reply { token, reply } => {
                        // A caller that went away needs no answer.
                        if let Some(caller) = inner.callers.remove(&token) {
                            let _ = caller.send(reply);
                        }
                    }
                    Effect::Persist { write, records } => {
                        if let Some(result) = self.write(state, write, &records) {
                            inner.coordinator.persisted(
                                state.now_ms(),
                                write,
                                result,
                                &mut effects,
                            );
                        }
                    }
                }
            }
        }
    }

    /// Appends records. `None` when the write has still to be acknowledged: the core hears later.
    fn write(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        write: WriteId,
        records: &[GroupRecord],
    ) -> Option<Result<(), PersistError>> {
        let acknowledged = match self.append(records, state.now_ms()) {
            Ok(acknowledged) if acknowledged.is_ready() => return Some(Ok(())),
            Ok(acknowledged) => acknowledged,
            Err(error) => return Some(Err(error)),
        };
        let (shard, state) = (self.clone(), state.clone());
        tokio::spawn(async move {
            let result = acknowledged.await.map_err(|error| {
                tracing::error!(partition = shard.partition.index, %error, "group state was not written");
                PersistError::Failed
            });
            shard.step(&state, |groups, now_ms, effects| {
                groups.persisted(now_ms, write, result, effects);
            });
        });
        None
    }

    fn append(
        &self,
        records: &[GroupRecord],
        now_ms: i64,
    ) -> Result<dlog_storage::Acknowledged, PersistError> {
        let log = self
            .partition
            .log()
            .map_err(|_| PersistError::Unavailable)?;
        let mode = AppendMode::Leader {
            leader_epoch: self.partition.leader_epoch(),
            log_append_time: None,
        };
        let mut last_offset = -1;
        for batch in batches(records, now_ms)? {
            let appended = log.append_batches(batch, mode).map_err(|error| {
                tracing::error!(partition = self.partition.index, %error, "group state cannot be written");
                match error {
                    StorageError::TooLarge { .. } => PersistError::TooLarge,
                    _ => PersistError::Unavailable,
                }
            })?;
            last_offset = appended.last_offset;
        }
        Ok(log.acknowledged(last_offset))
    }
}

/// Records as batches: one, unless many tombstones would make it too large.
fn batches(records: &[GroupRecord], now_ms: i64) -> Result<Vec<Bytes>, PersistError> {
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

/// Lets time pass for all groups until the server stops.
async fn keep_time(state: Arc<BrokerState>) {
    loop {
        let Some(shards) = state.groups.shards.get() else {
            // The cell is filled right after this task was started.
            tokio::task::yield_now().await;
            continue;
        };
        let now_ms = state.now_ms();
        let mut next_ms = now_ms + LONGEST_SLEEP_MS;
        for shard in shards {
            let due = shard.read(GroupCoordinator::next_deadline_ms);
            if due.is_some_and(|due| due <= now_ms) {
                shard.step(&state, |groups, now_ms, effects| {
                    groups.tick(now_ms, effects);
                });
            }
            next_ms = next_ms.min(
                shard
                    .read(GroupCoordinator::next_deadline_ms)
                    .unwrap_or(i64::MAX),
            );
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
