//! The limits and delays a coordinator works with. Names and defaults are Kafka's broker settings
//! unless the comment says otherwise.

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
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_group_size: usize::MAX,
            new_member_join_timeout_ms: 300_000,
            offsets_retention_ms: 7 * 24 * 3_600 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
            offset_metadata_max_bytes: 4_096,
            max_pending_members: 10_000,
            max_member_bytes: 1 << 20,
            max_protocols: 100,
            max_groups: 1_000_000,
        }
    }
}
