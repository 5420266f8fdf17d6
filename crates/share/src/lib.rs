//! Share groups (KIP-932) as pure state machines: no I/O, no clock, no wire format. The one job:
//! decide who gets which record, for how long, how often, and what of it must last.
//!
//! - [`SharePartition`] is one partition as one group sees it: which offsets are available,
//!   acquired, on their way to an end, or done with. *No record is acquired by two members at once;
//!   what was accepted, and stored as such, is never handed out again; nothing is handed out more
//!   often than the limit says; nothing is lost.*
//! - [`StateCoordinator`] keeps what lasts of the share-partitions of one partition of
//!   `__share_group_state`, in Kafka's format ([`codec`]). *State and leader epochs fence; an answer
//!   comes after the record it depends on is stored.*
//! - [`ShareSessions`] are the share sessions of a broker (KIP-932, "share sessions").
//!
//! Time is an argument (Unix ms). Members are named by the id that they chose.

pub mod codec;
mod partition;
mod session;
mod state;

pub use partition::{
    AcknowledgeError, AcknowledgeKind, AcknowledgementBatch, Acquire, AcquireMode, Acquired,
    LoadError, ShareLimits, SharePartition, Span, StateWrite, check_acknowledgements,
};
pub use session::{FetchStep, ReleasedSession, SessionError, SessionKey, ShareSessions};
pub use state::{
    Applied, Delivered, DeliveryState, Effect, PartitionState, Reply, ShareKey, StateBatch,
    StateConfig, StateCoordinator, StateError, Summary, combine, state_partition,
};
