//! The states a group can be in.

use std::fmt;

/// The state of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// No members; offsets may be stored.
    Empty,
    /// Waiting for the members to join.
    PreparingRebalance,
    /// The members have joined; waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member has, or can ask for, its assignment.
    Stable,
    /// The group is being deleted, or does not exist.
    Dead,
    /// New protocol: the target assignment is older than the group.
    Assigning,
    /// New protocol: members are on their way to the target assignment.
    Reconciling,
}

impl GroupState {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
