//! Requests to, answers from and pictures of share groups (KIP-932).

use std::sync::Arc;

use uuid::Uuid;

use crate::config::ShareSettings;
use crate::consumer::NamedTopic;
use crate::group::GroupState;
use crate::modern::{Assignment, Part};

/// A member joins, is alive or leaves: ShareGroupHeartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareHeartbeat {
    /// The group.
    pub group_id: String,
    /// The member's id, which it made itself.
    pub member_id: String,
    /// The member's epoch; 0 joins, -1 leaves.
    pub member_epoch: i32,
    /// The client's rack; `None`: as before.
    pub rack_id: Option<String>,
    /// Topics asked for; `None`: as before.
    pub topic_names: Option<Vec<String>>,
    /// The client's name for itself.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// The group's settings.
    pub settings: ShareSettings,
}

/// What a member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareBeat {
    /// The member's id.
    pub member_id: String,
    /// Its epoch from now on.
    pub member_epoch: i32,
    /// When it shall come again, in ms.
    pub heartbeat_interval_ms: i32,
    /// What it may fetch; `None`: as before.
    pub assignment: Option<Assignment>,
    /// What has to be set up before it can be assigned.
    pub to_initialize: ToInitialize,
}

/// Share-partitions whose state has to be set up, each with its start offset (-1: where the group's
/// settings say).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToInitialize {
    /// The epoch that their state gets.
    pub state_epoch: i32,
    /// The partitions.
    pub parts: Vec<(Part, i64)>,
}

/// A group as ShareGroupDescribe shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareDescription {
    /// Its state.
    pub state: GroupState,
    /// Its epoch.
    pub group_epoch: i32,
    /// The epoch of its target assignment.
    pub assignment_epoch: i32,
    /// Its members.
    pub members: Vec<ShareMemberDescription>,
}

/// A member as ShareGroupDescribe shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareMemberDescription {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its rack.
    pub rack_id: Option<Arc<str>>,
    /// Its epoch.
    pub member_epoch: i32,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// The client's address.
    pub client_host: Arc<str>,
    /// The topics asked for.
    pub topic_names: Vec<Arc<str>>,
    /// What it has.
    pub assigned: Vec<NamedTopic>,
}

/// A step in the life of the state of share-partitions, as the group keeps book of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareStateChange {
    /// It is about to be set up. The group is made when there is none; nobody may be in it.
    Initializing(Vec<Part>),
    /// It was set up.
    Initialized(Vec<Part>),
    /// It could not be set up: try again with the next heartbeat.
    NotInitialized(Vec<Part>),
    /// It is about to be deleted. Nobody may be in the group.
    Deleting(Vec<Uuid>),
    /// It was deleted.
    Deleted(Vec<Uuid>),
}
