//! What groups with member epochs have in common, consumer groups (KIP-848) and share groups
//! (KIP-932): sets of partitions, the topics as groups see them, epochs and target assignments,
//! assignors, subscriptions, and how state reaches the log.
//!
//! Nothing here knows a protocol. *The record of every key can be made from the state at any time:
//! a step marks the keys it changed ([`StateKey`]), and [`Ledger`] sees to it that nobody is told
//! of a state that is not in the log.*

pub(crate) mod assignor;
mod ledger;
mod parts;
mod pattern;
mod subscriptions;
mod target;
mod topics;

pub use assignor::Assignor;
pub(crate) use ledger::{Ledger, StateKey};
pub use parts::{Assignment, Part};
pub(crate) use parts::{Held, by_topic};
pub(crate) use pattern::{Pattern, Resolved};
pub(crate) use subscriptions::Subscriptions;
pub(crate) use target::Target;
pub(crate) use topics::NoTopics;
pub use topics::{TopicCatalog, TopicInfo};

use crate::error::GroupError;

/// What an epoch that a member sends says about the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EpochCheck {
    /// It is the member's epoch.
    Current,
    /// The member has missed our last answer: what it gets is complete once more.
    Previous,
    /// It must let go of everything and join again; why, in Kafka's words.
    Fenced(&'static str),
}

/// Compares the epoch that a member sends with ours. `owns_no_more` says whether what it reports to
/// own is part of what we gave it.
pub(crate) fn check_epoch(
    sent: i32,
    current: i32,
    previous: i32,
    owns_no_more: impl FnOnce() -> bool,
) -> EpochCheck {
    if sent > current {
        EpochCheck::Fenced("greater")
    } else if sent == current {
        EpochCheck::Current
    } else if sent == previous && owns_no_more() {
        EpochCheck::Previous
    } else {
        EpochCheck::Fenced("smaller")
    }
}

/// Why a request of a member was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The error.
    pub error: GroupError,
    /// The same for humans; `None`: the error says it all.
    pub message: Option<String>,
}

impl Refused {
    pub(crate) fn new(error: GroupError, message: impl Into<String>) -> Self {
        Self {
            error,
            message: Some(message.into()),
        }
    }
}

impl From<GroupError> for Refused {
    fn from(error: GroupError) -> Self {
        Self {
            error,
            message: None,
        }
    }
}
