//! The front of `ConsumerProtocolSubscription`, the metadata that the members of a group of type
//! `consumer` send: a version and the topics. The rest is the assignor's business.

use dlog_coordination::{CodecError, Reader};

/// The protocol type whose metadata the coordinator can read.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The topics a consumer's subscription names. Later versions only append fields, so any version
/// from 0 on is read.
pub fn subscribed_topics(metadata: &[u8]) -> Result<Vec<&str>, CodecError> {
    let mut reader = Reader::new(metadata);
    let version = reader.i16("subscription version")?;
    if version < 0 {
        return Err(CodecError::UnknownVersion {
            what: "subscription",
            version,
        });
    }
    let count = reader.count(false, 2, "topics")?;
    (0..count).map(|_| reader.str(false, "topic")).collect()
}
