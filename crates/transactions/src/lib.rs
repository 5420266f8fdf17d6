//! The transaction coordinator as a pure state machine: no I/O, no clock, no wire format. The one
//! job: decide who the producer of a transactional id is, which partitions its transaction has,
//! how it ends, and which records make that last.
//!
//! A [`TransactionCoordinator`] holds the transactional ids of one partition of
//! `__transaction_state` (the one that [`partition_for_transactional_id`] names). A thin shell
//! drives it:
//!
//! - requests come in with the time (Unix ms) and a [`Token`]; what is to be done comes out as
//!   [`Effect`]s;
//! - [`Effect::Reply`] answers the request of that token, exactly once;
//! - [`Effect::Persist`] is appended to the log, in order, and its end is reported with
//!   [`TransactionCoordinator::persisted`]; answers that depend on it come only then;
//! - [`Effect::WriteMarkers`] is the work list of a transaction whose end is decided; what became
//!   of it is reported with [`TransactionCoordinator::markers_written`];
//! - [`Effect::NeedProducerIds`] asks for fresh producer ids;
//! - [`TransactionCoordinator::tick`] is called when
//!   [`TransactionCoordinator::next_deadline_ms`] has come.
//!
//! The records are Kafka's own ([`codec`]), and a new coordinator is made of them:
//! [`TransactionCoordinator::apply_record`] for each, then
//! [`TransactionCoordinator::finish_loading`], which goes on with whatever was decided.
//!
//! # A transaction
//!
//! ```text
//!    producer                    coordinator                   log        partitions
//!    |-- InitProducerId ------------->|  -- Persist Empty ------>|             |
//!    |<- producer 7, epoch 0 ---------|                          |             |
//!    |-- AddPartitionsToTxn --------->|  -- Persist Ongoing ---->|             |
//!    |<- done ------------------------|                          |             |
//!    |-- EndTxn (commit) ------------>|  -- PrepareCommit ------>|             |
//!    |<- producer 7, epoch 1 ---------|  -- WriteMarkers ------------------->  |
//!    |                                |  <-- markers_written ----------------- |
//!    |                                |  -- CompleteCommit ----->|             |
//! ```
//!
//! # Invariants
//!
//! - A transactional id has at most one change on its way to the log; whoever asks for another
//!   meanwhile is told CONCURRENT_TRANSACTIONS.
//! - The state in memory is the last one that was reported durable. Only a fencing of protocol
//!   version 1 counts before: its epoch is refused from the moment it is decided.
//! - Markers are asked for only after PrepareCommit or PrepareAbort was reported durable. From then
//!   on the transaction ends that way and no other, in this coordinator and in every later one.
//! - An epoch that was handed out grows with every new producer, with every transaction of version
//!   2 and with every abort by timeout; an older one changes nothing any more.
//! - Everything from outside is bounded before it is kept: [`TransactionConfig`] has the limits.

mod api;
pub mod codec;
mod config;
mod coordinator;
mod error;
mod metadata;
mod step;

pub use api::*;
pub use config::TransactionConfig;
pub use coordinator::{Applied, TransactionCoordinator, Work};
pub use dlog_coordination::partition_for_name as partition_for_transactional_id;
pub use error::{CodecError, PersistError, TransactionError};
pub use metadata::{TransactionState, TransactionVersion};
