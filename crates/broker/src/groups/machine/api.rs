//! Requests, answers and settings, without any wire format.

use bytes::Bytes;

use crate::groups::machine::GroupError;

/// Names a caller that waits for an answer.
pub type Token = u64;

/// Bounds and delays; defaults are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Shortest session timeout, in ms (`group.min.session.timeout.ms`).
    pub min_session_timeout_ms: i32,
    /// Longest session timeout, in ms (`group.max.session.timeout.ms`).
    pub max_session_timeout_ms: i32,
    /// Most members of a group (`group.max.size`).
    pub max_size: usize,
    /// How long the first rebalance of an empty group waits for more members, in ms.
    pub initial_rebalance_delay_ms: i64,
    /// How long offsets of an empty group are kept, in ms (`offsets.retention.minutes`).
    pub offsets_retention_ms: i64,
    /// Longest metadata of a committed offset, in bytes (`offset.metadata.max.bytes`).
    pub max_offset_metadata_bytes: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: i32::MAX as usize,
            initial_rebalance_delay_ms: 3_000,
            offsets_retention_ms: 7 * 24 * 3600 * 1000,
            max_offset_metadata_bytes: 4096,
        }
    }
}

/// A member wants to take part in the next generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Join {
    /// Group.
    pub group_id: String,
    /// Member id, empty at first.
    pub member_id: String,
    /// Static instance id (KIP-345).
    pub instance_id: Option<String>,
    /// Client id, shown by tools.
    pub client_id: String,
    /// Client address, shown by tools.
    pub client_host: String,
    /// Without a sign of life for this long the member is removed, in ms.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for the member, in ms.
    pub rebalance_timeout_ms: i32,
    /// Kind of protocol, `consumer` for consumers.
    pub protocol_type: String,
    /// Supported protocols with the member's metadata, the preferred one first.
    pub protocols: Vec<(String, Bytes)>,
    /// Whether a new member is sent away with an id first (JoinGroup v4 on, KIP-394).
    pub member_id_required: bool,
    /// Whether the client understands `skip_assignment` (JoinGroup v9 on, KIP-814).
    pub knows_skip_assignment: bool,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Member id.
    pub member_id: String,
    /// Static instance id.
    pub instance_id: Option<String>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to [`Join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Why the member is not part of a generation.
    pub error: Option<GroupError>,
    /// Generation, -1 without one.
    pub generation: i32,
    /// Kind of protocol.
    pub protocol_type: Option<String>,
    /// Chosen protocol.
    pub protocol: Option<String>,
    /// Member id of the leader.
    pub leader: String,
    /// The leader of an unchanged group need not assign again (KIP-814).
    pub skip_assignment: bool,
    /// Member id of the one who joined.
    pub member_id: String,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

impl Joined {
    pub(crate) fn refused(error: GroupError, member_id: &str) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

/// A member asks for its assignment; the leader brings everybody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sync {
    /// Group.
    pub group_id: String,
    /// Generation.
    pub generation: i32,
    /// Member id.
    pub member_id: String,
    /// Static instance id.
    pub instance_id: Option<String>,
    /// Kind of protocol, checked when given.
    pub protocol_type: Option<String>,
    /// Protocol, checked when given.
    pub protocol: Option<String>,
    /// From the leader: assignment by member id.
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer to [`Sync`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Why there is no assignment.
    pub error: Option<GroupError>,
    /// Kind of protocol.
    pub protocol_type: Option<String>,
    /// Protocol.
    pub protocol: Option<String>,
    /// The member's assignment.
    pub assignment: Bytes,
}

impl Synced {
    pub(crate) fn refused(error: GroupError) -> Self {
        Self {
            error: Some(error),
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}

/// Who commits, heartbeats or leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Group.
    pub group_id: String,
    /// Generation, -1 for a consumer that is no member.
    pub generation: i32,
    /// Member id.
    pub member_id: String,
    /// Static instance id.
    pub instance_id: Option<String>,
}

/// One offset to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset of the next record to read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 when unknown.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: String,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Offset of the next record to read.
    pub offset: i64,
    /// Leader epoch, -1 when unknown.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: String,
    /// When it was committed, Unix ms.
    pub commit_timestamp_ms: i64,
    /// When the committer wants it forgotten (only old clients say), Unix ms.
    pub expire_timestamp_ms: Option<i64>,
}

/// State of a group, with Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// No members; offsets may be there.
    Empty,
    /// Members are being collected.
    PreparingRebalance,
    /// The leader's assignment is awaited.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
    /// Gone.
    Dead,
}

impl GroupState {
    /// The name that tools show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Group id.
    pub group_id: String,
    /// Kind of protocol, empty for a group that only commits.
    pub protocol_type: String,
    /// State.
    pub state: GroupState,
}

/// A group in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// State.
    pub state: GroupState,
    /// Kind of protocol.
    pub protocol_type: String,
    /// Chosen protocol, empty without one.
    pub protocol: String,
    /// Members.
    pub members: Vec<MemberDescription>,
}

/// A member in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Member id.
    pub member_id: String,
    /// Static instance id.
    pub instance_id: Option<String>,
    /// Client id.
    pub client_id: String,
    /// Client address.
    pub client_host: String,
    /// Metadata for the chosen protocol.
    pub metadata: Bytes,
    /// Assignment.
    pub assignment: Bytes,
}

/// Result of committing one offset.
pub type CommitResult = Vec<(String, i32, Option<GroupError>)>;

/// An answer to somebody who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a join.
    Join(Joined),
    /// To a sync.
    Sync(Synced),
    /// To an offset commit.
    Commit(CommitResult),
    /// To a deletion of a group or of offsets.
    Deleted(Option<GroupError>),
}

/// A record of `__consumer_offsets`: key, and value or tombstone.
pub type OffsetsRecord = (Vec<u8>, Option<Vec<u8>>);

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer somebody.
    Reply(Token, Reply),
    /// Append records to the group's partition of `__consumer_offsets`, then call
    /// [`crate::groups::machine::Coordinator::persisted`] with the id and whether they are acknowledged.
    Persist {
        /// Names the write.
        id: u64,
        /// The records, in order.
        records: Vec<OffsetsRecord>,
    },
}
