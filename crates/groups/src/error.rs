//! The protocol errors a client is told, and which of them a failed write becomes.

pub use dlog_coordination::{CodecError, PersistError};
use thiserror::Error;

/// An error of the group protocol. [`GroupError::code`] is its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum GroupError {
    /// Something on the server's side that the client cannot help.
    #[error("the server failed unexpectedly")]
    UnknownServerError,
    /// The free text of a commit exceeds `offset.metadata.max.bytes`.
    #[error("the metadata of the offset is too large")]
    OffsetMetadataTooLarge,
    /// The group's offsets are still being read; try again.
    #[error("the coordinator is loading")]
    CoordinatorLoadInProgress,
    /// The group cannot be served right now; try again.
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    /// Another broker answers for this group.
    #[error("this is not the group's coordinator")]
    NotCoordinator,
    /// The member speaks of a generation that is not the current one.
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    /// The member shares no protocol with the group, or is of another protocol type.
    #[error("the member's protocols do not fit the group's")]
    InconsistentGroupProtocol,
    /// The group id is empty where it must not be, or too long.
    #[error("the group id is not valid")]
    InvalidGroupId,
    /// The group has no such member.
    #[error("the group does not know this member")]
    UnknownMemberId,
    /// The session timeout is outside the configured bounds.
    #[error("the session timeout is out of bounds")]
    InvalidSessionTimeout,
    /// The member must join again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// The commit is too large to be written.
    #[error("the committed offsets are too large to store")]
    InvalidCommitOffsetSize,
    /// A newer epoch of the producer is known.
    #[error("a newer epoch of the producer is known")]
    InvalidProducerEpoch,
    /// The transaction does not contain the group's partition.
    #[error("the group is not part of the transaction")]
    InvalidTxnState,
    /// The request breaks a bound of ours.
    #[error("the request is not valid")]
    InvalidRequest,
    /// No more groups can be taken.
    #[error("the coordinator holds as many groups as it may")]
    PolicyViolation,
    /// Only an empty group can be deleted.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// There is no such group.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// Join again with the member id given (KIP-394).
    #[error("join again with the member id given")]
    MemberIdRequired,
    /// The group has `group.max.size` members.
    #[error("the group is full")]
    GroupMaxSizeReached,
    /// Another process took over this `group.instance.id` (KIP-345).
    #[error("another member took over this group instance id")]
    FencedInstanceId,
    /// Offsets of a topic that the group's members read cannot be deleted (KIP-496).
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// The version of the request is too old for what it wants.
    #[error("the version of the request is too old for this")]
    UnsupportedVersion,
    /// The member must give up its partitions and join again (KIP-848).
    #[error("the member epoch is fenced")]
    FencedMemberEpoch,
    /// Another member still uses this `group.instance.id` (KIP-848).
    #[error("the group instance id is still in use")]
    UnreleasedInstanceId,
    /// The server has no such assignor (KIP-848).
    #[error("the assignor is not supported")]
    UnsupportedAssignor,
    /// The member's epoch is not the current one (KIP-848).
    #[error("the member epoch is stale")]
    StaleMemberEpoch,
    /// The expression cannot be read (KIP-848).
    #[error("the regular expression is not valid")]
    InvalidRegularExpression,
}

impl GroupError {
    /// The error's number in Kafka's protocol.
    pub fn code(self) -> i16 {
        match self {
            Self::UnknownServerError => -1,
            Self::OffsetMetadataTooLarge => 12,
            Self::CoordinatorLoadInProgress => 14,
            Self::CoordinatorNotAvailable => 15,
            Self::NotCoordinator => 16,
            Self::IllegalGeneration => 22,
            Self::InconsistentGroupProtocol => 23,
            Self::InvalidGroupId => 24,
            Self::UnknownMemberId => 25,
            Self::InvalidSessionTimeout => 26,
            Self::RebalanceInProgress => 27,
            Self::InvalidCommitOffsetSize => 28,
            Self::UnsupportedVersion => 35,
            Self::InvalidRequest => 42,
            Self::InvalidProducerEpoch => 47,
            Self::InvalidTxnState => 48,
            Self::PolicyViolation => 44,
            Self::NonEmptyGroup => 68,
            Self::GroupIdNotFound => 69,
            Self::MemberIdRequired => 79,
            Self::GroupMaxSizeReached => 81,
            Self::FencedInstanceId => 82,
            Self::GroupSubscribedToTopic => 86,
            Self::FencedMemberEpoch => 110,
            Self::UnreleasedInstanceId => 111,
            Self::UnsupportedAssignor => 112,
            Self::StaleMemberEpoch => 113,
            Self::InvalidRegularExpression => 128,
        }
    }
}

/// How a failed write is told to those who waited for it.
pub(crate) trait ToGroupError {
    /// What a member is told whose join, sync or deletion depended on the write.
    fn for_group(self) -> GroupError;
    /// What the sender of an offset commit or of a deletion is told.
    fn for_offsets(self) -> GroupError;
}

impl ToGroupError for PersistError {
    fn for_group(self) -> GroupError {
        match self {
            Self::Unavailable => GroupError::CoordinatorNotAvailable,
            Self::NotLeader => GroupError::NotCoordinator,
            Self::TimedOut => GroupError::RebalanceInProgress,
            Self::TooLarge | Self::Failed | Self::ProducerFenced | Self::CoordinatorFenced => {
                GroupError::UnknownServerError
            }
        }
    }

    fn for_offsets(self) -> GroupError {
        match self {
            Self::Unavailable | Self::TimedOut => GroupError::CoordinatorNotAvailable,
            Self::NotLeader => GroupError::NotCoordinator,
            Self::TooLarge => GroupError::InvalidCommitOffsetSize,
            Self::ProducerFenced => GroupError::InvalidProducerEpoch,
            Self::Failed | Self::CoordinatorFenced => GroupError::UnknownServerError,
        }
    }
}
