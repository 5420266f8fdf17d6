//! Groups in the server: what the common shell ([`crate::coordinator`]) has to know of them.

use std::convert::Infallible;
use std::sync::Arc;

use dlog_groups::{Applied, GroupConfig, GroupCoordinator, GroupError};
use dlog_metadata::configs;

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
    type Extra = ();

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
