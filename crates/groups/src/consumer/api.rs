//! Requests to, answers from and pictures of consumer groups of the new protocol (KIP-848).

use std::sync::Arc;

use uuid::Uuid;

use crate::config::ConsumerSettings;
use crate::group::GroupState;
use crate::modern::Assignment;

/// Epoch of a member that joins.
pub const JOIN_EPOCH: i32 = 0;
/// Epoch of a member that leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// Epoch of a static member that leaves and will come back.
pub const STATIC_LEAVE_EPOCH: i32 = -2;

/// A member joins, is alive, reports what it has, or leaves: ConsumerGroupHeartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    /// The group.
    pub group_id: String,
    /// The member's id, which it made itself; in version 0 it may be empty in the first request.
    pub member_id: String,
    /// The member's epoch, or one of [`JOIN_EPOCH`], [`LEAVE_EPOCH`], [`STATIC_LEAVE_EPOCH`].
    pub member_epoch: i32,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client's rack; `None`: as before.
    pub rack_id: Option<String>,
    /// Milliseconds that the member may take to give partitions back; -1: as before.
    pub rebalance_timeout_ms: i32,
    /// Topics asked for by name; `None`: as before.
    pub topic_names: Option<Vec<String>>,
    /// Topics asked for by a regular expression, empty for none; `None`: as before.
    pub topic_regex: Option<String>,
    /// The assignor preferred; `None`: as before.
    pub server_assignor: Option<String>,
    /// What the member has; `None`: as before.
    pub owned: Option<Assignment>,
    /// The client's name for itself.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// Version 1 on (KIP-1082): the member brings its own id.
    pub requires_member_id: bool,
    /// Randomness for the member id, should one be needed.
    pub member_uuid: Uuid,
    /// The group's settings.
    pub settings: ConsumerSettings,
}

/// What a member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerBeat {
    /// The member's id.
    pub member_id: String,
    /// Its epoch from now on.
    pub member_epoch: i32,
    /// When it shall come again, in ms.
    pub heartbeat_interval_ms: i32,
    /// What it may read; `None`: as before.
    pub assignment: Option<Assignment>,
}

/// A group as ConsumerGroupDescribe shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// Its state.
    pub state: GroupState,
    /// Its epoch.
    pub group_epoch: i32,
    /// The epoch of its target assignment.
    pub assignment_epoch: i32,
    /// The assignor in use.
    pub assignor: &'static str,
    /// Its members.
    pub members: Vec<ConsumerMemberDescription>,
}

/// Partitions of a topic for people: its id, its name as long as it exists, the partitions.
pub type NamedTopic = (Uuid, Arc<str>, Vec<i32>);

/// A member as ConsumerGroupDescribe shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// Its rack.
    pub rack_id: Option<Arc<str>>,
    /// Its epoch.
    pub member_epoch: i32,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// The client's address.
    pub client_host: Arc<str>,
    /// The topics asked for by name.
    pub topic_names: Vec<Arc<str>>,
    /// The topics asked for by a regular expression.
    pub topic_regex: Option<Arc<str>>,
    /// What it has.
    pub assigned: Vec<NamedTopic>,
    /// What it shall have.
    pub target: Vec<NamedTopic>,
    /// Whether it speaks the classic protocol.
    pub is_classic: bool,
}
