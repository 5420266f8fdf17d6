//! The state of the cluster: topics, partitions, brokers, settings and producer ids.
//!
//! * [`record`]: what can happen ([`MetadataRecord`]), with a versioned encoding.
//! * [`image`]: what is the case ([`MetadataImage`]), a pure function of the records so far. Images
//!   are immutable once published; readers hold an `Arc` and never wait for a writer.
//! * [`configs`]: every topic and broker setting with type, default, validation and documentation.
//! * [`local`]: the thin shell for a single node ([`LocalMetadataLog`]): records go to a
//!   [`dlog_storage::Log`] and are durable before the new image is published.
//!
//! Invariants: an image changes only by [`MetadataImage::apply`]; the records of one change are
//! applied together or not at all, in memory and on disk.

pub mod configs;
pub mod image;
pub mod local;
pub mod record;

pub use image::{BrokerImage, MetadataError, MetadataImage, PartitionImage, TopicImage};
pub use local::{ChangeError, LocalMetadataLog};
pub use record::{ConfigResource, Endpoint, MetadataRecord};
