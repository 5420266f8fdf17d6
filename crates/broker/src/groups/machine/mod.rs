//! Consumer groups: the classic protocol and committed offsets, as a pure state machine.
//!
//! No I/O and no clock: [`Coordinator`] takes requests with the time, and returns [`Effect`]s that a
//! shell carries out: answers to callers (named by tokens) and records for `__consumer_offsets`, whose
//! format is Kafka's ([`codec`]). What depends on a record being written happens when the shell says
//! that it is ([`Coordinator::persisted`]). Replaying the records ([`Coordinator::apply_record`])
//! rebuilds the state.

pub mod api;
pub mod codec;
mod coordinator;
mod error;
mod group;
mod member;

pub use api::{Effect, GroupConfig, GroupState, Reply, Token};
pub use coordinator::Coordinator;
pub use error::GroupError;
