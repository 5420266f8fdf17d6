//! What can go wrong between a client and a broker, with the way out.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;

use dlog_storage::record::RecordError;

/// Result of a client operation.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// Why a client operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No broker of the list could be reached.
    #[error("cannot reach {address}: {reason} (is the broker running, and is the address right?)")]
    Unreachable {
        /// The address, or the list of them.
        address: String,
        /// The last reason.
        reason: String,
    },
    /// The connection ended while an answer was awaited.
    #[error("the connection to {address} ended: {reason}")]
    Disconnected {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The broker did not answer in time.
    #[error("{address} did not answer {api:?} within {timeout_ms} ms")]
    Timeout {
        /// The address.
        address: String,
        /// The request.
        api: ApiKey,
        /// How long was waited.
        timeout_ms: u64,
    },
    /// The broker serves no version of a request that this client speaks.
    #[error("{address} does not serve a version of {api:?} that this client speaks")]
    Unsupported {
        /// The address.
        address: String,
        /// The request.
        api: ApiKey,
    },
    /// The broker refused.
    #[error("{what}: {} ({code}){}", name(*code), detail(message.as_deref()))]
    Refused {
        /// What was asked, with its topic and partition.
        what: String,
        /// Kafka's error code.
        code: i16,
        /// The broker's own words.
        message: Option<String>,
    },
    /// Bytes that are not what the protocol says.
    #[error("{address} sent an answer to {api:?} that cannot be read: {reason}")]
    Malformed {
        /// The address.
        address: String,
        /// The request.
        api: ApiKey,
        /// What is wrong.
        reason: String,
    },
    /// A record batch that is damaged.
    #[error("{topic}-{partition} at offset {offset}: {source}")]
    Record {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset asked for.
        offset: i64,
        /// What is wrong.
        source: RecordError,
    },
    /// An answer that leaves out what was asked for.
    #[error("{what}: the broker's answer leaves it out")]
    Incomplete {
        /// What was asked.
        what: String,
    },
    /// Records were sent and given up; whether they were written is not known.
    #[error("{what}: given up, and it is not known whether the records were written: {source}")]
    Uncertain {
        /// What was asked.
        what: String,
        /// The last reason.
        source: Box<ClientError>,
    },
    /// The caller asked for something impossible.
    #[error("{0}")]
    Usage(String),
}

impl ClientError {
    /// The broker's error for `what`, if `code` is one.
    ///
    /// # Errors
    /// [`ClientError::Refused`] unless `code` is 0.
    pub fn check(code: i16, what: impl FnOnce() -> String, message: Option<&str>) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        Err(Self::Refused {
            what: what(),
            code,
            message: message.map(str::to_owned),
        })
    }

    /// Kafka's error, when the broker refused.
    pub fn response_error(&self) -> Option<ResponseError> {
        match self {
            Self::Refused { code, .. } => ResponseError::try_from_code(*code),
            Self::Uncertain { source, .. } => source.response_error(),
            _ => None,
        }
    }

    /// Whether trying again, after a look at the metadata, may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Disconnected { .. } | Self::Timeout { .. } | Self::Unreachable { .. } => true,
            Self::Uncertain { .. } => false,
            _ => self
                .response_error()
                .is_some_and(|error| error.is_retriable()),
        }
    }
}

fn name(code: i16) -> String {
    match ResponseError::try_from_code(code) {
        Some(error) => format!("{error:?}"),
        None => "unknown error".to_owned(),
    }
}

fn detail(message: Option<&str>) -> String {
    message
        .filter(|text| !text.is_empty())
        .map(|text| format!(": {text}"))
        .unwrap_or_default()
}
