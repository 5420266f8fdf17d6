//! What can be wrong with record bytes, and how a broker should speak about it.

use super::Compression;

/// Why bytes are not a valid batch, message or record, or cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Fewer bytes are there than the structure needs.
    #[error("{what} needs {needed} bytes, {available} are there")]
    Truncated {
        /// The structure that was being read.
        what: &'static str,
        /// Bytes that it needs at least.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// The magic byte names a format that is not a record batch v2 (for example a Kafka message
    /// set of magic 0 or 1, which Kafka 4 dropped: KIP-724).
    #[error("record format with magic {0} is not supported, only record batches with magic 2 are")]
    UnsupportedMagic(i8),
    /// A length, count or size field has a value that its structure forbids.
    #[error("{field} is {value}, allowed is {allowed}")]
    BadField {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
        /// What would be allowed.
        allowed: &'static str,
    },
    /// A variable-length integer does not end within the bytes its type may have, or its value
    /// does not fit the type.
    #[error("variable-length integer {0}")]
    Varint(&'static str),
    /// The stored CRC32C is not that of the bytes.
    #[error("CRC32C is {actual:#010x}, the stored one is {stored:#010x}")]
    CrcMismatch {
        /// CRC that the header claims.
        stored: u32,
        /// CRC of the bytes.
        actual: u32,
    },
    /// The attributes name a codec that does not exist.
    #[error("compression codec {0} does not exist")]
    UnknownCompression(u8),
    /// A codec's name is not known.
    #[error("compression \"{0}\" does not exist (none, gzip, snappy, lz4 and zstd do)")]
    UnknownCompressionName(String),
    /// A codec does not have this compression level.
    #[error("{codec} has no compression level {level} (it has {min} to {max})")]
    BadLevel {
        /// The codec.
        codec: Compression,
        /// The level asked for.
        level: i32,
        /// The lowest level of the codec.
        min: i32,
        /// The highest level of the codec.
        max: i32,
    },
    /// Compressed bytes cannot be decompressed.
    #[error("{codec} data is damaged: {reason}")]
    Decompress {
        /// The codec.
        codec: Compression,
        /// What its decoder said.
        reason: String,
    },
    /// Compressed bytes would become more than the limit given by the caller.
    #[error("{codec} data decompresses to more than the allowed {limit_bytes} bytes")]
    DecompressedTooLarge {
        /// The codec.
        codec: Compression,
        /// The limit that was exceeded.
        limit_bytes: usize,
    },
    /// The compressor failed.
    #[error("cannot compress with {codec}: {reason}")]
    Compress {
        /// The codec.
        codec: Compression,
        /// What its encoder said.
        reason: String,
    },
    /// A record is larger than a batch can hold, or would make the batch too large (a batch holds
    /// at most 2³¹−1 bytes).
    #[error("the batch would have {bytes} bytes, more than a batch can hold")]
    TooLarge {
        /// The size that was reached.
        bytes: u64,
    },
    /// A record inside the batch is malformed.
    #[error("record {index} of the batch: {reason}")]
    BadRecord {
        /// Position in the batch, from 0.
        index: i32,
        /// What is wrong.
        reason: String,
    },
    /// The records and the header of a batch contradict each other.
    #[error("the batch contradicts itself: {0}")]
    Inconsistent(String),
    /// The batch is well formed, but a producer may not send it.
    #[error("a producer may not send this batch: {0}")]
    NotAllowed(String),
    /// A record's timestamp is outside the accepted range, or its type is not a producer's to set.
    #[error("record {index} of the batch: {reason}")]
    BadTimestamp {
        /// Position in the batch, from 0.
        index: i32,
        /// What is wrong.
        reason: String,
    },
    /// The bytes are neither a message v1 nor a record batch v2.
    #[error("the bytes are neither a message v1 nor a record batch v2")]
    UnknownFormat,
    /// The bytes could be a message v1 as well as a record batch v2, and no CRC decides it.
    #[error("the bytes could be a message v1 or a record batch v2 and no CRC decides it")]
    AmbiguousFormat,
}

/// What kind of fault an error is; a broker maps it to one protocol error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The bytes are damaged (Kafka: `CORRUPT_MESSAGE`).
    Corrupt,
    /// The bytes are intact, their content breaks a rule (Kafka: `INVALID_RECORD`).
    Invalid,
    /// A timestamp breaks a rule (Kafka: `INVALID_TIMESTAMP`).
    Timestamp,
    /// The format is one that is not served (Kafka: `UNSUPPORTED_FOR_MESSAGE_FORMAT`).
    Unsupported,
    /// The codec is not known (Kafka: `UNSUPPORTED_COMPRESSION_TYPE`).
    Compression,
    /// Too large for a batch or for a limit (Kafka: `MESSAGE_TOO_LARGE`).
    TooLarge,
}

impl RecordError {
    /// The kind of fault that this error reports.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Truncated { .. }
            | Self::BadField { .. }
            | Self::CrcMismatch { .. }
            | Self::Decompress { .. }
            | Self::UnknownFormat
            | Self::AmbiguousFormat => Fault::Corrupt,
            Self::Varint(_)
            | Self::BadRecord { .. }
            | Self::Inconsistent(_)
            | Self::NotAllowed(_)
            | Self::BadLevel { .. }
            | Self::Compress { .. } => Fault::Invalid,
            Self::BadTimestamp { .. } => Fault::Timestamp,
            Self::UnsupportedMagic(_) => Fault::Unsupported,
            Self::UnknownCompression(_) | Self::UnknownCompressionName(_) => Fault::Compression,
            Self::DecompressedTooLarge { .. } | Self::TooLarge { .. } => Fault::TooLarge,
        }
    }
}
