//! The bytes of `__consumer_offsets`, exactly as Kafka 4.x's `GroupCoordinatorRecordSerde` writes
//! and reads them, and the part of the consumer's own subscription that the coordinator looks at.
//!
//! A key is an `i16` that names the record type, then the key's fields; a value is an `i16`
//! version, then the value's fields; a tombstone has no value.
//!
//! | key | record | value versions |
//! |---|---|---|
//! | 0, 1 | an offset commit: group, topic, partition | 0–4 |
//! | 2 | a group of the classic protocol: group | 0–4 |
//! | 3 and more | KIP-848, share and streams groups | not read here |
//!
//! What is written: offset commits as version 4, or 1 when they carry their own expiry time; groups
//! as version 3. These are the versions that Kafka 4.3 writes.

mod group;
mod key;
mod offset;
mod subscription;

pub use group::{GroupMetadataValue, StoredMember};
pub use key::RecordKey;
pub use offset::OffsetCommitValue;
pub use subscription::{CONSUMER_PROTOCOL_TYPE, subscribed_topics};
