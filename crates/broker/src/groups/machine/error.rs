//! Errors of the group protocol, each with Kafka's error code.

/// Why a group request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(i16)]
#[allow(missing_docs)]
pub enum GroupError {
    #[error("the metadata field of the offset request was too large")]
    OffsetMetadataTooLarge = 12,
    #[error("the coordinator is loading the group")]
    CoordinatorLoadInProgress = 14,
    #[error("the coordinator cannot write the group's state now")]
    CoordinatorNotAvailable = 15,
    #[error("specified group generation id is not valid")]
    IllegalGeneration = 22,
    #[error("the member's protocols do not fit those of the group")]
    InconsistentGroupProtocol = 23,
    #[error("the group id is not valid")]
    InvalidGroupId = 24,
    #[error("the group does not know this member")]
    UnknownMemberId = 25,
    #[error("the session timeout is outside the range that the server allows")]
    InvalidSessionTimeout = 26,
    #[error("the group is rebalancing, so a rejoin is needed")]
    RebalanceInProgress = 27,
    #[error("the group is not empty")]
    NonEmptyGroup = 68,
    #[error("the group id does not exist")]
    GroupIdNotFound = 69,
    #[error("the member needs a valid member id before it joins")]
    MemberIdRequired = 79,
    #[error("the group has reached its maximum size")]
    GroupMaxSizeReached = 81,
    #[error("the static instance id is used by another member")]
    FencedInstanceId = 82,
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic = 86,
}

impl GroupError {
    /// Kafka's error code.
    pub fn code(self) -> i16 {
        self as i16
    }
}
