//! Requests, answers and effects: what goes into and comes out of a [`crate::GroupCoordinator`].
//! Names follow Kafka's messages; only what the coordinator decides on is here.

use std::sync::Arc;

use bytes::Bytes;
pub use dlog_coordination::{Producer, Record as GroupRecord, Token, TransactionMarker, WriteId};
use uuid::Uuid;

use crate::consumer::ConsumerBeat;
use crate::error::{GroupError, PersistError};
use crate::group::GroupState;
use crate::modern::Refused;
use crate::share::ShareBeat;

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer the request that came with `token`.
    Reply {
        /// The request.
        token: Token,
        /// Its answer.
        reply: Reply,
    },
    /// Append `records` to the coordinator's partition, after those of all earlier writes, then
    /// call [`crate::GroupCoordinator::persisted`] with the same id once they are durable or have
    /// failed. The records of a commit or of a group go into one batch; tombstones may be split
    /// over several, and then any failure counts for all (the deletion can be repeated).
    Persist {
        /// Names this write.
        write: WriteId,
        /// The records in order.
        records: Vec<GroupRecord>,
    },
    /// The same for records that are part of the transaction of `producer`.
    PersistInTransaction {
        /// Names this write.
        write: WriteId,
        /// The producer.
        producer: Producer,
        /// The records in order.
        records: Vec<GroupRecord>,
    },
    /// The same for the end of a transaction.
    PersistMarker {
        /// Names this write.
        write: WriteId,
        /// The end.
        marker: TransactionMarker,
    },
}

/// An answer that came later than its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To [`JoinGroup`].
    Join(Result<Joined, JoinRefused>),
    /// To [`SyncGroup`].
    Sync(Result<Synced, GroupError>),
    /// To [`Heartbeat`].
    Heartbeat(Result<(), GroupError>),
    /// To [`OffsetCommit`]: in the order of the request.
    OffsetCommit(Vec<TopicResult>),
    /// To [`OffsetDelete`]: in the order of the request.
    OffsetDelete(Result<Vec<TopicResult>, GroupError>),
    /// To the deletion of a group.
    DeleteGroup(Result<(), GroupError>),
    /// To the end of a transaction.
    EndTransaction(Result<(), PersistError>),
    /// To [`crate::ConsumerHeartbeat`].
    ConsumerHeartbeat(Result<ConsumerBeat, Refused>),
    /// To [`crate::ShareHeartbeat`].
    ShareHeartbeat(Result<ShareBeat, Refused>),
    /// To a [`crate::ShareStateChange`]; the group's epoch.
    ShareState(Result<i32, GroupError>),
}

/// One protocol (for consumers: assignor) that a member offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// Its name.
    pub name: String,
    /// What the leader gets to see of the member under it.
    pub metadata: Bytes,
}

/// A member wants to take part in the next generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroup {
    /// The group.
    pub group_id: String,
    /// The member's id, empty on the first join.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// Milliseconds without a heartbeat after which the member is gone.
    pub session_timeout_ms: i32,
    /// Milliseconds that the others wait for this member to join again; negative (version 0): the
    /// session timeout.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, …
    pub protocol_type: String,
    /// The protocols offered, best first.
    pub protocols: Vec<Protocol>,
    /// Why the member joins (KIP-800), shown to operators.
    pub reason: Option<String>,
    /// Version 4 on (KIP-394): a new dynamic member is told its id and must come back with it.
    pub require_known_member_id: bool,
    /// Version 9 on (KIP-814): a returning static leader can be told to skip the assignment.
    pub supports_skipping_assignment: bool,
    /// Randomness for the member id, should one be needed.
    pub member_uuid: Uuid,
}

/// A generation has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The member's id.
    pub member_id: String,
    /// The generation.
    pub generation_id: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol chosen.
    pub protocol_name: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// All members, for the leader; empty for the others.
    pub members: Vec<JoinedMember>,
    /// The leader keeps the assignment as it is (KIP-814).
    pub skip_assignment: bool,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<String>,
    /// Its metadata for the protocol chosen.
    pub metadata: Bytes,
}

/// A join that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// The id to come back with after [`GroupError::MemberIdRequired`], else the request's own.
    pub member_id: String,
}

/// A member asks for its assignment; the leader brings everyone's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroup {
    /// The group.
    pub group_id: String,
    /// The member.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<String>,
    /// The generation from the join.
    pub generation_id: i32,
    /// The protocol type (version 5 on).
    pub protocol_type: Option<String>,
    /// The protocol (version 5 on).
    pub protocol_name: Option<String>,
    /// Member id and assignment of each member, from the leader.
    pub assignments: Vec<(String, Bytes)>,
}

