//! Consumer groups of the classic and of the new protocol (KIP-848) as a pure state machine: no I/O, no clock, no wire
//! format. The one job: decide who is in a group, which generation it is in, who gets which answer
//! when, and which records make that last.
//!
//! A [`GroupCoordinator`] holds the groups of one partition of `__consumer_offsets` (the one that
//! [`partition_for_group`] names). A thin shell drives it:
//!
//! - requests come in with the time (Unix ms) and, where the answer may have to wait, a
//!   [`Token`]; what is to be done comes out as [`Effect`]s;
//! - [`Effect::Reply`] answers the request of that token, exactly once;
//! - [`Effect::Persist`] is appended to the log, in order, and its end is reported with
//!   [`GroupCoordinator::persisted`]; answers that depend on it come only then;
//! - [`GroupCoordinator::tick`] is called when [`GroupCoordinator::next_deadline_ms`] has come.
//!
//! The records are Kafka's own ([`codec`]), so its tools read the log, and a new coordinator is made
//! of it: [`GroupCoordinator::apply_record`] for each record, then
//! [`GroupCoordinator::finish_loading`].
//!
//! # A rebalance of the classic protocol
//!
//! ```text
//!    A (leader)                  coordinator                   log             B
//!    |-- JoinGroup "" ---------------->|                        |              |
//!    |<- MEMBER_ID_REQUIRED, A --------|  Empty                 |              |
//!    |-- JoinGroup A ----------------->|  PreparingRebalance    |              |
//!    |                                 |<------------------ JoinGroup "" ------|
//!    |                                 |----- MEMBER_ID_REQUIRED, B ---------->|
//!    |                                 |<------------------ JoinGroup B -------|
//!    |                     (initial delay, or all members are here)            |
//!    |<- generation 1, members A, B ---|  CompletingRebalance   |              |
//!    |                                 |----- generation 1, leader A --------->|
//!    |                                 |<------------------ SyncGroup ---------|
//!    |-- SyncGroup, assignments ------>|                        |              |
//!    |                                 |-- Persist group ------>|              |
//!    |                                 |<- persisted -----------|              |
//!    |<- assignment of A --------------|  Stable                |              |
//!    |                                 |----- assignment of B ---------------->|
//!    |-- Heartbeat ------------------->|                        |              |
//! ```
//!
//! A member that joins, leaves or falls silent starts the next one: heartbeats then answer
//! REBALANCE_IN_PROGRESS, and everyone has until the rebalance timeout to join again. The answer to a heartbeat
//! may have waited for that ([`GroupCoordinator::hold_heartbeat`]).
//! `tests/two_members.rs` plays this through.
//!
//! # Invariants
//!
//! - A group is in one state and one generation; a generation begins only with all its members
//!   present (or static), and under one protocol that all of them offer.
//! - The leader is a member. Assignments are handed out only after they are in the log.
//! - A token is answered exactly once. A member that is removed hears of it in every request that
//!   it has waiting.
//! - An offset is readable only after it is in the log; of several writes the one later in the log
//!   wins, in whatever order their ends are reported.
//! - What the log says after the last write equals what the coordinator holds, apart from
//!   rebalances under way: those begin anew.
//! - Everything from outside is bounded before it is kept: [`GroupConfig`] has the limits.
//! - Nothing is random here: the UUID in a member id comes with the join
//!   ([`JoinGroup::member_uuid`]). The id is `group.instance.id` or client id, a dash, the UUID.

mod api;
mod classic;
pub mod codec;
mod config;
mod consumer;
mod coordinator;
mod error;
mod group;
mod modern;
mod offsets;
mod share;
mod step;
mod transactional;

pub use api::*;
pub use config::{
    ConsumerConfig, ConsumerSettings, GroupConfig, MigrationPolicy, ShareConfig, ShareSettings,
};
pub use consumer::{
    ConsumerBeat, ConsumerDescription, ConsumerHeartbeat, ConsumerMemberDescription, JOIN_EPOCH,
    LEAVE_EPOCH, NamedTopic, STATIC_LEAVE_EPOCH,
};
pub use coordinator::{Applied, GroupCoordinator};
pub use dlog_coordination::partition_for_name as partition_for_group;
pub use error::{CodecError, GroupError, PersistError};
pub use group::GroupState;
pub use modern::{Assignment, Assignor, Part, Refused, TopicCatalog, TopicInfo};
pub use share::{
    ShareBeat, ShareDescription, ShareHeartbeat, ShareMemberDescription, ShareStateChange,
    ToInitialize,
};
