//! Groups in the server: what the common shell ([`crate::coordinator`]) has to know of them.

mod topics;

use std::convert::Infallible;
use std::sync::Arc;

use dlog_groups::{
    Applied, Assignor, ConsumerConfig, ConsumerSettings, GroupConfig, GroupCoordinator, GroupError,
    MigrationPolicy, ShareConfig,
};

use crate::coordinator::{self, Coordinators, Kind, Stored};
use crate::partitions::Partition;
use crate::state::BrokerState;
use crate::topics::NewTopic;

/// Name of the topic that groups are kept in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Coordinators of groups.
pub struct GroupKind;

/// The groups of this node.
pub type Groups = Coordinators<GroupKind>;

/// The groups of one partition of the offsets topic.
pub type Shard = coordinator::Shard<GroupKind>;

impl Kind for GroupKind {
    type Machine = GroupCoordinator;
    type Error = GroupError;
    type Extra = topics::Seen;

    const TOPIC: &'static str = OFFSETS_TOPIC;
    const UNAVAILABLE: GroupError = GroupError::CoordinatorNotAvailable;

    fn new_topic(state: &BrokerState) -> NewTopic {
        let partitions = state.statics.get("offsets.topic.num.partitions");
        let config = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        NewTopic {
            name: OFFSETS_TOPIC.to_owned(),
            partitions: partitions.and_then(|n| n.parse().ok()).unwrap_or(50),
            replication_factor: -1,
            assignments: Vec::new(),
            configs: vec![
                config("cleanup.policy", "compact"),
                config("compression.type", "producer"),
                config("segment.bytes", "104857600"),
            ],
        }
    }

    fn all_of(state: &BrokerState) -> &Groups {
        &state.groups
    }

    fn machine(state: &BrokerState, _: &Partition) -> GroupCoordinator {
        GroupCoordinator::new(group_config(state))
    }

    fn apply(groups: &mut GroupCoordinator, partition: &Partition, stored: Stored<'_>) {
        let partition = partition.index;
        let (offset, applied) = match stored {
            Stored::End {
                producer_id,
                committed,
            } => {
                // Only a coordinator that serves already refuses.
                let _ = groups.apply_transaction_end(producer_id, committed);
                return;
            }
            Stored::Record {
                offset,
                key,
                value,
                transaction_of: Some(producer_id),
            } => (
                offset,
                groups.apply_transactional_record(producer_id, key, value),
            ),
            Stored::Record {
                offset, key, value, ..
            } => (offset, groups.apply_record(key, value)),
        };
        match applied {
            Ok(Applied::Yes) => {}
            Ok(Applied::OtherKind(kind)) => {
                tracing::debug!(
                    partition,
                    offset,
                    kind,
                    "a record of another kind of group is left alone"
                );
            }
            Err(error) => {
                tracing::warn!(partition, offset, %error, "a record of the offsets topic is skipped");
            }
        }
    }

    fn work(_: &Arc<BrokerState>, _: &Arc<Shard>, work: Infallible) {
        match work {}
    }
}

/// The shard that a group belongs to, with the topics as they are now.
///
/// # Errors
/// `COORDINATOR_NOT_AVAILABLE` when the offsets topic cannot be created or read.
pub async fn shard_of(state: &Arc<BrokerState>, group_id: &str) -> Result<Arc<Shard>, GroupError> {
    let shard = state.groups.shard(state, group_id).await?;
    show_topics(state, &shard);
    Ok(shard)
}

/// Hands the topics to the shard, if there are others than it has seen.
pub fn show_topics(state: &Arc<BrokerState>, shard: &Arc<Shard>) {
    if let Some(topics) = shard.extra.newer(&state.image()) {
        shard.step(state, |groups, _, _| groups.set_topics(topics));
    }
}

