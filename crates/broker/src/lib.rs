//! The Kafka-protocol server: connections, one module per API, the partition registry.
//!
//! * [`net`]: listeners, framing, the loop of a connection, responses with `sendfile`.
//! * [`protocol`]: which APIs and versions are served, and the shape check that every request passes
//!   before it is decoded.
//! * [`api`]: one file per API; a handler is a function from a typed request to a typed response.
//! * [`partitions`]: the partitions this node hosts, found without a lock, and what is done to them in
//!   the background.
//! * [`coordinator`]: the shell around the state machines of groups and transactions.
//! * [`compaction`]: the threads that compact.
//! * [`topics`]: topics are created, grown and deleted here, for every API that does so.
//!
//! Invariants: nothing that waits for a disk runs on a tokio worker (an append is one write into the
//! page cache); record bytes are slices of the receive buffer on the way in and file ranges on the
//! way out; responses leave a connection in the order of its requests.

pub mod api;
pub mod broker;
pub mod compaction;
pub mod config;
pub mod coordinator;
pub mod error;
pub mod groups;
pub mod guard;
mod histogram;
pub mod identity;
pub mod loggers;
pub mod metrics;
pub mod net;
pub mod partitions;
pub mod producer_ids;
pub mod protocol;
pub mod share;
pub mod state;
pub mod topics;
pub mod transactions;

pub use broker::Broker;
pub use config::{BrokerConfig, ListenerConfig};
pub use error::{BrokerError, Result};
pub use state::BrokerState;
