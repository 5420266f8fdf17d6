//! The limits and delays a coordinator works with. Names and defaults are Kafka's broker settings
//! unless the comment says otherwise.

use crate::modern::Assignor;

/// Settings of one [`crate::GroupCoordinator`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`: a shorter session is refused.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: a longer session is refused.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members after
    /// the first one. 0 completes the first rebalance at once.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members of one group.
    pub max_group_size: usize,
    /// `dlog.group.heartbeat.max.wait.ms`: how long the answer to a heartbeat may wait for a rebalance. Ours: Kafka
    /// answers at once. 0 does, too.
    pub heartbeat_max_wait_ms: i32,
    /// How long a new member may stay without an answer to its first join before it is given up
    /// (Kafka's constant, 5 minutes): such a member cannot send heartbeats yet.
    pub new_member_join_timeout_ms: i32,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`: from the end of one expiry sweep to the next.
    pub offsets_retention_check_interval_ms: i64,
    /// `offset.metadata.max.bytes`: the free text that a commit may carry.
    pub offset_metadata_max_bytes: usize,
    /// Members of one group that were given an id and have not come back with it. Ours: Kafka
    /// leaves their number open.
    pub max_pending_members: usize,
    /// Protocol metadata, or assignment, of one member in bytes. Ours: Kafka bounds it only by the
    /// size of a request.
    pub max_member_bytes: usize,
    /// Protocols (assignors) one member may offer. Ours.
    pub max_protocols: usize,
    /// Groups of one coordinator. Ours: a new group beyond it is refused.
    pub max_groups: usize,
    /// Groups of the new protocol.
    pub consumer: ConsumerConfig,
    /// Share groups.
    pub share: ShareConfig,
}

/// Settings of consumer groups of the new protocol (KIP-848).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// `group.consumer.max.size`: members of one group.
    pub max_size: usize,
    /// `group.consumer.assignors`, the first one for groups whose members have no wish.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`.
    pub migration: MigrationPolicy,
    /// What holds for a group that has no settings of its own.
    pub defaults: ConsumerSettings,
    /// Topics matched by a regular expression are looked for at least this often, in ms:
    /// `group.consumer.regex.refresh.interval.ms`.
    pub regex_refresh_interval_ms: i64,
    /// At most this often when topics come and go, in ms. Ours.
    pub regex_refresh_min_interval_ms: i64,
    /// How often a member is told to send heartbeats that waits for partitions, or whose group
    /// waits for its next assignment, in ms, unless the group's own interval is shorter. Ours:
    /// rebalances end sooner.
    pub hurried_heartbeat_interval_ms: i32,
    /// Topics that one member may ask for by name. Ours.
    pub max_subscribed_topics: usize,
    /// Bytes of a regular expression. Ours.
    pub max_regex_bytes: usize,
    /// Classic members of one group that were given an id and have not come back with it. Ours.
    pub max_pending_members: usize,
}

/// Settings that each consumer group may have of its own (KIP-848, the GROUP resource).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// `consumer.session.timeout.ms`: a member that is silent for this long is gone.
    pub session_timeout_ms: i32,
    /// `consumer.heartbeat.interval.ms`: how often members are told to send heartbeats.
    pub heartbeat_interval_ms: i32,
    /// `consumer.assignment.interval.ms`: least time between two target assignments (KIP-1263).
    pub assignment_interval_ms: i32,
}

/// Settings of share groups (KIP-932).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareConfig {
    /// `group.share.max.size`: members of one group.
    pub max_size: usize,
    /// What holds for a group that has no settings of its own.
    pub defaults: ShareSettings,
    /// `group.share.initialize.retry.interval.ms`: whoever was asked to set up the state of
    /// share-partitions is asked again after this time.
    pub initialize_retry_interval_ms: i64,
}

/// Settings that each share group may have of its own (KIP-932, the GROUP resource).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareSettings {
    /// `share.session.timeout.ms`: a member that is silent for this long is gone.
    pub session_timeout_ms: i32,
    /// `share.heartbeat.interval.ms`: how often members are told to send heartbeats.
    pub heartbeat_interval_ms: i32,
    /// `share.assignment.interval.ms`: least time between two target assignments of a large group
    /// (KIP-1263).
    pub assignment_interval_ms: i32,
}

/// Which way a group may go between the classic and the new protocol while it has members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MigrationPolicy {
    /// Both ways.
    Bidirectional,
    /// To the new protocol only.
    Upgrade,
    /// To the classic protocol only.
    Downgrade,
    /// Not at all.
    Disabled,
}

impl MigrationPolicy {
    /// The policy of this name, whatever the case.
    pub fn find(name: &str) -> Option<Self> {
        let names = [
            ("bidirectional", Self::Bidirectional),
            ("upgrade", Self::Upgrade),
            ("downgrade", Self::Downgrade),
            ("disabled", Self::Disabled),
        ];
        let found = names
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, policy)| policy)
    }

    pub(crate) fn upgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    pub(crate) fn downgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

impl Default for ShareConfig {
    fn default() -> Self {
        Self {
            max_size: 200,
            defaults: ShareSettings {
                session_timeout_ms: 45_000,
                heartbeat_interval_ms: 5_000,
                assignment_interval_ms: 1_000,
            },
            initialize_retry_interval_ms: 30_000,
        }
    }
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            max_size: usize::MAX,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: MigrationPolicy::Bidirectional,
            defaults: ConsumerSettings {
                session_timeout_ms: 45_000,
                heartbeat_interval_ms: 5_000,
                assignment_interval_ms: 1_000,
            },
            regex_refresh_interval_ms: 600_000,
            regex_refresh_min_interval_ms: 1_000,
            hurried_heartbeat_interval_ms: 500,
            max_subscribed_topics: 100_000,
            max_regex_bytes: 8_192,
            max_pending_members: 10_000,
        }
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_group_size: usize::MAX,
            heartbeat_max_wait_ms: 3_000,
            new_member_join_timeout_ms: 300_000,
            offsets_retention_ms: 7 * 24 * 3_600 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
            offset_metadata_max_bytes: 4_096,
            max_pending_members: 10_000,
            max_member_bytes: 1 << 20,
            max_protocols: 100,
            max_groups: 1_000_000,
            consumer: ConsumerConfig::default(),
            share: ShareConfig::default(),
        }
    }
}
