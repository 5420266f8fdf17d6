//! A small Kafka client for DistributedLog's commands and tests. It speaks the protocol only, so it
//! works against any Kafka broker.
//!
//! * [`Client`]: the cluster, its metadata, and administration.
//! * [`Producer`], [`Consumer`]: of one topic each; keys land on the partition that Java's client picks.
//! * [`Connection`]: requests and answers to one broker, for what the above do not cover.

mod admin;
mod cluster;
mod connection;
mod consumer;
mod coordinator;
mod error;
mod groups;
pub mod partitioner;
mod producer;
mod shape;
mod transactions;

pub use admin::Setting;
pub use cluster::{BrokerInfo, Client, ClientConfig, ClusterInfo, PartitionInfo, TopicInfo};
pub use connection::{Connection, MAX_ANSWER_BYTES, Prepared};
pub use consumer::{Consumer, ConsumerConfig, Fetched, Position};
pub use coordinator::CoordinatorKind;
pub use error::{ClientError, Result};
pub use groups::{
    CommittedOffset, CommittedOffsets, GroupInfo, GroupMember, ListedGroup, Partitions,
};
pub use producer::{Delivered, Outgoing, Producer, ProducerConfig};
pub use transactions::{ActiveProducer, ListedTransaction, TransactionFilter, TransactionInfo};
