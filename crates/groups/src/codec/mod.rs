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
//! | 3, 5 to 8, 16 | a consumer group of the new protocol (KIP-848), its members, its target and current assignment, what its regular expressions matched | 0 |
//! | 4 | topics of a consumer group: read and removed, written only before Kafka 4.1 | 0 |
//! | 10 to 15 | share groups (KIP-932) | keys only |
//! | 17 and more | streams groups | not read here |
//!
//! What is written: offset commits as version 4, or 1 when they carry their own expiry time; groups
//! as version 3. These are the versions that Kafka 4.3 writes.

mod group;
mod key;
mod modern;
mod offset;
mod share;
mod subscription;

pub use group::{GroupMetadataValue, StoredMember};
pub use key::{RecordKey, kind};
pub use modern::{
    ClassicMemberValue, CurrentValue, GroupEpochValue, HeldPartitions, MemberValue, RegexValue,
    TargetEpochValue, TargetMemberValue, TopicPartitions,
};
pub use offset::OffsetCommitValue;
pub use share::{
    ShareCurrentValue, ShareEpochValue, ShareMemberValue, SharePartitionsOf,
    ShareStatePartitionsValue,
};
pub use subscription::{
    CONSUMER_PROTOCOL_TYPE, NamedPartitions, Subscription, assigned_partitions, assignment_of,
    subscribed_topics,
};