/// Topics are deleted: what groups have committed in them is forgotten. Groups that are still being read
/// forget it afterwards.
pub fn forget_topics(state: &Arc<BrokerState>, topics: Vec<String>) {
    if topics.is_empty() {
        return;
    }
    let topics: Arc<[String]> = topics.into();
    for shard in state.groups.all_loaded() {
        let (state, shard, topics) = (state.clone(), shard.clone(), topics.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shard.is_loaded() => {}
                () = state.stopping.cancelled() => return,
            }
            shard.step(&state, |groups, now_ms, effects| {
                for topic in &*topics {
                    groups.forget_topic(now_ms, topic, effects);
                }
            });
        });
    }
}

/// The settings of one consumer group.
pub fn consumer_settings(state: &BrokerState, group_id: &str) -> ConsumerSettings {
    let image = state.image();
    let config = state.group_config(&image, group_id);
    ConsumerSettings {
        session_timeout_ms: config.number("consumer.session.timeout.ms"),
        heartbeat_interval_ms: config.number("consumer.heartbeat.interval.ms"),
        assignment_interval_ms: config.number("consumer.assignment.interval.ms"),
    }
}

/// The settings of groups, as the server was given them.
fn group_config(state: &BrokerState) -> GroupConfig {
    let defaults = GroupConfig::default();
    GroupConfig {
        min_session_timeout_ms: state.number(
            "group.min.session.timeout.ms",
            defaults.min_session_timeout_ms,
        ),
        max_session_timeout_ms: state.number(
            "group.max.session.timeout.ms",
            defaults.max_session_timeout_ms,
        ),
        initial_rebalance_delay_ms: state.number(
            "group.initial.rebalance.delay.ms",
            defaults.initial_rebalance_delay_ms,
        ),
        heartbeat_max_wait_ms: state.number(
            "dlog.group.heartbeat.max.wait.ms",
            defaults.heartbeat_max_wait_ms,
        ),
        max_group_size: state.number("group.max.size", defaults.max_group_size),
        offsets_retention_ms: state
            .number("offsets.retention.minutes", 10_080_i64)
            .saturating_mul(60_000),
        offsets_retention_check_interval_ms: state.number(
            "offsets.retention.check.interval.ms",
            defaults.offsets_retention_check_interval_ms,
        ),
        offset_metadata_max_bytes: state.number(
            "offset.metadata.max.bytes",
            defaults.offset_metadata_max_bytes,
        ),
        consumer: consumer_config(state, defaults.consumer),
        share: ShareConfig {
            max_size: state.number("group.share.max.size", defaults.share.max_size),
            ..defaults.share
        },
        ..defaults
    }
}

fn consumer_config(state: &BrokerState, defaults: ConsumerConfig) -> ConsumerConfig {
    let named = state
        .setting("group.consumer.assignors")
        .unwrap_or_default();
    let mut assignors: Vec<Assignor> = named
        .split(',')
        .filter_map(|name| {
            let found = Assignor::find(name.trim());
            if found.is_none() {
                tracing::warn!(
                    name,
                    "group.consumer.assignors names an assignor that is not known"
                );
            }
            found
        })
        .collect();
    if assignors.is_empty() {
        assignors = defaults.assignors;
    }
    let policy = state.setting("group.consumer.migration.policy");
    let of_groups = defaults.defaults;
    ConsumerConfig {
        max_size: state.number("group.consumer.max.size", defaults.max_size),
        assignors,
        migration: policy
            .and_then(|name| MigrationPolicy::find(name.trim()))
            .unwrap_or(defaults.migration),
        defaults: ConsumerSettings {
            session_timeout_ms: state.number(
                "group.consumer.session.timeout.ms",
                of_groups.session_timeout_ms,
            ),
            heartbeat_interval_ms: state.number(
                "group.consumer.heartbeat.interval.ms",
                of_groups.heartbeat_interval_ms,
            ),
            assignment_interval_ms: state.number(
                "group.consumer.assignment.interval.ms",
                of_groups.assignment_interval_ms,
            ),
        },
        regex_refresh_interval_ms: state.number(
            "group.consumer.regex.refresh.interval.ms",
            defaults.regex_refresh_interval_ms,
        ),
        ..defaults
    }
}
