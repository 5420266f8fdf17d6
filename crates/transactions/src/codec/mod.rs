//! The bytes of `__transaction_state`, exactly as Kafka 4.4's `TransactionLog` writes and reads
//! them.
//!
//! A key is an `i16` version 0 and the transactional id. A value is an `i16` version, then the
//! fields: version 0 (`transaction.version` 0) in the plain encodings, version 1 in the compact
//! ones with the fields that came later tagged. A tombstone has no value.

mod value;

use bytes::Bytes;
use dlog_coordination::{CodecError, Reader, Writer};

pub use value::{TopicPartitions, TransactionValue};

/// Writes the key of a transactional id. An error means that it is longer than 32,767 bytes.
pub fn encode_key(transactional_id: &str) -> Result<Bytes, CodecError> {
    let mut writer = Writer::with_capacity(4 + transactional_id.len());
    writer.i16(0);
    writer.str(transactional_id, false, "transactional id")?;
    Ok(writer.finish())
}

/// Reads the transactional id from a key, `None` when the key is of another kind of record. Bytes
/// after the id are ignored, as Kafka does.
pub fn decode_key(bytes: &[u8]) -> Result<Option<&str>, CodecError> {
    let mut reader = Reader::new(bytes);
    match reader.i16("key version")? {
        0 => reader.str(false, "transactional id").map(Some),
        version if version < 0 => Err(CodecError::UnknownVersion {
            what: "key",
            version,
        }),
        _ => Ok(None),
    }
}
