//! Groups in the server: what the common shell ([`crate::coordinator`]) has to know of them.

mod topics;

use std::convert::Infallible;
use std::sync::Arc;

use dlog_groups::{
    Applied, Assignor, ConsumerConfig, ConsumerSettings, GroupConfig, GroupCoordinator, GroupError,
    MigrationPolicy,
};
use dlog_metadata::{MetadataImage, configs};

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
        let Stored::Record {
            offset, key, value, ..
        } = stored
        else {
            return;
        };
        let partition = partition.index;
        match groups.apply_record(key, value) {
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

/// Settings of the server by name.
struct Settings<'a> {
    state: &'a BrokerState,
    image: Arc<MetadataImage>,
}

impl Settings<'_> {
    fn text(&self, name: &str) -> Option<String> {
        let def = configs::broker::find(name)?;
        let node_id = Some(self.state.node_id());
        let resolved = configs::resolve_broker(def, &self.image, node_id, &self.state.statics);
        resolved.value().map(str::to_owned)
    }

    fn number(&self, name: &str, default: i64) -> i64 {
        let value = self.text(name).and_then(|value| value.trim().parse().ok());
        value.unwrap_or(default)
    }

    fn ms(&self, name: &str, default: i32) -> i32 {
        i32::try_from(self.number(name, i64::from(default))).unwrap_or(default)
    }

    fn count(&self, name: &str, default: usize) -> usize {
        let most = i64::try_from(default).unwrap_or(i64::MAX);
        usize::try_from(self.number(name, most)).unwrap_or(default)
    }
}

/// The settings of groups, as the server was given them.
fn group_config(state: &BrokerState) -> GroupConfig {
    let settings = Settings {
        state,
        image: state.image(),
    };
    let defaults = GroupConfig::default();
    GroupConfig {
        min_session_timeout_ms: settings.ms(
            "group.min.session.timeout.ms",
            defaults.min_session_timeout_ms,
        ),
        max_session_timeout_ms: settings.ms(
            "group.max.session.timeout.ms",
            defaults.max_session_timeout_ms,
        ),
        initial_rebalance_delay_ms: settings.ms(
            "group.initial.rebalance.delay.ms",
            defaults.initial_rebalance_delay_ms,
        ),
        max_group_size: settings.count("group.max.size", defaults.max_group_size),
        offsets_retention_ms: settings
            .number("offsets.retention.minutes", 10_080)
            .saturating_mul(60_000),
        offsets_retention_check_interval_ms: settings.number(
            "offsets.retention.check.interval.ms",
            defaults.offsets_retention_check_interval_ms,
        ),
        offset_metadata_max_bytes: settings.count(
            "offset.metadata.max.bytes",
            defaults.offset_metadata_max_bytes,
        ),
        consumer: consumer_config(&settings, defaults.consumer),
        ..defaults
    }
}

fn consumer_config(settings: &Settings<'_>, defaults: ConsumerConfig) -> ConsumerConfig {
    let named = settings
        .text("group.consumer.assignors")
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
    let policy = settings.text("group.consumer.migration.policy");
    let of_groups = defaults.defaults;
    ConsumerConfig {
        max_size: settings.count("group.consumer.max.size", defaults.max_size),
        assignors,
        migration: policy
            .and_then(|name| MigrationPolicy::find(name.trim()))
            .unwrap_or(defaults.migration),
        defaults: ConsumerSettings {
            session_timeout_ms: settings.ms(
                "group.consumer.session.timeout.ms",
                of_groups.session_timeout_ms,
            ),
            heartbeat_interval_ms: settings.ms(
                "group.consumer.heartbeat.interval.ms",
                of_groups.heartbeat_interval_ms,
            ),
            assignment_interval_ms: settings.ms(
                "group.consumer.assignment.interval.ms",
                of_groups.assignment_interval_ms,
            ),
        },
        regex_refresh_interval_ms: settings.number(
            "group.consumer.regex.refresh.interval.ms",
            defaults.regex_refresh_interval_ms,
        ),
        ..defaults
    }
}