/// An assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol chosen.
    pub protocol_name: Option<String>,
    /// The member's part.
    pub assignment: Bytes,
}

/// A member is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The group.
    pub group_id: String,
    /// The member.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<String>,
    /// The generation the member is in.
    pub generation_id: i32,
}

/// Members go (several at once since version 3, by member id or by `group.instance.id`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveGroup {
    /// The group.
    pub group_id: String,
    /// Who goes.
    pub members: Vec<LeavingMember>,
}

/// A member that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id; empty: found by its `group_instance_id`.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<String>,
    /// Why it goes (KIP-800), shown to operators.
    pub reason: Option<String>,
}

/// The outcome for one leaving member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    /// As in the request.
    pub member_id: String,
    /// As in the request.
    pub group_instance_id: Option<String>,
    /// Why it could not be removed.
    pub error: Option<GroupError>,
}

/// Offsets to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The group; may be empty for simple consumers.
    pub group_id: String,
    /// The member, empty for simple consumers.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<String>,
    /// The generation, -1 for simple consumers and admin clients.
    pub generation_id: i32,
    /// Milliseconds to keep the offsets (versions 2 to 4); `None`: retention decides.
    pub retention_ms: Option<i64>,
    /// Version 9 on knows [`GroupError::GroupIdNotFound`]; older ones are told
    /// [`GroupError::IllegalGeneration`]. Only these have member epochs, too (KIP-848).
    pub knows_member_epochs: bool,
    /// The offsets.
    pub topics: Vec<CommitTopic>,
}

/// Offsets of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitTopic {
    /// The topic's name.
    pub topic: String,
    /// The topic's id, nil when unknown.
    pub topic_id: Uuid,
    /// The offsets.
    pub partitions: Vec<CommitPartition>,
}

/// The offset of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 when unknown.
    pub leader_epoch: i32,
    /// The client's free text.
    pub metadata: String,
}

/// Outcomes for the partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicResult {
    /// The topic's name.
    pub topic: String,
    /// The topic's id as in the request, nil when it had none.
    pub topic_id: Uuid,
    /// Partition and error, in the order of the request.
    pub partitions: Vec<(i32, Option<GroupError>)>,
}

/// Offsets to forget (KIP-496).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetDelete {
    /// The group.
    pub group_id: String,
    /// Topic and partitions.
    pub topics: Vec<(String, Vec<i32>)>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset, -1 when none is committed.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 when unknown.
    pub leader_epoch: i32,
    /// The client's free text.
    pub metadata: String,
    /// A transaction that is still open has committed an offset of this partition (KIP-447): the
    /// one that counts is not known. Only when stable offsets were asked for.
    pub unstable: bool,
}

impl FetchedOffset {
    pub(crate) fn none(topic: &str, partition: i32) -> Self {
        let metadata = String::new();
        Self {
            topic: topic.into(),
            partition,
            offset: -1,
            leader_epoch: -1,
            metadata,
            unstable: false,
        }
    }

    pub(crate) fn unstable(topic: &str, partition: i32) -> Self {
        Self {
            unstable: true,
            ..Self::none(topic, partition)
        }
    }
}

/// The protocol a group speaks (KIP-848's `group.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GroupType {
    /// JoinGroup and SyncGroup; also groups that only store offsets.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848).
    Consumer,
    /// ShareGroupHeartbeat (KIP-932).
    Share,
}

impl GroupType {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
        }
    }
}

/// One line of ListGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The group.
    pub group_id: Arc<str>,
    /// Its protocol type, empty for groups that only store offsets.
    pub protocol_type: String,
    /// Its state.
    pub state: GroupState,
    /// Its type.
    pub group_type: GroupType,
}

/// A group as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its state.
    pub state: GroupState,
    /// Its protocol type, empty for groups that only store offsets.
    pub protocol_type: String,
    /// The protocol chosen; empty unless the group is stable.
    pub protocol: String,
    /// The generation.
    pub generation_id: i32,
    /// The leader, when there are members.
    pub leader: Option<Arc<str>>,
    /// Why the last rebalance began, for operators.
    pub rebalance_reason: Option<String>,
    /// Its members.
    pub members: Vec<MemberDescription>,
}

/// A member as DescribeGroups shows it. Metadata and assignment are empty unless the group is
/// stable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// Its metadata for the protocol chosen.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}
